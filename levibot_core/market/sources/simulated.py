"""The simulated market as a source: the bars of `levibot_core.market.simulator`, and what is derived from them.

Funding follows the momentum of the last day, the fear and greed index that of the last week and its volatility; both
use nothing later than the instant they are known. Spot and perpetual share one path.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from levibot_core.market.halts import Halt
from levibot_core.market.simulator import (
    ANCHOR_MS,
    VENUE,
    SimulationParameters,
    Vector,
    month_generator,
    month_of,
    month_start_ms,
    require_listed,
    simulate,
    simulated_halts,
)
from levibot_core.market.sources.base import Clock, SourceIdentity, system_clock
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.schemas import CANDLES, FEAR_GREED, FUNDING_RATES, TIMESTAMP, Table

Instants = npt.NDArray[np.int64]

FUNDING_INTERVAL_MS = 8 * 3_600_000
_FUNDING_BASE, _FUNDING_PER_MOMENTUM, _FUNDING_NOISE, _FUNDING_LIMIT = 1e-4, 5e-3, 3e-5, 7.5e-3
_INDEX_SYMBOL, _INDEX_DAYS = "BTC/USDT", 7
_CLASSES = ((24, "Extreme Fear"), (44, "Fear"), (55, "Neutral"), (75, "Greed"), (100, "Extreme Greed"))


class SimulatedSource:
    """A `MarketSource` without a market. What is trained on it is never tradable.

    Args:
        parameters: Which simulated market.
        timeframe: The timeframe whose path funding and the index are derived from: the one the home works on.
        clock: Current time in UTC milliseconds; the newest bar is the last one closed by then.
    """

    def __init__(self, parameters: SimulationParameters, timeframe: Timeframe, clock: Clock = system_clock) -> None:
        edge = parameters.edge
        shown = f"{edge:.2f}" if round(edge, 2) == edge else repr(edge)
        planted = f"a planted edge of {shown}" if edge else "no edge at all"
        self.identity = SourceIdentity(
            "simulated",
            f"simulated-s{parameters.seed}-e{shown}",
            VENUE,
            f"invented by a simulator with seed {parameters.seed} and {planted}; "
            "nothing trained on it is ever tradable",
        )
        self._parameters, self._timeframe, self._clock = parameters, timeframe, clock

    def candles(self, symbol: str, market: str, timeframe: Timeframe, start_ms: int, end_ms: int) -> pl.DataFrame:
        """Closed simulated candles; bars that lie wholly inside a trading halt are missing.

        Raises:
            UnknownSymbolError: the simulated market does not list the symbol.
        """
        end_ms = min(end_ms, self.latest_close_ms(symbol, market, timeframe))
        bars = simulate(self._parameters, symbol, timeframe, start_ms, end_ms)
        frame = pl.DataFrame(
            {
                "ts": bars.open_ms,
                "open": bars.open,
                "high": bars.high,
                "low": bars.low,
                "close": bars.close,
                "volume": bars.volume,
            }
        )
        for halt in simulated_halts(self._parameters, end_ms):
            closes = pl.col("ts") + timeframe.milliseconds
            frame = frame.filter(~((pl.col("ts") >= halt.start_ms) & (closes <= halt.end_ms)))
        known_at = pl.col("ts") + timeframe.milliseconds
        return _stamped(frame.with_columns(pl.lit(symbol).alias("symbol"), known_at.alias("known_at")), CANDLES)

    def funding_rates(self, symbol: str, start_ms: int, end_ms: int) -> pl.DataFrame:
        """Funding settled every 8 hours, tied to the momentum of the day before.

        Raises:
            UnknownSymbolError: the simulated market does not list the symbol.
        """
        first = max(start_ms, ANCHOR_MS + 2 * MILLISECONDS_PER_DAY)
        settled = _grid(first, min(end_ms, self._clock() + 1), FUNDING_INTERVAL_MS)
        close_at = self._closes(symbol, end_ms)
        momentum = close_at(settled) / close_at(settled - MILLISECONDS_PER_DAY) - 1
        noise = self._funding_noise(symbol, settled)
        rate = _FUNDING_BASE + _FUNDING_PER_MOMENTUM * momentum + _FUNDING_NOISE * noise
        frame = pl.DataFrame({"ts": settled, "rate": np.clip(rate, -_FUNDING_LIMIT, _FUNDING_LIMIT)})
        named = frame.with_columns(pl.lit(symbol).alias("symbol"), pl.col("ts").alias("known_at"))
        return _stamped(named, FUNDING_RATES)

    def fear_greed(self, start_ms: int, end_ms: int) -> pl.DataFrame:
        """An index of days that have ended: high after a rise, low after a fall or in rough markets."""
        first = max(start_ms, ANCHOR_MS + _INDEX_DAYS * MILLISECONDS_PER_DAY)
        ended = self._clock() - MILLISECONDS_PER_DAY + 1
        days = _grid(first, min(end_ms, ended), MILLISECONDS_PER_DAY)
        ends = days + MILLISECONDS_PER_DAY
        close_at = self._closes(_INDEX_SYMBOL, end_ms + MILLISECONDS_PER_DAY)
        week = np.stack([close_at(ends - lag * MILLISECONDS_PER_DAY) for lag in range(_INDEX_DAYS, -1, -1)])
        roughness = np.abs(np.diff(np.log(week), axis=0)).mean(axis=0)
        mood = 4.0 * (week[-1] / week[0] - 1) - 8.0 * (roughness - 0.02)
        value = np.clip(np.rint(50 + 50 * np.tanh(mood)), 0, 100).astype(np.int32)
        words = [next(word for limit, word in _CLASSES if number <= limit) for number in value.tolist()]
        classification = pl.Series("classification", words, pl.String)
        frame = pl.DataFrame({"ts": days, "value": value, "classification": classification, "known_at": ends})
        return _stamped(frame, FEAR_GREED)

    def known_halts(self) -> Sequence[Halt]:
        """The halts of the simulated market so far."""
        return simulated_halts(self._parameters, self._clock())

    def latest_close_ms(self, symbol: str, market: str, timeframe: Timeframe) -> int:  # noqa: ARG002 - one market
        """The last bar boundary by the clock.

        Raises:
            UnknownSymbolError: the simulated market does not list the symbol.
        """
        require_listed(symbol)
        return timeframe.floor(self._clock())

    def _closes(self, symbol: str, end_ms: int) -> Callable[[Instants], Vector]:
        """A look-up of the close of the newest bar that had closed by each instant."""
        closed = self._timeframe.floor(self._clock())
        close = simulate(self._parameters, symbol, self._timeframe, ANCHOR_MS, min(end_ms, closed)).close
        return lambda instants: close[(instants - ANCHOR_MS) // self._timeframe.milliseconds - 1]

    def _funding_noise(self, symbol: str, settled: Instants) -> Vector:
        noise = np.zeros(len(settled))
        months = np.array([month_of(at) for at in settled.tolist()], dtype=np.int64)
        for month in np.unique(months).tolist():
            drawn = month_generator(self._parameters.seed, f"{symbol} funding", month).standard_normal(31 * 3)
            within = months == month
            noise[within] = drawn[(settled[within] - month_start_ms(month)) // FUNDING_INTERVAL_MS]
        return noise


def _grid(start_ms: int, end_ms: int, step_ms: int) -> Instants:
    """Multiples of the step in [start_ms, end_ms)."""
    return np.arange(-(-start_ms // step_ms) * step_ms, end_ms, step_ms, dtype=np.int64)


def _stamped(frame: pl.DataFrame, table: Table) -> pl.DataFrame:
    instants = [pl.col(name).cast(TIMESTAMP) for name in ("ts", "known_at")]
    stamped = frame.with_columns(*instants, pl.lit(0, pl.Int32).alias("revision"), pl.lit(VENUE).alias("venue"))
    return table.enforce(stamped)
