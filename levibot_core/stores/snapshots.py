"""Training snapshots: features and labels of a window as known at an instant, frozen under an id and a checksum.

A snapshot is a folder that appears whole or not at all. Reading the lake is its caller's work; splitting the rows is
`levibot_core.validation.split`'s.
"""

import hashlib
import io
import json
import secrets
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from pydantic import AwareDatetime, BaseModel, ConfigDict, ValidationError

from levibot_core.errors import SnapshotError, SnapshotNotFoundError
from levibot_core.features.compute import compute_features
from levibot_core.features.missing import missing_reasons
from levibot_core.features.registry import FeatureSet
from levibot_core.labels.direction import DirectionLabel, direction_labels
from levibot_core.market.sources.base import SourceIdentity
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP, TRAINING_ROWS
from levibot_core.stores.digest import frame_digest
from levibot_core.stores.files import write_atomically, write_json_atomically
from levibot_core.stores.paths import not_writable

_MANIFEST = "snapshot.json"
_ROWS, _CANDLES = "rows.parquet", "candles.parquet"
_CANDLE_COLUMNS = ("symbol", "ts", "open", "high", "low", "close", "volume", "known_at")
_CHECKSUM_DIGITS_IN_ID = 12
_COLUMNS_NAMED_IN_ERRORS = 8


class SnapshotManifest(BaseModel):
    """What snapshot.json says.

    `checksum` is the SHA-256 over the content of rows and candles, the hash of the feature definitions, the label's
    definition, market, timeframe, source and as-of time; `dropped` counts the rows of the window that are not in the
    snapshot, by reason.
    """

    model_config = ConfigDict(frozen=True)

    snapshot_id: str
    created_at: AwareDatetime
    as_of: AwareDatetime
    checksum: str
    rows: int
    dropped: dict[str, int]
    symbols: tuple[str, ...]
    market: str
    timeframe: str
    horizon_bars: int
    feature_set: str
    features: tuple[str, ...]
    features_sha256: str
    source: SourceIdentity
    first_ts: AwareDatetime
    last_ts: AwareDatetime
    warm_up: int


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
        candles: pl.DataFrame,
        funding: pl.DataFrame,
        feature_set: FeatureSet,
        timeframe: Timeframe,
        horizon_bars: int,
        source: SourceIdentity,
        market: str,
        as_of_ms: int,
        start_ms: int,
    ) -> SnapshotManifest:
        """Freeze the training rows with open time from `start_ms` on whose label was known at `as_of_ms`.

        Rows with a NaN and rows without a label are left out and counted. When the same content is there already,
        that snapshot is verified and returned, and nothing is written.

        Args:
            candles: One revision per symbol and bar, as known at `as_of_ms`; bars before `start_ms` serve as warm-up.
            funding: One revision per symbol and settlement, as known at `as_of_ms`; may be empty.
            feature_set: Features to compute.
            timeframe: Length of a bar.
            horizon_bars: Horizon of the direction label.
            source: Where the data comes from.
            market: `spot` or `perp`.
            as_of_ms: Instant of knowledge, UTC milliseconds.
            start_ms: First open time of the window, UTC milliseconds.

        Raises:
            SnapshotError: no row is whole; the message names the columns responsible. Or the same snapshot is there
                already and damaged.
            HomeNotWritableError: the folder cannot be written; nothing of the snapshot is left.
        """
        as_of = pl.lit(as_of_ms, dtype=pl.Int64).cast(TIMESTAMP)
        candles, funding = candles.filter(pl.col("known_at") <= as_of), funding.filter(pl.col("known_at") <= as_of)
        features = compute_features(candles, funding, feature_set, timeframe, start_ms=start_ms, end_ms=as_of_ms)
        labels = direction_labels(candles, timeframe, horizon_bars).filter(pl.col("label_end") <= as_of)
        reasons = missing_reasons(features, candles, funding, feature_set, timeframe)
        whole = features.join(reasons, on=["symbol", "ts"], how="anti", maintain_order="left")
        names = [*TRAINING_ROWS.polars_schema, *feature_set.names]
        rows = whole.join(labels, on=["symbol", "ts"], maintain_order="left").select(names).sort("symbol", "ts")
        if rows.is_empty():
            raise _nothing_left(features, feature_set, len(labels))
        dropped = dict(sorted(reasons["reason"].value_counts().iter_rows()))
        if unlabelled := whole.height - rows.height:
            dropped["no_label"] = unlabelled
        window = candles.filter(pl.col("ts") >= pl.lit(start_ms, dtype=pl.Int64).cast(TIMESTAMP))
        manifest = SnapshotManifest(
            snapshot_id="",
            created_at=datetime.now(UTC).replace(microsecond=0),
            as_of=_instant(as_of_ms),
            checksum="",
            rows=rows.height,
            dropped=dropped,
            symbols=tuple(rows["symbol"].unique().sort()),
            market=market,
            timeframe=timeframe.name,
            horizon_bars=horizon_bars,
            feature_set=feature_set.version,
            features=feature_set.names,
            features_sha256=feature_set.sha256,
            source=source,
            first_ts=rows["ts"].min(),
            last_ts=rows["ts"].max(),
            warm_up=feature_set.warm_up,
        )
        return self._keep(manifest, rows, window.select(_CANDLE_COLUMNS).sort("symbol", "ts"))

    def load(self, snapshot_id: str) -> Snapshot:
        """Read a snapshot and prove that its bytes are what its checksum says.

        Raises:
            SnapshotNotFoundError: there is no such snapshot.
            SnapshotError: a file is missing, unreadable or altered.
        """
        folder = self.root / snapshot_id
        manifest = self._manifest(folder)
        snapshot = Snapshot(manifest, _read(folder / _ROWS), _read(folder / _CANDLES))
        found = _checksum(manifest, snapshot.rows, snapshot.candles)
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
        folders = (path.parent for path in self.root.glob(f"[!.]*/{_MANIFEST}"))
        return tuple(sorted(map(self._manifest, folders), key=lambda found: (found.created_at, found.snapshot_id)))

    def latest(self) -> SnapshotManifest | None:
        """Manifest of the snapshot made last; None when there is none.

        Raises:
            SnapshotError: a manifest cannot be understood.
        """
        return next(reversed(self.list()), None)

    def _manifest(self, folder: Path) -> SnapshotManifest:
        path = folder / _MANIFEST
        if folder.parent != self.root or not path.is_file():
            raise SnapshotNotFoundError(
                f"Expected a snapshot named {folder.name!r} in {self.root}, was none. "
                "List the folder for the ids there are, or build a new snapshot."
            )
        try:
            return SnapshotManifest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise SnapshotError(
                f"Expected {path} to describe a snapshot, was unreadable ({error.error_count()} fields). "
                f"{_remedy(folder)}"
            ) from error

    def _keep(self, draft: SnapshotManifest, rows: pl.DataFrame, candles: pl.DataFrame) -> SnapshotManifest:
        checksum = _checksum(draft, rows, candles)
        digits = checksum[:_CHECKSUM_DIGITS_IN_ID]
        for path in sorted(self.root.glob(f"[!.]*-{digits}/{_MANIFEST}")):
            return self.verify(path.parent.name)
        snapshot_id = f"{draft.created_at:%Y%m%dT%H%M%SZ}-{digits}"
        manifest = draft.model_copy(update={"snapshot_id": snapshot_id, "checksum": checksum})
        unfinished = self.root / f".{snapshot_id}.{secrets.token_hex(4)}.tmp"
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


