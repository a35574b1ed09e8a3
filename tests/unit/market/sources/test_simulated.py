import numpy as np
import polars as pl
import pytest

from levibot_core.errors import UnknownSymbolError
from levibot_core.market.quality import assess_candles
from levibot_core.market.simulator import ANCHOR_MS, SimulationParameters
from levibot_core.market.sources.simulated import SimulatedSource
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.schemas import CANDLES, FEAR_GREED, FUNDING_RATES

FIVE = Timeframe.parse("5m")
HOUR = Timeframe.parse("1h")
NOW = ANCHOR_MS + 360 * MILLISECONDS_PER_DAY + 123_456
PARAMETERS = SimulationParameters(seed=3, edge=0.1)


def source(now_ms: int = NOW, timeframe: Timeframe = FIVE) -> SimulatedSource:
    return SimulatedSource(PARAMETERS, timeframe, lambda: now_ms)


def test_candles_end_with_the_last_closed_bar_and_pass_every_quality_rule() -> None:
    simulated = source()

    frame = simulated.candles("BTC/USDT", "spot", FIVE, ANCHOR_MS, NOW + MILLISECONDS_PER_DAY)
    report = assess_candles(frame, FIVE, simulated.known_halts(), NOW)

    assert CANDLES.violations(frame) == []
    assert simulated.latest_close_ms("BTC/USDT", "spot", FIVE) == FIVE.floor(NOW)
    assert frame["known_at"].dt.epoch("ms").max() == FIVE.floor(NOW)
    assert report.errors == ()
    assert {finding.rule for finding in report.findings} == {"gaps"}


def test_halts_are_gaps_of_all_symbols_that_the_report_names() -> None:
    simulated = source()
    halts = simulated.known_halts()

    for symbol in ("BTC/USDT", "ETH/USDT"):
        frame = simulated.candles(symbol, "spot", FIVE, ANCHOR_MS, NOW)
        gaps = assess_candles(frame, FIVE, halts, NOW).of("gaps")
        assert [(gap.start_ms, gap.end_ms) for gap in gaps] == [(halt.start_ms, halt.end_ms) for halt in halts]
        assert [gap.halt for gap in gaps] == [str(halt) for halt in halts]


def test_a_window_given_later_holds_what_was_given_before() -> None:
    start, middle = ANCHOR_MS + 40 * MILLISECONDS_PER_DAY, ANCHOR_MS + 50 * MILLISECONDS_PER_DAY

    before = source(now_ms=middle).candles("SOL/USDT", "spot", FIVE, start, NOW)
    after = source().candles("SOL/USDT", "spot", FIVE, start, middle)

    assert before.equals(after)


def test_nothing_is_known_before_the_anchor() -> None:
    simulated = source()

    assert simulated.candles("BTC/USDT", "spot", FIVE, 0, ANCHOR_MS).is_empty()
    assert simulated.funding_rates("BTC/USDT", 0, ANCHOR_MS).equals(FUNDING_RATES.empty())
    assert simulated.fear_greed(0, ANCHOR_MS).equals(FEAR_GREED.empty())


@pytest.mark.parametrize("timeframe", [FIVE, HOUR, Timeframe.parse("1d")])
def test_funding_settles_every_eight_hours_and_follows_momentum(timeframe: Timeframe) -> None:
    simulated = source(timeframe=timeframe)

    frame = simulated.funding_rates("BTC/USDT", ANCHOR_MS, NOW)

    assert FUNDING_RATES.violations(frame) == []
    assert frame["ts"].diff().drop_nulls().dt.total_hours().unique().to_list() == [8]
    assert frame["known_at"].equals(frame["ts"])
    assert frame.filter(pl.col("rate").abs() > 0.0075).is_empty()
    close = simulated.candles("BTC/USDT", "spot", timeframe, ANCHOR_MS, NOW).select(ts="known_at", close="close")
    day = frame.join(close, on="ts", how="inner").with_columns(momentum=pl.col("close") / pl.col("close").shift(3) - 1)
    if timeframe is FIVE:
        moves = day.drop_nulls()
        assert np.corrcoef(moves["rate"], moves["momentum"])[0, 1] > 0.8


def test_funding_and_index_use_nothing_later_than_they_are_known() -> None:
    earlier = ANCHOR_MS + 100 * MILLISECONDS_PER_DAY

    rates, index = source(now_ms=earlier).funding_rates("BTC/USDT", 0, NOW), source(now_ms=earlier).fear_greed(0, NOW)

    assert rates.equals(source().funding_rates("BTC/USDT", 0, earlier + 1))
    assert index.equals(source().fear_greed(0, earlier).filter(pl.col("known_at").dt.epoch("ms") <= earlier))
    assert rates["ts"].dt.epoch("ms").max() == earlier


def test_the_index_is_daily_known_after_its_day_and_worded_by_its_value() -> None:
    frame = source().fear_greed(0, NOW)

    assert FEAR_GREED.violations(frame) == []
    assert (frame["known_at"] - frame["ts"]).dt.total_days().unique().to_list() == [1]
    assert frame["ts"].diff().drop_nulls().dt.total_days().unique().to_list() == [1]
    assert frame.filter(pl.col("value") < 40).height > 0
    assert frame.filter(pl.col("value") > 60).height > 0
    assert set(frame.filter(pl.col("value") < 25)["classification"]) <= {"Extreme Fear"}
    assert set(frame.filter(pl.col("value").is_between(45, 55))["classification"]) == {"Neutral"}


@pytest.mark.parametrize(
    ("edge", "key", "words"),
    [
        (0.1, "simulated-s3-e0.10", "a planted edge of 0.10"),
        (0.125, "simulated-s3-e0.125", "a planted edge of 0.125"),
        (0.0, "simulated-s3-e0.00", "no edge at all"),
    ],
)
def test_the_identity_tells_seed_and_edge_and_is_loud(edge: float, key: str, words: str) -> None:
    identity = SimulatedSource(SimulationParameters(3, edge), FIVE).identity

    assert (identity.kind, identity.key, identity.venue) == ("simulated", key, "simulated")
    assert words in identity.description
    assert identity.announcement.startswith("MARKET DATA: SIMULATED - ")


def test_a_symbol_without_a_simulation_is_named() -> None:
    with pytest.raises(UnknownSymbolError, match="NOPE/USDT"):
        source().candles("NOPE/USDT", "spot", FIVE, 0, NOW)
    with pytest.raises(UnknownSymbolError, match="NOPE/USDT"):
        source().funding_rates("NOPE/USDT", 0, NOW)
