"""Markets of recorded candles: what is destroyed, what stays, and that they are read as any recording."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from levibot_core.errors import DataQualityError
from levibot_core.market.quality import QualityRules, assess_candles
from levibot_core.market.sources.recorded import RecordedSource
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.schemas import TIMESTAMP
from levibot_core.validation.destroyed_market import Destruction, Recordings, destroyed, read_recordings

_HOURLY = Timeframe.parse("1h")
_START_MS = 1_704_067_200_000
_DAYS, _SYMBOLS = 60, ("BTC/USDT", "ETH/USDT")


@pytest.fixture(scope="module")
def recorded() -> Recordings:
    """Sixty days of two symbols that always rise, the more the later in the day."""
    generator, bars = np.random.default_rng(1), _DAYS * 24
    times = pl.Series(_START_MS + 3_600_000 * np.arange(bars)).cast(TIMESTAMP)
    shared = np.abs(generator.normal(size=bars)) * 1e-3 * (1 + np.arange(bars) % 24)
    parts = []
    for symbol in _SYMBOLS:
        close = 100.0 * np.exp(np.cumsum(shared))
        opened = close / np.exp(shared)
        columns = {"open": opened, "high": close * 1.001, "low": opened * 0.9995, "close": close, "volume": 1 / close}
        parts.append(pl.DataFrame({"ts": times, "symbol": pl.repeat(symbol, bars, eager=True), **columns}))
    settled = times.gather_every(8)
    funding = pl.DataFrame({"ts": settled, "symbol": "BTC/USDT", "funding_rate": np.linspace(0, 1e-4, settled.len())})
    values = pl.Series("value", range(_DAYS), dtype=pl.Int32)
    index = pl.DataFrame({"date": times.gather_every(24).dt.date(), "value": values, "classification": "Fear"})
    return Recordings(pl.concat(parts), funding, index)


def _moves(drawn: Recordings, symbol: str = "BTC/USDT") -> np.ndarray:
    own = drawn.candles.filter(pl.col("symbol") == symbol)
    return (own["close"] / own["open"]).log().to_numpy()


def _draw(recorded: Recordings, what: Destruction, seed: int = 3) -> Recordings:
    return destroyed(recorded, what, _HOURLY, _START_MS, 90, seed)


@pytest.mark.parametrize("what", ["sign", "order"])
def test_a_destroyed_market_is_read_as_a_recording_and_passes_the_quality_rules(
    recorded: Recordings, what: Destruction, tmp_path: Path
) -> None:
    _draw(recorded, what).write(tmp_path, "spot", _HOURLY)
    source = RecordedSource(tmp_path)
    end_ms = _START_MS + 90 * MILLISECONDS_PER_DAY
    candles = pl.concat(source.candles(symbol, "spot", _HOURLY, 0, end_ms) for symbol in _SYMBOLS)
    assert candles.height == 2 * 90 * 24
    assert assess_candles(candles, _HOURLY, (), end_ms, QualityRules.for_source("recorded")).errors == ()
    assert source.funding_rates("BTC/USDT", 0, end_ms).height == 90 * 3
    assert source.funding_rates("ETH/USDT", 0, end_ms).is_empty()
    assert source.fear_greed(0, end_ms).height == 90
    again = read_recordings(source, _SYMBOLS, "spot", _HOURLY)
    assert again.candles.sort("symbol", "ts").equals(_draw(recorded, what).candles.sort("symbol", "ts"))


def test_without_its_sign_a_market_falls_as_often_as_it_rises_and_keeps_its_sizes(recorded: Recordings) -> None:
    drawn, before = _draw(recorded, "sign"), _moves(recorded)
    moves, other = _moves(drawn), _moves(drawn, "ETH/USDT")
    assert 0.47 < (moves > 0).mean() < 0.53
    assert abs(np.corrcoef(moves[1:] > 0, moves[:-1] > 0)[0, 1]) < 0.05
    assert moves == pytest.approx(other)
    sizes = {round(size, 9) for size in before.tolist()}
    assert {round(abs(move), 9) for move in moves.tolist()} <= sizes
    by_hour = np.abs(moves).reshape(-1, 24).mean(axis=0)
    assert by_hour[20:].min() > 2 * by_hour[:4].max()
    candles = drawn.candles.with_columns(up=pl.col("high") / pl.max_horizontal("open", "close") - 1)
    assert sorted(candles["up"].round(4).unique().to_list()) == pytest.approx([0.0005, 0.001])


def test_without_its_order_every_bar_is_one_of_the_recorded_ones(recorded: Recordings) -> None:
    moves = _moves(_draw(recorded, "order"))
    assert {round(move, 9) for move in moves.tolist()} <= {round(move, 9) for move in _moves(recorded).tolist()}
    by_hour = moves.reshape(-1, 24).mean(axis=0)
    assert by_hour.max() < 2 * by_hour.min()
    assert abs(np.corrcoef(moves[1:], moves[:-1])[0, 1]) < 0.07


def test_a_seed_is_a_market(recorded: Recordings) -> None:
    assert _draw(recorded, "sign").candles.equals(_draw(recorded, "sign").candles)
    assert not _draw(recorded, "sign").candles.equals(_draw(recorded, "sign", seed=4).candles)


def test_days_that_one_symbol_lacks_are_not_drawn_and_too_few_are_refused(recorded: Recordings) -> None:
    first = pl.col("ts").dt.date() < pl.date(2024, 1, 31)
    lacking = recorded.candles.filter(~((pl.col("symbol") == "ETH/USDT") & first & (pl.col("ts").dt.hour() == 5)))
    kept = destroyed(Recordings(lacking, recorded.funding, recorded.fear_greed), "order", _HOURLY, _START_MS, 5, 1)
    late = {round(move, 9) for move in _moves(recorded)[30 * 24 :].tolist()}
    assert {round(move, 9) for move in _moves(kept).tolist()} <= late
    with pytest.raises(DataQualityError, match="Expected at least 30 days"):
        destroyed(Recordings(lacking.filter(first), recorded.funding, recorded.fear_greed), "sign", _HOURLY, 0, 5, 1)