def _checksum(manifest: SnapshotManifest, rows: pl.DataFrame, candles: pl.DataFrame) -> str:
    """SHA-256 over content and definitions; neither file layout nor time of creation count."""
    content = {
        "rows": frame_digest(rows),
        "candles": frame_digest(candles),
        "features_sha256": manifest.features_sha256,
        "label": DirectionLabel(horizon_bars=manifest.horizon_bars).model_dump(),
        "as_of_ms": int(manifest.as_of.timestamp() * 1000),
        "market": manifest.market,
        "timeframe": manifest.timeframe,
        "source": [manifest.source.kind, manifest.source.key],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


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


def _nothing_left(features: pl.DataFrame, feature_set: FeatureSet, labels: int) -> SnapshotError:
    empty = [name for name in feature_set.names if features[name].is_nan().all()]
    named = [f"{name} (0 of {features.height})" for name in empty[:_COLUMNS_NAMED_IN_ERRORS]]
    if len(empty) > len(named):
        named.append(f"and {len(empty) - len(named)} more")
    columns = f"no value at all in {', '.join(named)}" if empty else "no row with every feature and a label"
    return SnapshotError(
        f"Expected at least one whole training row, was none: {features.height} bars and {labels} labels in the "
        f"window, {columns}. A bar needs {feature_set.warm_up} bars of history; leader_* needs candles of the leading "
        "market, funding_* needs settled funding. Ingest what is missing, or more days."
    )
