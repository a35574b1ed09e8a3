"""How often forecasts came true, by how confident they were.

A forecast counts once per symbol, bar, model version and role. Its outcome is known when the close of the bar that its
horizon ends with is: from the candles, or from a later forecast that was made at that very close. Forecasts of the log
are in `levibot_core.stores.prediction_log`.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from levibot_core.market.timeframe import Timeframe
from levibot_core.stores.lake import Lake
from levibot_core.stores.paths import candles_dataset
from levibot_core.stores.prediction_log import LoggedForecast

_TENTHS = 10
_Z_95 = 1.959963984540054

Closes = Mapping[tuple[str, int], float]
"""Close by symbol and instant, UTC milliseconds."""


@dataclass(frozen=True, slots=True)
class ConfidenceDecile:
    """Forecasts of one tenth.

    Attributes:
        decile: 1 is the least confident.
        confidence_from: Lowest confidence.
        confidence_to: Highest.
        forecasts: How many.
        settled: How many lean to a side and have a known outcome.
        hits: How many of those went where they leaned; a price that did not change counts as a fall.
    """

    decile: int
    confidence_from: float
    confidence_to: float
    forecasts: int
    settled: int
    hits: int

    @property
    def hit_rate(self) -> float | None:
        """Share of hits among the settled; None without any."""
        return self.hits / self.settled if self.settled else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of the hit rate: E. B. Wilson, "Probable inference, the law of succession" (1927)."""
        if not self.settled:
            return None
        rate, count, square = self.hits / self.settled, self.settled, _Z_95**2
        middle = (rate + square / (2 * count)) / (1 + square / count)
        reach = _Z_95 * math.sqrt(rate * (1 - rate) / count + square / (4 * count**2)) / (1 + square / count)
        return max(0.0, middle - reach), min(1.0, middle + reach)


def confidence_deciles(forecasts: Iterable[LoggedForecast], closes: Closes) -> list[ConfidenceDecile]:
    """The tenths of the distinct forecasts, the least confident first; fewer where there are fewer forecasts.

    Args:
        forecasts: In any order; of the same forecast given twice, the first counts.
        closes: What is known of outcomes.
    """
    distinct: dict[tuple[str, int, int, str], LoggedForecast] = {}
    for forecast in forecasts:
        distinct.setdefault((forecast.symbol, forecast.as_of_ms, forecast.model_version, forecast.role), forecast)
    ordered = sorted(distinct.values(), key=lambda item: (item.confidence, item.symbol, item.as_of_ms))
    edges = [round(place * len(ordered) / _TENTHS) for place in range(_TENTHS + 1)]
    tenths = [ordered[begin:end] for begin, end in pairwise(edges)]
    return [_decile(number, tenth, closes) for number, tenth in enumerate(tenths, start=1) if tenth]


def closes_of_forecasts(forecasts: Iterable[LoggedForecast]) -> dict[tuple[str, int], float]:
    """The closes at which forecasts were made."""
    return {(forecast.symbol, forecast.as_of_ms): forecast.price for forecast in forecasts}


def closes_of_lake(
    lake: Lake, market: str, timeframe: str, symbols: Sequence[str], from_ms: int
) -> dict[tuple[str, int], float]:
    """The closes of all candles that closed at an instant (UTC milliseconds) or later, newest revisions.

    Raises:
        LakeCorruptionError: a file cannot be read.
    """
    source = lake.current_source()
    if source is None or not symbols:
        return {}
    candles = lake.read(candles_dataset(source.key, market, timeframe), symbols, from_ms)
    ends = (candles["ts"].dt.epoch("ms") + Timeframe.parse(timeframe).milliseconds).to_list()
    return dict(zip(zip(candles["symbol"], ends, strict=True), candles["close"], strict=True))


def _decile(number: int, tenth: Sequence[LoggedForecast], closes: Closes) -> ConfidenceDecile:
    outcomes = [hit for forecast in tenth if (hit := _hit(forecast, closes.get)) is not None]
    return ConfidenceDecile(
        decile=number,
        confidence_from=tenth[0].confidence,
        confidence_to=tenth[-1].confidence,
        forecasts=len(tenth),
        settled=len(outcomes),
        hits=sum(outcomes),
    )


def _hit(forecast: LoggedForecast, close_at: Callable[[tuple[str, int]], float | None]) -> bool | None:
    """Whether the price went where the forecast leaned; None where it leans nowhere, or nobody knows yet."""
    after = close_at((forecast.symbol, forecast.as_of_ms + forecast.horizon_ms))
    if after is None or forecast.prob_up == 0.5:
        return None
    return (after > forecast.price) == (forecast.prob_up > 0.5)
