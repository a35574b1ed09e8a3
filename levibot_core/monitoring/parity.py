"""Parity: is every feature that was served, bit for bit, the one that the offline computation gives?

The served vectors come from the log of the inference API (`levibot_core.stores.served_log`), candles, funding and the
fear and greed index from the lake with all their revisions, and the values from the kernel that computes training
data. A report over several replays is `levibot_core.monitoring.parity_report`'s work. Nothing is repaired here.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl

from levibot_core.errors import LevibotError, MarketDataUnavailableError
from levibot_core.features.compute import compute_features
from levibot_core.features.registry import FeatureSet, load_registry
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.schemas import TIMESTAMP
from levibot_core.stores.lake import Lake
from levibot_core.stores.paths import candles_dataset, fear_greed_dataset, funding_dataset
from levibot_core.stores.served_log import ServedLog, ServedVector, UnreadableLine, read_entries

CLOSE = "close"
"""Name under which the close of the bar is compared: it is served beside the features."""
LISTED = 200
"""Differences that are listed for a day; all are counted."""

# Features look back at most 72 hours of funding and 12 days of the index from the first bar of their window.
_PUBLISHED_HISTORY_DAYS = 14
_DIFFERENCES = {
    "symbol": pl.String(),
    "ts": TIMESTAMP,
    "feature": pl.String(),
    "served": pl.Float64(),
    "offline": pl.Float64(),
    "model_version": pl.Int64(),
    "served_at": TIMESTAMP,
}


@dataclass(frozen=True, slots=True)
class DayParity:
    """What the replay of one day's log found.

    Attributes:
        day: UTC day on which the vectors were served.
        vectors: Lines of the log with a vector: one per symbol, bar, content and model version of a server process.
        servings: Forecasts that were made from them.
        compared: Values compared: every feature, and the close, of every vector that could be replayed.
        mismatches: Compared values whose 64 bits differ, or that one of the two sides lacks.
        not_comparable: Vectors that could not be replayed, by reason.
        unreadable_lines: Lines that a crash or a full disk cut short.
        differences: The first `LISTED` mismatches: symbol, ts (open time of the bar), feature, served, offline,
            model_version, served_at; NaN on a side that has no value.
    """

    day: date
    vectors: int
    servings: int
    compared: int
    mismatches: int
    not_comparable: Mapping[str, int]
    unreadable_lines: int
    differences: pl.DataFrame


@dataclass(frozen=True, slots=True)
class OfflineComputation:
    """The offline side: features and closes of a source, as they could be known at the close of each bar.

    `load_feature_set` gives a version of the feature set, or raises ConfigurationError.
    """

    lake: Lake
    market: str
    timeframe: Timeframe
    load_feature_set: Callable[[str], FeatureSet] = load_registry

    def has_candles(self, source_key: str) -> bool:
        """Whether the lake holds candles of that source at all."""
        folder = self.lake.root / candles_dataset(source_key, self.market, self.timeframe.name).folder
        return any(folder.glob("pair=*/month=*/part.parquet"))

    def rows(self, source_key: str, feature_set: FeatureSet, first_ms: int, last_ms: int) -> pl.DataFrame:
        """symbol, ts, every feature and the close of the bars that open in `[first_ms, last_ms]`, UTC milliseconds."""
        step_ms = self.timeframe.milliseconds
        from_ms = first_ms - feature_set.warm_up * step_ms
        published_from_ms = from_ms - _PUBLISHED_HISTORY_DAYS * MILLISECONDS_PER_DAY
        # The last bar is decided at its close, where a settlement may fall.
        published_until_ms = last_ms + step_ms + 1
        candles = self.lake.read_all_revisions(
            candles_dataset(source_key, self.market, self.timeframe.name), start_ms=from_ms, end_ms=last_ms + 1
        )
        funding, fear_greed = (
            self.lake.read_all_revisions(dataset, start_ms=published_from_ms, end_ms=published_until_ms)
            for dataset in (funding_dataset(source_key), fear_greed_dataset(source_key))
        )
        features = compute_features(
            candles,
            funding,
            feature_set,
            self.timeframe,
            start_ms=first_ms,
            end_ms=last_ms + 1,
            fear_greed=fear_greed,
        )
        decided = pl.col("ts") + pl.duration(milliseconds=step_ms, time_unit="ms")
        closes = (
            candles.filter(pl.col("known_at") <= decided)
            .sort("revision")
            .unique(["symbol", "ts"], keep="last")
            .select("symbol", "ts", "close")
        )
        return features.join(closes, on=["symbol", "ts"], how="left", maintain_order="left")


def replay_log(log: ServedLog, offline: OfflineComputation, since: date | None = None) -> Iterator[DayParity]:
    """Compute again what was served, one UTC day of the log at a time, oldest first; from `since` on when given.

    Raises:
        LakeCorruptionError: a file of the lake cannot be read.
    """
    for day, path in log.files().items():
        if since is None or day >= since:
            yield _replay_day(day, path, offline)


@dataclass(slots=True)
class _Batch:
    """Served vectors of one source and one feature set; a row holds the features in order, then the close."""

    source_key: str
    feature_set: FeatureSet
    served: list[tuple[str, int, int, int]] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    strangers: list[tuple[int, str, float]] = field(default_factory=list)

    @property
    def columns(self) -> tuple[str, ...]:
        """What a row holds."""
        return (*self.feature_set.names, CLOSE)

    def add(self, vector: ServedVector) -> None:
        """Keep a vector; values that the feature set does not define are kept apart."""
        names = self.feature_set.names
        unknown = sorted(vector.values.keys() - set(names))
        self.strangers += [(len(self.rows), name, vector.values[name]) for name in unknown]
        self.served.append((vector.symbol, vector.ts_ms, vector.model_version, vector.served_at_ms))
        self.rows.append(np.array([*(vector.values.get(name, np.nan) for name in names), vector.close]))


def _replay_day(day: date, path: Path, offline: OfflineComputation) -> DayParity:
    batches: dict[tuple[str, str], _Batch] = {}
    not_comparable: Counter[str] = Counter()
    vectors = servings = unreadable = 0
    for entry in read_entries(path):
        if isinstance(entry, UnreadableLine):
            unreadable += 1
            continue
        if not isinstance(entry, ServedVector):
            servings += entry.servings
            continue
        vectors, servings = vectors + 1, servings + 1
        try:
            _batch_for(entry, batches, offline).add(entry)
        except LevibotError as reason:
            not_comparable[str(reason)] += 1
    differences = pl.concat(
        [pl.DataFrame(schema=_DIFFERENCES), *(_differences(batch, offline) for batch in batches.values())]
    )
    return DayParity(
        day=day,
        vectors=vectors,
        servings=servings,
        compared=sum(len(batch.rows) * len(batch.columns) + len(batch.strangers) for batch in batches.values()),
        mismatches=differences.height,
        not_comparable=dict(sorted(not_comparable.items())),
        unreadable_lines=unreadable,
        differences=differences.sort("ts", "symbol", "feature", "served_at").head(LISTED),
    )


def _batch_for(vector: ServedVector, batches: dict[tuple[str, str], _Batch], offline: OfflineComputation) -> _Batch:
    """The batch that a vector is compared in.

    Raises:
        LevibotError: it cannot be compared, and why.
    """
    if vector.source_key is None:
        raise MarketDataUnavailableError(f"Which {vector.source_kind} source it came from was not known.")
    key = (vector.source_key, vector.feature_set)
    if key not in batches:
        if not offline.has_candles(vector.source_key):
            raise MarketDataUnavailableError(f"The lake has no candles of the source {vector.source_key}.")
        batches[key] = _Batch(vector.source_key, offline.load_feature_set(vector.feature_set))
    return batches[key]


def _differences(batch: _Batch, offline: OfflineComputation) -> pl.DataFrame:
    """Every value of the batch that is not, bit for bit, what the offline computation gives."""
    served = np.array(batch.rows)
    bars = pl.DataFrame(
        batch.served,
        schema={"symbol": pl.String(), "ts": pl.Int64(), "model_version": pl.Int64(), "served_at": pl.Int64()},
        orient="row",
    ).with_columns(pl.col("ts", "served_at").cast(TIMESTAMP))
    times = [ts_ms for _, ts_ms, _, _ in batch.served]
    computed = (
        bars.select("symbol", "ts")
        .join(
            offline.rows(batch.source_key, batch.feature_set, min(times), max(times)),
            on=["symbol", "ts"],
            how="left",
            maintain_order="left",
        )
        .select(pl.col(batch.columns).fill_null(np.nan))
        .to_numpy()
    )
    different = (served.view(np.int64) != np.ascontiguousarray(computed).view(np.int64)) | np.isnan(served)
    rows, columns = np.nonzero(different)
    found = pl.DataFrame(
        {
            "row": [*rows.tolist(), *(row for row, _, _ in batch.strangers)],
            "feature": [*(batch.columns[column] for column in columns), *(name for _, name, _ in batch.strangers)],
            "served": [*served[rows, columns].tolist(), *(value for _, _, value in batch.strangers)],
            "offline": [*computed[rows, columns].tolist(), *(np.nan for _ in batch.strangers)],
        },
        schema={"row": pl.UInt32(), "feature": pl.String(), "served": pl.Float64(), "offline": pl.Float64()},
    )
    return found.join(bars.with_row_index("row"), on="row", maintain_order="left").select(_DIFFERENCES.keys())
