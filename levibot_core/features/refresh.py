"""Keep the features in the lake up to date, and pick the newest vectors for serving.

Computing a feature is `levibot_core.features.compute`'s work; this module reads what a computation needs (the slice
and its warm-up), and writes what came out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from levibot_core.config import SourceKind
from levibot_core.features.compute import compute_features
from levibot_core.features.registry import FeatureSet
from levibot_core.market.ingest import Slice
from levibot_core.market.symbols import LEADER
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.stores.lake import Lake
from levibot_core.stores.online import DEFAULT_HISTORY_BARS, FeatureVector
from levibot_core.stores.paths import Dataset

# A vector older than this is no longer "the newest": a symbol that stopped trading is left out.
_NEWEST_WITHIN_DAYS = 3
# Funding settles every few hours and the index is of a day: this much history holds all that a row may need of them.
_PUBLISHED_HISTORY_DAYS = 12


@dataclass(frozen=True, slots=True)
class FeatureTables:
    """The datasets that a refresh reads, and the one it writes."""

    candles: Dataset
    funding: Dataset
    fear_greed: Dataset
    features: Dataset


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What a refresh computed; rows that were there already and stayed are not counted."""

    rows: int
    complete_rows: int


def refresh_features(
    lake: Lake,
    tables: FeatureTables,
    feature_set: FeatureSet,
    timeframe: Timeframe,
    slices: Iterable[Slice],
    on_progress: Callable[[str], None],
) -> RefreshReport:
    """Compute the features of every slice from all revisions in the lake.

    Where the lake has features of all but the newest candles of a slice, only those rows are computed, from no more
    history than their windows: the cost of a new bar does not grow with the history. Otherwise, also where nothing is
    new, the whole slice is.

    A row is what could be computed at its decision time, so that a correction in the lake changes no row that is
    there already.
    """
    rows = complete = 0
    for part in slices:
        start_ms = _first_to_compute(lake, tables, part)
        computed = compute_slice(lake, tables, feature_set, timeframe, Slice(part.symbol, start_ms, part.end_ms))
        lake.upsert(tables.features, computed)
        rows += computed.height
        complete += computed.filter(pl.all_horizontal(pl.col(feature_set.names).is_not_nan())).height
        on_progress(f"{part.symbol}: {computed.height:,} rows")
    return RefreshReport(rows, complete)


def _first_to_compute(lake: Lake, tables: FeatureTables, part: Slice) -> int:
    """Open time of the first new bar where all new bars follow those with features; else the start of the slice."""
    bars, rows = (
        lake.read_all_revisions(dataset, [part.symbol], part.start_ms, part.end_ms, columns=())["ts"].unique()
        for dataset in (tables.candles, tables.features)
    )
    new = bars.filter(~bars.is_in(rows.implode()))
    if new.is_empty() or rows.is_empty() or new.min() < rows.max():  # type: ignore[operator]
        return part.start_ms
    return int(new.dt.epoch("ms").min())  # type: ignore[arg-type]


def compute_slice(
    lake: Lake, tables: FeatureTables, feature_set: FeatureSet, timeframe: Timeframe, part: Slice
) -> pl.DataFrame:
    """The features of a slice from all revisions in the lake; columns as `compute_features` gives them.

    Raises:
        LakeCorruptionError: a file cannot be read.
    """
    first_bar_ms = part.start_ms - feature_set.warm_up * timeframe.milliseconds
    # The last bar is decided at its close, where a settlement may fall.
    published = (first_bar_ms - _PUBLISHED_HISTORY_DAYS * MILLISECONDS_PER_DAY, part.end_ms + timeframe.milliseconds)
    computed = compute_features(
        lake.read_all_revisions(tables.candles, sorted({part.symbol, LEADER}), first_bar_ms, part.end_ms),
        lake.read_all_revisions(tables.funding, [part.symbol], *published),
        feature_set,
        timeframe,
        start_ms=part.start_ms,
        end_ms=part.end_ms,
        fear_greed=lake.read_all_revisions(tables.fear_greed, None, *published),
    )
    return computed.filter(pl.col("symbol") == part.symbol)


@dataclass(frozen=True, slots=True)
class LatestVectors:
    """The newest vector of each symbol; incomplete ones are named with what they lack and never served.

    Attributes:
        complete: One per symbol.
        incomplete: Symbol to the features its newest row lacks.
        earlier: Whole vectors of the bars before those in `complete`, oldest first per symbol.
    """

    complete: tuple[FeatureVector, ...]
    incomplete: Mapping[str, Sequence[str]]
    earlier: tuple[FeatureVector, ...] = ()

    def to_frame(self) -> pl.DataFrame:
        """Symbol, open time of the bar and its close, one row per complete vector."""
        return pl.DataFrame(
            {
                "symbol": [vector.symbol for vector in self.complete],
                "ts": pl.Series([vector.ts_ms for vector in self.complete], dtype=pl.Int64)
                .cast(pl.Datetime("ms", "UTC"))
                .dt.to_string("iso"),
                "close": [vector.close for vector in self.complete],
            }
        )


def latest_vectors(
    lake: Lake,
    *,
    candles_dataset: Dataset,
    features_dataset: Dataset,
    symbols: Sequence[str],
    source_kind: SourceKind,
    bars: int = DEFAULT_HISTORY_BARS,
) -> LatestVectors:
    """The newest feature row of every symbol, with the close of its bar (quote currency) as it was known then.

    Beside it the rows of the `bars` - 1 bars before, for models that look at a window; one that lacks features is left
    out, which is a hole to those who read the window.
    """
    names = [name for name in features_dataset.table.polars_schema if name not in ("symbol", "ts", "known_at")]
    feature_set = dict(features_dataset.keys)["feature_set"]
    complete: list[FeatureVector] = []
    earlier: list[FeatureVector] = []
    incomplete: dict[str, list[str]] = {}
    for symbol in symbols:
        newest = lake.latest_known_at_ms(features_dataset, symbol)
        start_ms = newest - _NEWEST_WITHIN_DAYS * MILLISECONDS_PER_DAY
        rows = lake.read(features_dataset, symbols=[symbol], start_ms=start_ms).tail(bars)
        candles = lake.read(candles_dataset, symbols=[symbol], start_ms=start_ms, as_of_ms=newest)
        values = rows.select(names).tail(1).row(0, named=True)
        missing = [name for name, value in values.items() if value != value]
        if missing:
            incomplete[symbol] = missing
            continue
        whole = rows.filter(pl.all_horizontal(pl.col(names).is_not_nan())).join(candles.select("ts", "close"), on="ts")
        vectors = _vectors(whole, names, feature_set, source_kind)
        complete.append(vectors[-1])
        earlier += vectors[:-1]
    return LatestVectors(tuple(complete), incomplete, tuple(earlier))


def _vectors(
    rows: pl.DataFrame, names: Sequence[str], feature_set: str, source_kind: SourceKind
) -> list[FeatureVector]:
    """The vector of every row, in order of time; the rows have symbol, ts, known_at, close and the features."""
    ordered = rows.sort("ts").with_columns(pl.col("ts", "known_at").dt.epoch("ms"))
    bars = ordered.select("symbol", "ts", "known_at", "close").iter_rows()
    return [
        FeatureVector(
            symbol, ts_ms, known_at_ms, feature_set, source_kind, close, dict(zip(names, values, strict=True))
        )
        for (symbol, ts_ms, known_at_ms, close), values in zip(bars, ordered.select(names).iter_rows(), strict=True)
    ]
