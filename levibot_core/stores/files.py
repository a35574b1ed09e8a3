"""Writing a file so that a reader sees the old bytes or the new ones, never half of them; and hashing a file.

Where files lie is decided in `levibot_core.stores.paths`; what is in them, by the stores.
"""

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from levibot_core.stores.paths import not_writable

# Polars and other native writers report a refusal of the operating system as text of this form.
_NATIVE_OS_ERROR = re.compile(r"\(os error (\d+)\)")


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary file beside `path`, then move it into place.

    The temporary file is named `.<name>.<random>.tmp`; it is flushed to the device before it is moved, and removed
    when anything fails. Missing parent folders are made. A process killed in between leaves the old file, and a
    temporary one that readers ignore.

    Args:
        path: Where the file shall stand.
        write: Called once with the path of the temporary file, which exists and is empty.

    Raises:
        HomeNotWritableError: the operating system refused: read-only, no permission, no space left. A file that
            stood at `path` is as it was. Any other exception of `write` passes through, with the same promise.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        write(temporary)
        _flush_to_device(temporary)
        temporary.replace(path)
        _flush_to_device(path.parent)
    except Exception as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        raise not_writable(path, refusal) from error
    finally:
        _discard(temporary)


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Write `content` with `write_atomically`.

    Raises:
        HomeNotWritableError: as `write_atomically`.
    """
    write_atomically(path, lambda temporary: _write_bytes(temporary, content))


def write_text_atomically(path: Path, text: str) -> None:
    """Write `text` as UTF-8 with `write_atomically`; line ends are written as given.

    Raises:
        HomeNotWritableError: as `write_atomically`.
    """
    write_bytes_atomically(path, text.encode("utf-8"))


def write_json_atomically(path: Path, payload: Any) -> None:
    """Write `payload` as JSON that people can read and compare: indented by 2, keys sorted, newline at the end.

    Raises:
        HomeNotWritableError: as `write_atomically`.
        ValueError: the payload holds a NaN or an infinity, for which JSON has no word.
    """
    write_text_atomically(path, json.dumps(payload, indent=2, sort_keys=True, allow_nan=False) + "\n")


def append_json_line(path: Path, record: Any) -> None:
    """Add one line of JSON to an append-only log and flush it to the device; missing parent folders are made.

    Raises:
        HomeNotWritableError: the operating system refused.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as log:
            log.write(json.dumps(record, allow_nan=False) + "\n")
            log.flush()
            os.fsync(log.fileno())
    except OSError as error:
        raise not_writable(path, error) from error


def sha256_of(path: Path) -> str:
    """The SHA-256 of the file's bytes, in lower-case hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _flush_to_device(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _discard(temporary: Path) -> None:
    try:
        temporary.unlink(missing_ok=True)
    except OSError:  # the folder was never made or cannot be written: then there is nothing to discard
        return


def _refusal(error: Exception) -> OSError | None:
    """The operating system's refusal behind `error`, or None when it is something else."""
    if isinstance(error, OSError) and error.errno is not None:
        return error
    native = _NATIVE_OS_ERROR.search(str(error))
    if native is not None:
        return OSError(int(native[1]), os.strerror(int(native[1])))
    return error if isinstance(error, OSError) else None
