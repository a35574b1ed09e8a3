"""Keep the features in the lake up to date, and pick the newest vectors for serving.

Computing a feature is `levibot_core.features.compute`'s work; this module reads what a computation needs (the slice
and its warm-up), and writes what came out.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from levibot_core.config import SourceKind
from levibot_core.features.compute import LEADER, compute_features
from levibot_core.features.registry import FeatureSet
from levibot_core.market.ingest import Slice
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.stores.lake import Lake
from levibot_core.stores.online import FeatureVector
from levibot_core.stores.paths import Dataset

# A vector older than this is no longer "the newest": a symbol that stopped trading is left out.
_NEWEST_WITHIN_DAYS = 3
# Funding settles every few hours; this much history always holds the settlements a window may need.
_FUNDING_HISTORY_DAYS = 7


@dataclass(frozen=True, slots=True)
class RefreshReport:
    """What a refresh wrote."""

    rows: int
    complete_rows: int


def refresh_features(
    lake: Lake,
    *,
    candles_dataset: Dataset,
    funding_dataset: Dataset,
    features_dataset: Dataset,
    feature_set: FeatureSet,
    timeframe: Timeframe,
    slices: Iterable[Slice],
    on_progress: Callable[[str], None],
) -> RefreshReport:
    """Compute the features of every slice from the newest revisions in the lake and replace its partitions."""
    rows = complete = 0
    for part in slices:
        warm_up_ms = feature_set.warm_up * timeframe.milliseconds
        candles = lake.read(
            candles_dataset,
            symbols=sorted({part.symbol, LEADER}),
            start_ms=part.start_ms - warm_up_ms,
            end_ms=part.end_ms,
        )
        funding = lake.read(
            funding_dataset,
            symbols=[part.symbol],
            start_ms=part.start_ms - warm_up_ms - _FUNDING_HISTORY_DAYS * MILLISECONDS_PER_DAY,
            # The last bar is decided at its close, where a settlement may fall.
            end_ms=part.end_ms + timeframe.milliseconds,
        )
        computed = compute_features(
            candles, funding, feature_set, timeframe, leader=LEADER, start_ms=part.start_ms, end_ms=part.end_ms
        ).filter(pl.col("symbol") == part.symbol)
        lake.replace(features_dataset, computed)
        rows += computed.height
        complete += computed.filter(pl.all_horizontal(pl.col(feature_set.names).is_not_nan())).height
        on_progress(f"{part.symbol}: {computed.height:,} rows")
    return RefreshReport(rows, complete)


@dataclass(frozen=True, slots=True)
class LatestVectors:
    """The newest vector of each symbol; incomplete ones are named with what they lack and never served."""

    complete: tuple[FeatureVector, ...]
    incomplete: Mapping[str, Sequence[str]]

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
) -> LatestVectors:
    """The newest feature row of every symbol, with the close of its bar (quote currency)."""
    names = [name for name in features_dataset.table.polars_schema if name not in ("symbol", "ts", "known_at")]
    feature_set = dict(features_dataset.keys)["feature_set"]
    complete: list[FeatureVector] = []
    incomplete: dict[str, list[str]] = {}
    for symbol in symbols:
        newest = lake.latest_known_at_ms(features_dataset, symbol)
        start_ms = newest - _NEWEST_WITHIN_DAYS * MILLISECONDS_PER_DAY
        row = lake.read(features_dataset, symbols=[symbol], start_ms=start_ms).tail(1)
        closes = lake.read(candles_dataset, symbols=[symbol], start_ms=start_ms).select("ts", "close")
        values = row.select(names).row(0, named=True)
        missing = [name for name, value in values.items() if value != value]
        if missing:
            incomplete[symbol] = missing
            continue
        bar = row.join(closes, on="ts").with_columns(pl.col("ts", "known_at").dt.epoch("ms")).row(0, named=True)
        complete.append(
            FeatureVector(
                symbol=symbol,
                ts_ms=bar["ts"],
                known_at_ms=bar["known_at"],
                feature_set=feature_set,
                source_kind=source_kind,
                close=bar["close"],
                values=values,
            )
        )
    return LatestVectors(tuple(complete), incomplete)
