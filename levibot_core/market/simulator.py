"""The simulated market: a pure, seeded generator of candles with a planted edge of known size.

What is modelled: stochastic volatility (two log Ornstein-Uhlenbeck factors), jumps, a daily and weekly rhythm,
symbols tied by a common factor, volume, and trading halts. Per bar, the simple return is

    r_t = sigma_t * (edge * m_t + sqrt(1 - edge**2) * e_t)

where `e_t` has mean 0 and variance 1, `sigma_t` is known before the bar, and `m_t` is a latent drift: an AR(1) of
variance 1 that persists for hours and is independent of `e_t`. So `edge` is the correlation of the scaled return
with the drift behind it, the information coefficient of one bar for somebody who sees the drift. With edge 0 the
price is a martingale: no strategy has an expected profit before costs.

Values are drawn in blocks of one calendar month, keyed by [seed, symbol, month], and the state is carried from the
fixed anchor 2024-01-01 UTC. What a bar holds therefore never depends on which window was asked for or on when.
Bars are generated at the timeframe asked for, and half-lives of the drift are counted in bars: paths of different
timeframes are different markets, one is not the aggregate of the other.

Funding and the fear and greed index are derived from these bars in `levibot_core.market.sources.simulated`.
"""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from zlib import crc32

import numpy as np
import numpy.typing as npt
import polars as pl

from levibot_core.errors import UnknownSymbolError
from levibot_core.market.halts import Halt
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe

ANCHOR_MS = 1_704_067_200_000
"""Open time of the first simulated bar: 2024-01-01 00:00 UTC."""

VENUE = "simulated"
Vector = npt.NDArray[np.float64]

_SLOW_DAYS, _SLOW_SPREAD = 3.0, 0.40
_FAST_DAYS, _FAST_SPREAD = 0.125, 0.25
_JUMPS_PER_DAY, _JUMP_DAILY_DEVIATIONS = 0.25, 0.35
_WEEKEND_VOLATILITY = 0.75
_LARGEST_RETURN = 0.5
_HALTS_PER_MONTH = 0.3
_HALT_GRID_MS = 300_000


@dataclass(frozen=True, slots=True)
class SimulationParameters:
    """What distinguishes one simulated market from another."""

    seed: int = 7
    edge: float = 0.10
    """Correlation of the scaled return of a bar with the latent drift behind it; 0 is a market without an edge."""
    drift_half_life_bars: float = 48.0
    """Bars after which half of the latent drift is gone; 48 bars of 5 minutes are 4 hours."""


@dataclass(frozen=True, slots=True)
class SymbolTraits:
    """What one simulated symbol is like."""

    first_price: float
    annual_volatility: float
    market_share: float
    """Correlation of its returns with the common factor."""
    daily_turnover: float
    """Typical traded amount per day in the quote currency."""


SYMBOLS = {
    "BTC/USDT": SymbolTraits(42_000.0, 0.45, 0.90, 2.0e9),
    "ETH/USDT": SymbolTraits(2_300.0, 0.58, 0.85, 1.0e9),
    "SOL/USDT": SymbolTraits(100.0, 0.75, 0.75, 4.0e8),
    "BNB/USDT": SymbolTraits(310.0, 0.50, 0.75, 1.5e8),
    "XRP/USDT": SymbolTraits(0.62, 0.68, 0.70, 2.5e8),
    "ADA/USDT": SymbolTraits(0.60, 0.72, 0.75, 9.0e7),
    "DOGE/USDT": SymbolTraits(0.09, 0.80, 0.65, 1.5e8),
    "LTC/USDT": SymbolTraits(73.0, 0.62, 0.70, 6.0e7),
}


@dataclass(frozen=True, slots=True)
class SimulatedBars:
    """Bars of one symbol as equally long arrays. `drift` and `sigma` are what a trader cannot see."""

    open_ms: npt.NDArray[np.int64]
    open: Vector
    high: Vector
    low: Vector
    close: Vector
    volume: Vector
    drift: Vector
    """The latent drift m_t of the bar, variance 1."""
    sigma: Vector
    """Standard deviation of the bar's simple return given everything before it."""

    def between(self, start_ms: int, end_ms: int) -> "SimulatedBars":
        """The bars that open in [start_ms, end_ms)."""
        first, last = np.searchsorted(self.open_ms, (start_ms, end_ms))
        return SimulatedBars(*(getattr(self, name)[first:last] for name in self.__slots__))


def require_listed(symbol: str) -> None:
    """Refuse a symbol that the simulated market does not list.

    Raises:
        UnknownSymbolError: the message names those it lists.
    """
    if symbol not in SYMBOLS:
        raise UnknownSymbolError(f"Expected a symbol of the simulated market ({', '.join(SYMBOLS)}), was {symbol!r}.")


