"""Features computed when a forecast asks for them: from candles that a caller sent, or from the newest of the lake.

The kernel is that of the batch (`compute`), and a value depends on its own window alone; so the bits are those that the
offline computation gives for the same candles. What came with a request is put together in `sent_features`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from levibot_core.errors import MarketDataUnavailableError, MissingFeatureError
from levibot_core.features.compute import compute_features
from levibot_core.features.inputs import Origin, origins_of
from levibot_core.features.refresh import FeatureTables, compute_slice
from levibot_core.features.registry import FeatureSet, load_registry
from levibot_core.market.ingest import Slice
from levibot_core.market.symbols import LEADER
from levibot_core.market.timeframe import Timeframe
from levibot_core.stores.lake import Lake
from levibot_core.stores.online_vector import FeatureVector
from levibot_core.stores.paths import candles_dataset, fear_greed_dataset, features_dataset, funding_dataset

_REMEDIES: dict[Origin, str] = {
    "leader": f"candles of {LEADER} at the same times",
    "funding": "settled funding rates of the last 72 hours",
    "fear_greed": "the fear and greed index of the last 12 days",
}


@dataclass(frozen=True, slots=True)
class WantedFeatures:
    """What a model wants to see of one symbol.

    Attributes:
        symbol: Inside spelling.
        names: The model's features, in its order.
        feature_set: These and whatever else a forecast uses, of the version that the model was trained on.
        timeframe: Length of a bar.
        window: Successive bars that the model looks at.
    """

    symbol: str
    names: tuple[str, ...]
    feature_set: FeatureSet
    timeframe: Timeframe
    window: int = 1

    @classmethod
    def of(
        cls, symbol: str, names: Iterable[str], also: Iterable[str], version: str, timeframe: Timeframe, window: int
    ) -> "WantedFeatures":
        """Features by name; those of `also` are computed where the version has them.

        Raises:
            ConfigurationError: there is no such version.
            MissingFeatureError: the version lacks one of `names`.
        """
        wanted, registry = tuple(names), load_registry(version)
        extra = [name for name in also if name in registry.names]
        return cls(symbol, wanted, registry.only([*wanted, *extra]), timeframe, window)

    @property
    def bars_needed(self) -> int:
        """Successive bars, the newest included, from which everything wanted can be computed."""
        return self.feature_set.warm_up + self.window - 1

    @property
    def needs_leader(self) -> bool:
        """Whether candles of the leading market are needed beside the symbol's own."""
        return self.symbol != LEADER and any("leader" in origins_of(spec.inputs) for spec in self.feature_set.features)


@dataclass(frozen=True, slots=True)
class ComputedFeatures:
    """What was computed.

    Attributes:
        vector: The newest bar's.
        bars: The model's features of the last bars, float64 (window, f), oldest first; None for a window of one.
    """

    vector: FeatureVector
    bars: np.ndarray | None


def features_of(
    wanted: WantedFeatures,
    candles: pl.DataFrame,
    funding: pl.DataFrame,
    fear_greed: pl.DataFrame,
    newest_ms: int,
    source_kind: str,
) -> ComputedFeatures:
    """Compute what a model wants to see at a bar.

    Args:
        wanted: What.
        candles: As `compute_features` takes them: the symbol's and, where needed, the leader's.
        funding: As `compute_features` takes them; may be empty.
        fear_greed: As `compute_features` takes them; may be empty.
        newest_ms: Open time of the bar, UTC milliseconds.
        source_kind: Kept in the vector.

    Raises:
        MissingFeatureError: a value is not defined, and from what it would be.
    """
    step, symbol = wanted.timeframe.milliseconds, wanted.symbol
    computed = compute_features(
        candles,
        funding,
        wanted.feature_set,
        wanted.timeframe,
        start_ms=newest_ms - (wanted.window - 1) * step,
        end_ms=newest_ms + 1,
        fear_greed=fear_greed,
    ).filter(pl.col("symbol") == symbol)
    own = candles.filter((pl.col("symbol") == symbol) & (pl.col("ts").dt.epoch("ms") == newest_ms))
    return _whole(wanted, computed, float(own["close"][0]), newest_ms, source_kind)


def newest_from_lake(wanted: WantedFeatures, lake: Lake, market: str) -> ComputedFeatures:
    """Compute what a model wants to see at the newest closed bar of the lake.

    Raises:
        MarketDataUnavailableError: the lake has no candles of the symbol.
        MissingFeatureError: a value is not defined there, such as after a gap.
        LakeCorruptionError: a file cannot be read.
    """
    source = lake.current_source()
    if source is None:
        raise MarketDataUnavailableError(
            f"Expected candles in {lake.root}, but nothing was ingested yet. Materialise ingestion/candles."
        )
    timeframe, version = wanted.timeframe, wanted.feature_set.version
    candles = candles_dataset(source.key, market, timeframe.name)
    tables = FeatureTables(
        candles,
        funding_dataset(source.key),
        fear_greed_dataset(source.key),
        features_dataset(source.key, market, timeframe.name, version),
    )
    known_ms = lake.latest_known_at_ms(candles, wanted.symbol)
    newest_ms = timeframe.floor(known_ms - 1)
    first_ms = newest_ms - (wanted.window - 1) * timeframe.milliseconds
    part = Slice(wanted.symbol, first_ms, newest_ms + 1)
    computed = compute_slice(lake, tables, wanted.feature_set, timeframe, part)
    own = lake.read(candles, [wanted.symbol], newest_ms, newest_ms + 1, as_of_ms=known_ms)
    if own.is_empty():
        raise MissingFeatureError(f"Expected the newest candle of {wanted.symbol} in the lake, was known too late.")
    return _whole(wanted, computed, float(own["close"][0]), newest_ms, source.kind)


def _whole(
    wanted: WantedFeatures, computed: pl.DataFrame, close: float, newest_ms: int, source_kind: str
) -> ComputedFeatures:
    """What was computed, where nothing of it is missing."""
    step, names = wanted.timeframe.milliseconds, wanted.feature_set.names
    expected = np.arange(newest_ms - (wanted.window - 1) * step, newest_ms + 1, step)
    if not np.array_equal(computed["ts"].dt.epoch("ms").to_numpy(), expected):
        raise MissingFeatureError(
            f"Expected {wanted.window} successive bars of {wanted.symbol}, was {computed.height}: one is missing."
        )
    undefined = [name for name in names if computed[name].is_nan().any()]
    if undefined:
        raise MissingFeatureError(_undefined(wanted, undefined))
    values = computed.tail(1).select(names).row(0, named=True)
    vector = FeatureVector(
        symbol=wanted.symbol,
        ts_ms=newest_ms,
        known_at_ms=newest_ms + step,
        feature_set=wanted.feature_set.version,
        source_kind=source_kind,
        close=close,
        values=values,
    )
    bars = None if wanted.window == 1 else computed.select(wanted.names).to_numpy()
    return ComputedFeatures(vector, bars)


def _undefined(wanted: WantedFeatures, names: list[str]) -> str:
    origins = {
        origin for spec in wanted.feature_set.features if spec.name in names for origin in origins_of(spec.inputs)
    }
    lacking = [remedy for origin, remedy in _REMEDIES.items() if origin in origins]
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    hint = (
        f"Give {' and '.join(lacking)}."
        if lacking
        else "Nothing moved or was traded in their windows, or a bar is missing."
    )
    return (
        f"Expected a value of every feature of {wanted.symbol}, was undefined for {shown}. {hint} Nothing is filled in."
    )
