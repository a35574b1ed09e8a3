"""Scores kept as Parquet files as soon as they are made: what is there is not computed again.

A folder belongs to one way of computing them: its name has a fingerprint of every setting, so that scores of other
settings are never mixed in.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from levibot_core.stores.files import write_atomically


@dataclass(frozen=True, slots=True)
class ForecastFiles:
    """Files of one forecaster, period and horizon.

    Attributes:
        folder: Where they lie; made when the first is kept. None keeps nothing.
    """

    folder: Path | None

    @classmethod
    def of(cls, root: Path | None, case: str, model: str, settings: Mapping[str, Any]) -> "ForecastFiles":
        """The files below `root` of a case and a model, apart from those of other settings."""
        if root is None:
            return cls(None)
        fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]
        return cls(root / case / f"{model}-{fingerprint}")

    def has(self, name: str) -> bool:
        """Whether the frame of that name was kept."""
        return self.folder is not None and self._path(self.folder, name).exists()

    def kept(self, name: str, make: Callable[[], pl.DataFrame]) -> pl.DataFrame:
        """The frame of that name: read where it was kept, else made and kept."""
        if self.folder is None:
            return make()
        path = self._path(self.folder, name)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, make().write_parquet)
        return pl.read_parquet(path)

    @staticmethod
    def _path(folder: Path, name: str) -> Path:
        return folder / f"{name}.parquet"
