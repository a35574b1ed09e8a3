import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import UnknownSymbolError
from levibot_core.market.simulator import (
    ANCHOR_MS,
    SYMBOLS,
    SimulatedBars,
    SimulationParameters,
    simulate,
    simulated_halts,
)
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe

FIVE = Timeframe.parse("5m")
YEAR_END = ANCHOR_MS + 366 * MILLISECONDS_PER_DAY  # 2025-01-01
FIELDS = SimulatedBars.__slots__


def bars_of(edge: float, symbol: str = "BTC/USDT", seed: int = 3, timeframe: Timeframe = FIVE) -> SimulatedBars:
    return simulate(SimulationParameters(seed, edge), symbol, timeframe, ANCHOR_MS, YEAR_END)


def scaled_returns(bars: SimulatedBars) -> np.ndarray:
    return (bars.close / bars.open - 1) / bars.sigma


def same(left: SimulatedBars, right: SimulatedBars) -> bool:
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in FIELDS)


@settings(max_examples=25, deadline=None)
@given(start=st.integers(0, 75_000), length=st.integers(0, 30_000))
def test_what_a_bar_holds_does_not_depend_on_the_window_asked_for(start: int, length: int) -> None:
    whole = bars_of(0.1)
    first = ANCHOR_MS + start * FIVE.milliseconds

    window = simulate(SimulationParameters(3, 0.1), "BTC/USDT", FIVE, first, first + length * FIVE.milliseconds)

    expected = whole.between(first, first + length * FIVE.milliseconds)
    assert same(window, expected)


def test_what_a_bar_holds_does_not_depend_on_how_far_the_path_has_grown() -> None:
    month = 31 * MILLISECONDS_PER_DAY
    # Parameters that no other test uses, so that the path begins here and grows in steps.
    parameters = SimulationParameters(seed=991)

    short = simulate(parameters, "ETH/USDT", FIVE, ANCHOR_MS, ANCHOR_MS + month // 2)
    long = simulate(parameters, "ETH/USDT", FIVE, ANCHOR_MS, ANCHOR_MS + 8 * month)

    assert same(short, long.between(ANCHOR_MS, ANCHOR_MS + month // 2))
    assert len(long.open) == 8 * 31 * 288


def test_seeds_and_symbols_are_different_paths_and_timeframes_different_markets() -> None:
    closes = [bars_of(0.1).close[-1], bars_of(0.1, seed=4).close[-1], bars_of(0.1, "ETH/USDT").close[-1]]

    assert len(set(closes)) == 3
    assert len(bars_of(0.1, timeframe=Timeframe.parse("1h")).open) == 366 * 24
    assert len(bars_of(0.1, timeframe=Timeframe.parse("1d")).open) == 366


@pytest.mark.parametrize("timeframe", ["5m", "1h", "1d"])
@pytest.mark.parametrize("symbol", ["BTC/USDT", "DOGE/USDT"])
def test_bars_are_sound(symbol: str, timeframe: str) -> None:
    bars = bars_of(0.1, symbol, timeframe=Timeframe.parse(timeframe))

    assert np.all(bars.low <= np.minimum(bars.open, bars.close))
    assert np.all(bars.high >= np.maximum(bars.open, bars.close))
    assert np.all(bars.low > 0)
    assert np.all(bars.volume > 0)
    assert np.array_equal(bars.open[1:], bars.close[:-1])
    assert np.all(np.isfinite(np.stack([getattr(bars, name) for name in FIELDS])))


@pytest.mark.parametrize("edge", [0.0, 0.05, 0.10, 0.30])
def test_the_planted_edge_is_the_correlation_with_the_latent_drift(edge: float) -> None:
    bars = [bars_of(edge, symbol, seed) for symbol in list(SYMBOLS)[:4] for seed in (3, 4)]

    correlations = [np.corrcoef(scaled_returns(path), path.drift)[0, 1] for path in bars]

    # 105,408 bars each, but the drift persists: the standard error of the mean of 8 is about 0.002.
    assert np.mean(correlations) == pytest.approx(edge, abs=0.01)


def test_the_drift_has_variance_one_and_the_half_life_that_was_asked_for() -> None:
    drift = bars_of(0.1).drift

    assert drift.var() == pytest.approx(1.0, abs=0.15)
    assert np.corrcoef(drift[48:], drift[:-48])[0, 1] == pytest.approx(0.5, abs=0.06)


def test_without_an_edge_returns_have_mean_zero_and_nothing_to_extrapolate() -> None:
    paths = [bars_of(0.0, symbol, seed) for symbol in list(SYMBOLS)[:4] for seed in (3, 4)]

    for path in paths:
        returns = path.close / path.open - 1
        assert abs(returns.mean() / (returns.std() / np.sqrt(len(returns)))) < 4
    lagged = [np.corrcoef(scaled_returns(path)[1:], scaled_returns(path)[:-1])[0, 1] for path in paths]
    assert np.mean(lagged) == pytest.approx(0.0, abs=0.005)


def test_an_edge_can_be_seen_in_past_returns() -> None:
    scaled = scaled_returns(bars_of(0.2))
    hours = scaled[: len(scaled) // 48 * 48].reshape(-1, 48).sum(axis=1)

    assert np.corrcoef(hours[1:], hours[:-1])[0, 1] > 0.2


def test_the_market_looks_like_one() -> None:
    paths = {symbol: bars_of(0.1, symbol) for symbol in ("BTC/USDT", "ETH/USDT", "SOL/USDT")}
    returns = {symbol: np.diff(np.log(path.close)) for symbol, path in paths.items()}
    bitcoin = returns["BTC/USDT"]
    size = np.abs(bitcoin)

    for symbol, series in returns.items():
        assert series.std() * np.sqrt(FIVE.bars_per_year) == pytest.approx(SYMBOLS[symbol].annual_volatility, rel=0.2)
    assert np.corrcoef(bitcoin, returns["ETH/USDT"])[0, 1] > 0.6
    assert ((bitcoin - bitcoin.mean()) ** 4).mean() / bitcoin.var() ** 2 > 6  # fat tails
    assert np.corrcoef(size[1:], size[:-1])[0, 1] > 0.15  # volatility comes in clusters
    assert np.corrcoef(size, paths["BTC/USDT"].volume[1:])[0, 1] > 0.15
    by_hour = size[: len(size) // 288 * 288].reshape(-1, 24, 12).mean(axis=(0, 2))
    assert by_hour[15] > 1.3 * by_hour[3]


def test_halts_are_declared_ahead_of_nothing_and_are_the_same_however_far_one_looks() -> None:
    parameters = SimulationParameters(seed=3)

    early, late = simulated_halts(parameters, YEAR_END), simulated_halts(parameters, 2 * YEAR_END - ANCHOR_MS)

    assert late[: len(early)] == early
    assert 1 <= len(early) <= 9
    assert all(halt.start_ms < YEAR_END for halt in early)
    assert all(1_800_000 <= halt.end_ms - halt.start_ms <= 9_000_000 for halt in early)


def test_a_symbol_the_simulator_does_not_know_is_named() -> None:
    with pytest.raises(UnknownSymbolError, match=r"simulated market \(BTC/USDT, .*was 'NOPE/USDT'"):
        simulate(SimulationParameters(), "NOPE/USDT", FIVE, ANCHOR_MS, YEAR_END)
