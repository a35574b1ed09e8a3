"""Results of long computations on disk, one line each, so that hours of work survive whatever stops them.

A result counts only for the very code it was computed with. What is computed is the caller's business: see
`benchmarks.controls` and `levibot_pipelines.certification`.
"""

import os
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from levibot_core.stores.paths import not_writable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class _Line(BaseModel):
    code: str
    record: JsonValue


class KeptResults(Generic[K, V]):
    """The results that a file holds of one state of the code, by what they are results of.

    Args:
        path: The file; made when the first result is added.
        code: Digest of the code; lines of another are ignored and stay where they are.
        kind: Type of a result, as pydantic reads it.
        key: What a result is the result of.
    """

    def __init__(self, path: Path, code: str, kind: Any, key: Callable[[V], K]) -> None:
        self._path, self._code, self._key = path, code, key
        self._adapter: TypeAdapter[V] = TypeAdapter(kind)
        self._found: dict[K, V] = {}
        for text in path.read_text("utf-8").splitlines() if path.exists() else []:
            try:
                line = _Line.model_validate_json(text)
                result = self._adapter.validate_python(line.record) if line.code == code else None
            except ValidationError:  # the last line of a run that was killed while writing it
                continue
            if result is not None:
                self._found[key(result)] = result

    def __contains__(self, key: K) -> bool:
        return key in self._found

    def __getitem__(self, key: K) -> V:
        return self._found[key]

    def add(self, result: V) -> None:
        """Keep a result; it is on the disk when this returns.

        Raises:
            HomeNotWritableError: the file cannot be written.
        """
        line = _Line(code=self._code, record=self._adapter.dump_python(result, mode="json"))
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                # First a line end: a line that was cut short must not swallow this one.
                file.write(b"\n" + line.model_dump_json().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise not_writable(self._path, error) from error
        self._found[self._key(result)] = result
