"""Training snapshots: features and labels of a window as known at an instant, frozen under an id and a checksum.

A snapshot is a folder that appears whole or not at all; the file `features_latest.json` beside the folders names the
one built last. What is in a snapshot is computed in `training_rows`; building one again from its id is
`snapshot_rebuild`'s work, removing old ones `snapshot_retention`'s, and comparing one with what is known today
`snapshot_audit`'s. Splitting the rows is `levibot_core.validation.split`'s.
"""

import io
import json
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from pydantic import ValidationError

from levibot_core.errors import ConfigurationError, SnapshotError, SnapshotNotFoundError
from levibot_core.features.registry import FeatureSet
from levibot_core.labels.definition import LabelDefinition, TripleBarrierLabel, label_definition, longest_bars
from levibot_core.market.sources.base import SourceIdentity
from levibot_core.market.timeframe import Timeframe
from levibot_core.stores.files import write_atomically, write_json_atomically
from levibot_core.stores.paths import not_writable
from levibot_core.stores.snapshot_manifest import SnapshotManifest, content_checksum
from levibot_core.stores.training_rows import TrainingInputs, TrainingRows, training_rows

_MANIFEST = "snapshot.json"
_ROWS, _CANDLES = "rows.parquet", "candles.parquet"
_POINTER = "features_latest.json"
_CHECKSUM_DIGITS_IN_ID = 12


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot in memory.

    Attributes:
        manifest: What it is.
        rows: `TRAINING_ROWS` and the feature columns in registry order, sorted by symbol and ts; no NaN, no null.
        candles: Candles of the window as known at its end: symbol, ts, open, high, low, close, volume, known_at.
    """

    manifest: SnapshotManifest
    rows: pl.DataFrame
    candles: pl.DataFrame


class SnapshotStore:
    """The snapshots below `root`, one folder per id. Folders whose name starts with a dot are unfinished."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def build(
        self,
        *,
        inputs: TrainingInputs,
        feature_set: FeatureSet,
        timeframe: Timeframe,
        horizon_bars: int,
        source: SourceIdentity,
        market: str,
        as_of_ms: int,
        start_ms: int,
        triple_barrier: TripleBarrierLabel | None = None,
    ) -> SnapshotManifest:
        """Freeze the training rows with open time from `start_ms` on whose label was known at `as_of_ms`.

        When the same content is there already, that snapshot is verified and returned. Either way `latest` is that
        snapshot afterwards; its pointer is moved last.

        Args:
            inputs: Every revision known at `as_of_ms` of every row; bars before `start_ms` serve as warm-up.
            feature_set: Features to compute.
            timeframe: Length of a bar.
            horizon_bars: Horizon of the direction label; of another label, the bars that it looks ahead at most.
            source: Where the data comes from.
            market: `spot` or `perp`.
            as_of_ms: Instant of knowledge, UTC milliseconds.
            start_ms: First open time of the window, UTC milliseconds.
            triple_barrier: The barriers of the label; None labels the direction.

        Raises:
            ConfigurationError: the horizon is not that of the barriers.
            SnapshotError: no row is whole; the message names the columns responsible. Or the same snapshot is there
                already and damaged.
            HomeNotWritableError: the folder cannot be written; nothing of the snapshot is left.
        """
        label = _expect_horizon(horizon_bars, triple_barrier)
        content = training_rows(
            inputs,
            feature_set=feature_set,
            timeframe=timeframe,
            label=label,
            start_ms=start_ms,
            as_of_ms=as_of_ms,
        )
        manifest = SnapshotManifest(
            snapshot_id="",
            created_at=datetime.now(UTC).replace(microsecond=0),
            as_of=_instant(as_of_ms),
            checksum="",
            rows=content.rows.height,
            dropped=content.dropped,
            symbols=tuple(content.rows["symbol"].unique().sort()),
            market=market,
            timeframe=timeframe.name,
            horizon_bars=horizon_bars,
            feature_set=feature_set.version,
            features=feature_set.names,
            features_sha256=feature_set.sha256,
            source=source,
            first_ts=content.rows["ts"].min(),
            last_ts=content.rows["ts"].max(),
            warm_up=feature_set.warm_up,
            window_start=_instant(start_ms),
            inputs=tuple(inputs.candles["symbol"].unique().sort()),
            triple_barrier=triple_barrier,
        )
        kept = self._keep(manifest, content)
        self._point_at(kept.snapshot_id)
        return kept

    def load(self, snapshot_id: str) -> Snapshot:
        """Read a snapshot and prove that its bytes are what its checksum says.

        Raises:
            SnapshotNotFoundError: there is no such snapshot.
            SnapshotError: a file is missing, unreadable or altered.
        """
        folder = self.root / snapshot_id
        manifest = self.manifest(snapshot_id)
        snapshot = Snapshot(manifest, _read(folder / _ROWS), _read(folder / _CANDLES))
        found = content_checksum(manifest, snapshot.rows, snapshot.candles)
        if manifest.checksum != found or manifest.snapshot_id != snapshot_id:
            raise SnapshotError(
                f"Expected snapshot {snapshot_id} to have checksum {manifest.checksum}, was {found}: its files were "
                f"altered after they were written. {_remedy(folder)}"
            )
        return snapshot

    def verify(self, snapshot_id: str) -> SnapshotManifest:
        """Recompute the checksum from the stored rows and candles and return the manifest it agrees with.

        Raises:
            SnapshotNotFoundError: there is no such snapshot.
            SnapshotError: the bytes are not what the manifest says.
        """
        return self.load(snapshot_id).manifest

    def list(self) -> tuple[SnapshotManifest, ...]:
        """Manifests of all snapshots, oldest first.

        Raises:
            SnapshotError: a manifest cannot be understood.
        """
        names = [path.parent.name for path in self.root.glob(f"[!.]*/{_MANIFEST}")]
        return tuple(sorted(map(self.manifest, names), key=lambda found: (found.created_at, found.snapshot_id)))

    def latest(self) -> SnapshotManifest | None:
        """Manifest of the snapshot that was built last; None when none ever was.

        Raises:
            SnapshotNotFoundError: the pointer names a snapshot that is not there.
            SnapshotError: the pointer or the manifest cannot be understood.
        """
        snapshot_id = self._pointed()
        return None if snapshot_id is None else self.manifest(snapshot_id)

    def manifest(self, snapshot_id: str) -> SnapshotManifest:
        """What a snapshot says about itself; its rows are not read.

        Raises:
            SnapshotNotFoundError: there is no such snapshot.
            SnapshotError: its manifest cannot be understood.
        """
        folder = self.root / snapshot_id
        path = folder / _MANIFEST
        if folder.parent != self.root or not path.is_file():
            raise SnapshotNotFoundError(
                f"Expected a snapshot named {snapshot_id!r} in {self.root}, was none. "
                "`levibot features snapshots` lists those there are."
            )
        try:
            return SnapshotManifest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise SnapshotError(
                f"Expected {path} to describe a snapshot, was unreadable ({error.error_count()} fields). "
                f"{_remedy(folder)}"
            ) from error

    def remove(self, snapshot_id: str) -> int:
        """Remove a snapshot, whole at once for whoever looks; return the bytes it took.

        Raises:
            SnapshotNotFoundError: there is no such snapshot.
            HomeNotWritableError: the folder cannot be changed; the snapshot is as it was.
        """
        folder = self.root / self.manifest(snapshot_id).snapshot_id
        size = self.size(snapshot_id)
        leaving = self._hidden(snapshot_id)
        try:
            folder.replace(leaving)
        except OSError as error:
            raise not_writable(folder, error) from error
        shutil.rmtree(leaving, ignore_errors=True)
        return size

    def size(self, snapshot_id: str) -> int:
        """Bytes that a snapshot's files take."""
        return sum(path.stat().st_size for path in (self.root / snapshot_id).iterdir())

    def _hidden(self, snapshot_id: str) -> Path:
        return self.root / f".{snapshot_id}.{secrets.token_hex(4)}.tmp"

    def _pointed(self) -> str | None:
        path = self.root / _POINTER
        if not path.exists():
            return None
        try:
            return str(json.loads(path.read_text("utf-8"))["snapshot_id"])
        except (ValueError, TypeError, KeyError) as error:
            raise SnapshotError(
                f"Expected {path} to name the newest snapshot, was unreadable ({error!r}). "
                "Delete it, then build a snapshot; nothing else is lost."
            ) from error

    def _point_at(self, snapshot_id: str) -> None:
        with suppress(SnapshotError):  # a pointer that cannot be understood is replaced
            if self._pointed() == snapshot_id:
                return
        moved_at = datetime.now(UTC).isoformat(timespec="seconds")
        write_json_atomically(self.root / _POINTER, {"snapshot_id": snapshot_id, "moved_at": moved_at})

    def _keep(self, draft: SnapshotManifest, content: TrainingRows) -> SnapshotManifest:
        rows, candles = content.rows, content.candles
        checksum = content_checksum(draft, rows, candles)
        digits = checksum[:_CHECKSUM_DIGITS_IN_ID]
        for path in sorted(self.root.glob(f"[!.]*-{digits}/{_MANIFEST}")):
            return self.verify(path.parent.name)
        snapshot_id = f"{draft.created_at:%Y%m%dT%H%M%SZ}-{digits}"
        manifest = draft.model_copy(update={"snapshot_id": snapshot_id, "checksum": checksum})
        unfinished = self._hidden(snapshot_id)
        try:
            write_atomically(unfinished / _ROWS, lambda path: rows.write_parquet(path, compression="zstd"))
            write_atomically(unfinished / _CANDLES, lambda path: candles.write_parquet(path, compression="zstd"))
            write_json_atomically(unfinished / _MANIFEST, manifest.model_dump(mode="json"))
            unfinished.replace(self.root / snapshot_id)
        except OSError as error:
            raise not_writable(self.root / snapshot_id, error) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return manifest


def _expect_horizon(horizon_bars: int, triple_barrier: TripleBarrierLabel | None) -> LabelDefinition:
    label = label_definition(horizon_bars, triple_barrier)
    if longest_bars(label) != horizon_bars:
        raise ConfigurationError(
            f"Expected a horizon of {longest_bars(label)} bars, the most that the label looks ahead, was "
            f"{horizon_bars}. Give the bars of the label."
        )
    return label


def _read(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(io.BytesIO(path.read_bytes()), hive_partitioning=False)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        raise SnapshotError(
            f"Expected {path} to be a Parquet file of a snapshot, was unreadable ({str(error).splitlines()[0]}). "
            f"{_remedy(path.parent)}"
        ) from error


def _remedy(folder: Path) -> str:
    return f"Move {folder} away, then build the snapshot again."


def _instant(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