def simulate(
    parameters: SimulationParameters, symbol: str, timeframe: Timeframe, start_ms: int, end_ms: int
) -> SimulatedBars:
    """The bars of a symbol that open in [start_ms, end_ms), halts included; none before `ANCHOR_MS`.

    Paths are kept for the life of the process, so asking again, or for more, only adds the months that are missing.

    Raises:
        UnknownSymbolError: the simulated market does not list the symbol.
    """
    require_listed(symbol)
    return _path(parameters, symbol, timeframe).until(end_ms).between(start_ms, end_ms)


def simulated_halts(parameters: SimulationParameters, end_ms: int) -> tuple[Halt, ...]:
    """The trading halts that start before `end_ms`, for all symbols and timeframes alike."""
    halts = (_halt(parameters.seed, month) for month in range(month_of(ANCHOR_MS), month_of(end_ms) + 1))
    return tuple(halt for halt in halts if halt is not None and halt.start_ms < end_ms)


def month_generator(seed: int, stream: str, month: int) -> np.random.Generator:
    """The random generator of one stream (a symbol, or a name) in one month, counted from year 0."""
    return np.random.Generator(np.random.PCG64([seed, crc32(stream.encode()), month]))


class _Path:
    """The growing path of one symbol: whole months, each started from the state that ended the one before."""

    def __init__(self, parameters: SimulationParameters, symbol: str, timeframe: Timeframe) -> None:
        self._parameters, self._symbol, self._timeframe = parameters, symbol, timeframe
        self._state = _State.at_anchor(parameters.seed, symbol)
        self._next_month = month_of(ANCHOR_MS)
        self._bars: SimulatedBars | None = None
        self._lock = threading.Lock()

    def until(self, end_ms: int) -> SimulatedBars:
        with self._lock:
            months = [] if self._bars is None else [self._bars]
            while self._next_month <= max(month_of(end_ms), month_of(ANCHOR_MS)):
                bars, self._state = _simulate_month(
                    self._parameters, self._symbol, self._timeframe, self._next_month, self._state
                )
                months.append(bars)
                self._next_month += 1
            if len(months) > 1 or self._bars is None:
                fields = SimulatedBars.__slots__
                self._bars = SimulatedBars(*(np.concatenate([getattr(m, name) for m in months]) for name in fields))
            return self._bars


@cache
def _path(parameters: SimulationParameters, symbol: str, timeframe: Timeframe) -> _Path:
    return _Path(parameters, symbol, timeframe)


@dataclass(frozen=True, slots=True)
class _State:
    """What a month hands to the next one."""

    log_price: float
    slow: float
    common_fast: float
    own_fast: float
    drift: float
    activity: float

    @classmethod
    def at_anchor(cls, seed: int, symbol: str) -> "_State":
        common = month_generator(seed, "market at anchor", 0).standard_normal(2)
        own = month_generator(seed, f"{symbol} at anchor", 0).standard_normal(3)
        return cls(float(np.log(SYMBOLS[symbol].first_price)), *common.tolist(), *own.tolist())


