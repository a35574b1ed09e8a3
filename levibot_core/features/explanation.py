"""Explain one value of one feature: the window it looks at, the inputs it sees, and how unusual it is.

The value itself is what the lake holds; nothing is computed anew here but the inputs. What a feature is in general is
told by the registry and by `dictionary`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from levibot_core.features.inputs import assemble
from levibot_core.features.kernels import FAMILIES
from levibot_core.features.missing import missing_reasons
from levibot_core.features.registry import FeatureSet, FeatureSpec, reach_of
from levibot_core.market.symbols import LEADER
from levibot_core.market.timeframe import Timeframe

_WHY_MISSING = {
    "warm_up": "the window begins before the first bar there is",
    "gap": "a bar of the window is missing, or was not known in time",
    "undefined": "the window is whole, but the formula has no value there",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """One value of a feature; times are UTC milliseconds.

    Attributes:
        symbol: Inside spelling.
        decided_ms: Decision time of the row: the close of its bar.
        window_from_ms: Open time of the first bar that the value looks at.
        window_to_ms: Close of the last: the decision time or, of a higher timeframe, the last close before it.
        inputs: The input series at the last bar, by name; None where there is no number.
        value: The value that was computed for the row; None where there is none.
        why_missing: In words, why there is none; None where there is one.
        share_below: Share of the values of `compared` that are below this one, equal ones counted half; None where
            there is no value.
        compared: How many values the history holds, this one among them.
    """

    symbol: str
    decided_ms: int
    window_from_ms: int
    window_to_ms: int
    inputs: Mapping[str, float | None]
    value: float | None
    why_missing: str | None
    share_below: float | None
    compared: int


def explain(
    spec: FeatureSpec,
    history: pl.DataFrame,
    candles: pl.DataFrame,
    funding: pl.DataFrame,
    fear_greed: pl.DataFrame,
    timeframe: Timeframe,
    leader: str = LEADER,
) -> Explanation:
    """Explain the newest value of a history.

    Args:
        spec: The feature.
        history: Values of one symbol as computed: symbol, ts, known_at and a column of the feature's name; at least
            one row.
        candles: Of that symbol and of the leader, one row per bar, as known when the newest row of the history was
            decided: symbol, ts, open, high, low, close, volume, known_at; at least `spec.warm_up` bars before it.
        funding: As for `compute_features`.
        fear_greed: As for `compute_features`.
        timeframe: Length of a bar.
        leader: The leading market.

    Raises:
        SchemaError: an input lacks a column or repeats a row.
    """
    newest = history.sort("ts").tail(1)
    symbol, value = newest["symbol"].item(), newest[spec.name].item()
    open_ms, decided_ms = (int(newest[name].dt.epoch("ms").item()) for name in ("ts", "known_at"))
    inputs, window_to_ms = _inputs(spec, symbol, open_ms, candles, funding, fear_greed, timeframe, leader)
    step_ms = spec.step_ms or timeframe.milliseconds
    why_missing = share_below = None
    values = history[spec.name].drop_nans()
    if math.isnan(value):
        alone = FeatureSet(spec.since, (spec,))
        reasons = missing_reasons(newest, candles, funding, alone, timeframe, leader, fear_greed)
        why_missing = _WHY_MISSING[reasons["reason"].item().partition(":")[0]]
    else:
        share_below = float((values < value).sum() + 0.5 * (values == value).sum()) / values.len()
    return Explanation(
        symbol=symbol,
        decided_ms=decided_ms,
        window_from_ms=window_to_ms - reach_of(spec, FAMILIES[spec.family]) * step_ms,
        window_to_ms=window_to_ms,
        inputs=inputs,
        value=None if math.isnan(value) else value,
        why_missing=why_missing,
        share_below=share_below,
        compared=values.len(),
    )


def _inputs(
    spec: FeatureSpec,
    symbol: str,
    open_ms: int,
    candles: pl.DataFrame,
    funding: pl.DataFrame,
    fear_greed: pl.DataFrame,
    timeframe: Timeframe,
    leader: str,
) -> tuple[dict[str, float | None], int]:
    """The series at the last bar that the feature sees at the row that opened then, and the close of that bar."""
    market = assemble(
        candles,
        funding,
        fear_greed,
        timeframe,
        leader,
        lead_in=spec.warm_up - 1,
        start_ms=open_ms,
        end_ms=open_ms + timeframe.milliseconds,
    )
    bars = next(bars for bars in market if symbol in bars.symbols)
    row, place = bars.open_ms.size - 1, bars.symbols.index(symbol)
    if spec.step_ms is not None:
        higher = bars.at(spec.step_ms)
        bars, row = higher.bars, int(higher.newest_closed[row])
    numbers = {name: float(bars.series(name)[row, place]) for name in spec.inputs}
    inputs = {name: None if math.isnan(number) else number for name, number in numbers.items()}
    return inputs, int(bars.open_ms[row]) + bars.step_ms