def _simulate_month(
    parameters: SimulationParameters, symbol: str, timeframe: Timeframe, month: int, state: _State
) -> tuple[SimulatedBars, _State]:
    traits, edge = SYMBOLS[symbol], parameters.edge
    start_ms, end_ms = month_start_ms(month), month_start_ms(month + 1)
    open_ms = np.arange(start_ms, end_ms, timeframe.milliseconds, dtype=np.int64)
    bars, bars_per_day = len(open_ms), MILLISECONDS_PER_DAY / timeframe.milliseconds
    market, own = (month_generator(parameters.seed, stream, month) for stream in ("market", symbol))
    common, common_slow, common_fast, jump_size = market.standard_normal((4, bars))
    jumps = np.where(market.random(bars) < _JUMPS_PER_DAY / bars_per_day, jump_size, 0.0)
    noise, own_fast, drift, activity = own.standard_normal((4, bars))
    high_draw, low_draw = -np.log1p(-own.random((2, bars)))

    slow = _autoregression(common_slow, _SLOW_DAYS * bars_per_day, state.slow)
    fast_common = _autoregression(common_fast, _FAST_DAYS * bars_per_day, state.common_fast)
    fast_own = _autoregression(own_fast, _FAST_DAYS * bars_per_day, state.own_fast)
    drift = _autoregression(drift, parameters.drift_half_life_bars, state.drift)
    activity = _autoregression(activity, _FAST_DAYS * bars_per_day, state.activity)
    log_volatility = _SLOW_SPREAD * slow + _FAST_SPREAD * np.sqrt(0.5) * (fast_common + fast_own)
    rhythm = _rhythm(open_ms)
    sigma = traits.annual_volatility / np.sqrt(timeframe.bars_per_year) * rhythm
    sigma = sigma * np.exp(log_volatility - _SLOW_SPREAD**2 - _FAST_SPREAD**2)

    share = traits.market_share
    gaussian = share * common + np.sqrt(1 - share**2) * noise
    jump_scale = _JUMP_DAILY_DEVIATIONS * np.sqrt(bars_per_day)
    shock = (gaussian + jump_scale * jumps) / np.sqrt(1 + _JUMPS_PER_DAY / bars_per_day * jump_scale**2)
    # The symmetric limit keeps the mean at zero; it is reached only on bars of hours and days.
    simple = np.clip(sigma * (edge * drift + np.sqrt(1 - edge**2) * shock), -_LARGEST_RETURN, _LARGEST_RETURN)
    log_close = state.log_price + np.cumsum(np.log1p(simple))
    log_open = np.concatenate(([state.log_price], log_close[:-1]))
    # Extremes of a Brownian bridge from open to close, by inversion: the maximum lies (x + sqrt(x^2 + 2 s^2 E)) / 2
    # above the open for a move x, a spread s and E exponential with mean 1; the minimum likewise below it.
    move = log_close - log_open
    top = 0.5 * (move + np.sqrt(move**2 + 2 * sigma**2 * high_draw))
    bottom = 0.5 * (move - np.sqrt(move**2 + 2 * sigma**2 * low_draw))
    opens, closes = np.exp(log_open), np.exp(log_close)
    highs = np.maximum(np.exp(log_open + top), np.maximum(opens, closes))
    lows = np.minimum(np.exp(log_open + bottom), np.minimum(opens, closes))
    turnover = traits.daily_turnover / bars_per_day * rhythm**1.5
    turnover = turnover * np.exp(0.9 * log_volatility + 0.3 * np.abs(shock) + 0.35 * activity - 0.4)
    state_after = _State(
        float(log_close[-1]), *(float(series[-1]) for series in (slow, fast_common, fast_own, drift, activity))
    )
    return SimulatedBars(open_ms, opens, highs, lows, closes, turnover / closes, drift, sigma), state_after


def _autoregression(shocks: Vector, half_life_bars: float, before: float) -> Vector:
    """An AR(1) of variance 1 that continues after the value `before`.

    `y_t = p y_(t-1) + sqrt(1 - p^2) shock_t`, written as the exponentially weighted mean it is.
    """
    persistence = 0.5 ** (1 / half_life_bars)
    scaled = shocks * (np.sqrt(1 - persistence**2) / (1 - persistence))
    weighted = pl.Series(np.concatenate(([before], scaled))).ewm_mean(alpha=1 - persistence, adjust=False)
    return weighted.to_numpy()[1:]


def _rhythm(open_ms: npt.NDArray[np.int64]) -> Vector:
    """Volatility by time of day and week around 1: busiest at 15 UTC, quiet at weekends."""
    hours = (open_ms % MILLISECONDS_PER_DAY) / 3_600_000
    by_hour = 1 + 0.30 * np.cos(2 * np.pi * (hours - 15) / 24) + 0.08 * np.cos(4 * np.pi * (hours - 14) / 24)
    weekday = (open_ms // MILLISECONDS_PER_DAY + 3) % 7  # 1970-01-01 was a Thursday; 0 is Monday
    return np.asarray(by_hour * np.where(weekday >= 5, _WEEKEND_VOLATILITY, 1.0), dtype=np.float64)


@cache
def _halt(seed: int, month: int) -> Halt | None:
    generator = month_generator(seed, "halts", month)
    happens, position, length = generator.random(3)
    if happens >= _HALTS_PER_MONTH:
        return None
    start, end = month_start_ms(month), month_start_ms(month + 1)
    start_ms = start + int(position * (end - start - MILLISECONDS_PER_DAY)) // _HALT_GRID_MS * _HALT_GRID_MS
    steps = 6 + int(length * 25)
    return Halt(VENUE, start_ms, start_ms + steps * _HALT_GRID_MS, "Trading halt of the simulated market")


def month_of(milliseconds: int) -> int:
    """The calendar month (UTC) of an instant, counted from year 0."""
    at = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return at.year * 12 + at.month - 1


def month_start_ms(month: int) -> int:
    """The first instant of a month counted from year 0, UTC milliseconds."""
    return int(datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp() * 1000)
