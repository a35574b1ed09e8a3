"""Features of candles that a caller sent: the bits of the batch, or a refusal that names its cause."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import MarketDataUnavailableError, MissingFeatureError, UnusableCandlesError
from levibot_core.features.compute import compute_features
from levibot_core.features.inputs import origins_of
from levibot_core.features.on_demand import WantedFeatures, newest_from_lake
from levibot_core.features.registry import load_registry, newest_version
from levibot_core.features.sent_candles import usable_candles
from levibot_core.features.sent_features import features_of_sent
from levibot_core.features.sent_market import CandleRow, SentMarket
from levibot_core.market.sources.base import SourceIdentity
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import CANDLES, FUNDING_RATES, TIMESTAMP
from levibot_core.stores.lake import Lake
from levibot_core.stores.paths import candles_dataset

BAR = Timeframe.parse("5m")
STEP = BAR.milliseconds
START = 1_767_225_600_000
BTC, ETH = "BTC/USDT", "ETH/USDT"
NAMES = ("log_return_1", "realized_volatility_48", "leader_return_3")
NO_FUNDING = FUNDING_RATES.empty()


def walk(seed: int, bars: int = 80) -> list[CandleRow]:
    random = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(random.normal(0.0, 0.002, bars)))
    first = np.concatenate([[100.0], close[:-1]])
    high, low = np.maximum(first, close) * 1.001, np.minimum(first, close) * 0.999
    volume = random.uniform(1.0, 9.0, bars)
    columns = [column.tolist() for column in (first, high, low, close, volume)]
    return [(START + number * STEP, *row) for number, row in enumerate(zip(*columns, strict=True))]


def frame(symbol: str, rows: list[CandleRow]) -> pl.DataFrame:
    return usable_candles(symbol, rows, BAR, len(rows), rows[-1][0] + STEP)


def wanted(symbol: str = ETH, names: tuple[str, ...] = NAMES, version: str = "v1", window: int = 1) -> WantedFeatures:
    return WantedFeatures.of(symbol, names, ["realized_volatility_48", "unheard_of"], version, BAR, window)


def sent(rows: list[CandleRow], leader: list[CandleRow] | None = None) -> SentMarket:
    return SentMarket(rows, leader or [], [], [], "exchange")


def now_after(rows: list[CandleRow]) -> int:
    return rows[-1][0] + STEP


def bits(values: Any) -> bytes:
    return np.asarray(values, dtype=np.float64).tobytes()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.mark.parametrize("window", [1, 5])
def test_sent_candles_give_the_bits_of_the_batch(lake: Lake, window: int) -> None:
    own, leader = walk(1), walk(2)
    asked = wanted(window=window)
    found = features_of_sent(asked, sent(own[-asked.bars_needed :], leader), lake, "spot", now_after(own))
    offline = compute_features(
        pl.concat([frame(ETH, own), frame(BTC, leader)]), NO_FUNDING, load_registry("v1").only(NAMES), BAR
    ).filter(pl.col("symbol") == ETH)
    assert bits([found.vector.values[name] for name in NAMES]) == bits(offline.tail(1).select(NAMES).row(0))
    assert (found.vector.ts_ms, found.vector.known_at_ms, found.vector.close) == (
        own[-1][0],
        now_after(own),
        own[-1][4],
    )
    if window > 1:
        assert found.bars is not None
        assert bits(found.bars) == bits(offline.tail(window).select(NAMES).to_numpy())


def test_recorded_candles_give_the_bits_of_the_whole_history(market_data: Path, lake: Lake) -> None:
    whole = pl.concat(
        pl.read_parquet(market_data / f"candles_5m_binance_spot_{name}_2022-2023.parquet").slice(20_000, 1_400)
        for name in ("BTCUSDT", "ETHUSDT")
    )
    newest = load_registry(newest_version())
    published = {"funding", "fear_greed"}
    names = tuple(spec.name for spec in newest.features if not published & set(origins_of(spec.inputs)))
    known = whole.with_columns(known_at=pl.col("ts") + pl.duration(milliseconds=STEP, time_unit="ms"))
    offline = compute_features(known, NO_FUNDING, newest.only(names), BAR).filter(pl.col("symbol") == ETH)
    columns = ("open", "high", "low", "close", "volume")
    rows = {
        symbol: list(
            zip(own["ts"].dt.epoch("ms").to_list(), *(own[column].to_list() for column in columns), strict=True)
        )
        for (symbol,), own in whole.partition_by("symbol", as_dict=True).items()
    }
    asked = WantedFeatures.of(ETH, names, [], newest.version, BAR, 1)
    for last in (1_399, 1_221):
        end = [part[: last + 1][-asked.bars_needed :] for part in (rows[ETH], rows[BTC])]
        found = features_of_sent(asked, sent(*end), lake, "spot", now_after(end[0]))
        row = offline.filter(pl.col("ts").dt.epoch("ms") == end[0][-1][0]).select(names).row(0)
        assert bits([found.vector.values[name] for name in names]) == bits(row)


GOOD = walk(3, 60)
NOW = now_after(GOOD)


def broken(place: int, column: int, value: float | None) -> list[CandleRow]:
    rows = [list(row) for row in GOOD]
    rows[place][column] = value
    return [tuple(row) for row in rows]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("rows", "now_ms", "cause", "told"),
    [
        (GOOD[-10:], NOW, "too_few", "at least 49 successive closed bars of 5m, was 10"),
        ([], NOW, "too_few", "was 0"),
        ([*GOOD[:40], *GOOD[41:]], NOW, "gap", "2026-01-01T03:20:00+00:00 is missing"),
        (GOOD, NOW - 1, "unclosed", "closes at 2026-01-01T05:00:00+00:00"),
        (broken(50, 4, math.nan), NOW, "not_finite", "nan as close of 2026-01-01T04:10:00"),
        (broken(50, 5, None), NOW, "not_finite", "volume"),
        (broken(59, 2, math.inf), NOW, "not_finite", "high"),
        (broken(50, 3, -1.0), NOW, "impossible", "low -1"),
        (broken(50, 2, 1.0), NOW, "impossible", "high 1"),
        (broken(50, 5, -0.5), NOW, "impossible", "volume -0.5"),
        ([*GOOD[:30], GOOD[31], GOOD[30], *GOOD[32:]], NOW, "out_of_order", "Sort"),
        ([*GOOD, GOOD[-1]], NOW, "out_of_order", "each once"),
        ([(row[0] + 1, *row[1:]) for row in GOOD], NOW + 9, "off_grid", "5m grid"),
        ([(row[0] // 1000, *row[1:]) for row in GOOD], NOW, "off_grid", "in seconds. Multiply by 1000"),
    ],
)
def test_candles_that_cannot_be_used_are_refused_with_their_cause(
    rows: list[CandleRow], now_ms: int, cause: str, told: str
) -> None:
    with pytest.raises(UnusableCandlesError) as refused:
        usable_candles(ETH, rows, BAR, 49, now_ms)
    assert (refused.value.cause, refused.value.needed) == (cause, 49)
    assert told in str(refused.value)


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 59), column=st.integers(1, 5), value=st.sampled_from([math.nan, None, -1.0, 1e30]))
def test_a_row_that_is_looked_at_and_makes_no_sense_is_never_computed_from(
    place: int, column: int, value: float | None
) -> None:
    rows = broken(place, column, value)
    looked_at = place >= 60 - 49
    sensible = (column, value) in {(2, 1e30), (5, 1e30)}
    if sensible or not looked_at:
        assert usable_candles(ETH, rows, BAR, 49, NOW).height == 49
    else:
        with pytest.raises(UnusableCandlesError):
            usable_candles(ETH, rows, BAR, 49, NOW)


def test_candles_of_the_leader_are_the_callers_or_the_lakes(lake: Lake) -> None:
    own, leader = walk(1), walk(2)
    with pytest.raises(UnusableCandlesError, match="Send them as leader_candles"):
        features_of_sent(wanted(), sent(own), lake, "spot", now_after(own))
    fill(lake, BTC, leader)
    from_lake = features_of_sent(wanted(), sent(own), lake, "spot", now_after(own))
    assert from_lake == features_of_sent(wanted(), sent(own, leader), lake, "spot", now_after(own))
    # The leader itself needs nobody else's.
    assert features_of_sent(wanted(BTC), sent(leader), lake, "spot", now_after(leader)).vector.symbol == BTC


def test_a_feature_that_is_not_defined_is_named_with_what_it_would_need(lake: Lake) -> None:
    own = walk(1)
    names = ("log_return_1", "funding_rate_last")
    asked = wanted(names=names)
    with pytest.raises(MissingFeatureError, match=r"undefined for funding_rate_last\. Give settled funding rates"):
        features_of_sent(asked, sent(own), lake, "spot", now_after(own))
    with_funding = SentMarket(own, [], [(own[-5][0] - own[-5][0] % 28_800_000, 0.0001)], [], "exchange")
    found = features_of_sent(asked, with_funding, lake, "spot", now_after(own))
    assert found.vector.values["funding_rate_last"] == 0.0001

    still = [(row[0], 5.0, 5.0, 5.0, 5.0, 1.0) for row in own]
    with pytest.raises(MissingFeatureError, match="Nothing moved or was traded"):
        features_of_sent(wanted(names=("rsi_14",)), sent(still), lake, "spot", now_after(own))


def test_a_feature_that_the_set_does_not_have_is_refused() -> None:
    with pytest.raises(MissingFeatureError, match="was return_1"):
        wanted(names=("return_1",))


def test_the_newest_candles_of_the_lake_give_the_bits_of_the_batch(lake: Lake) -> None:
    with pytest.raises(MarketDataUnavailableError, match="nothing was ingested"):
        newest_from_lake(wanted(), lake, "spot")
    own, leader = walk(1), walk(2)
    fill(lake, ETH, own)
    fill(lake, BTC, leader)
    found = newest_from_lake(wanted(), lake, "spot")
    assert found == features_of_sent(wanted(), sent(own, leader), lake, "spot", now_after(own))

    fill(lake, ETH, [(START + 82 * STEP, 1.0, 1.0, 1.0, 1.0, 1.0)])  # after a gap
    with pytest.raises(MissingFeatureError):
        newest_from_lake(wanted(), lake, "spot")


def fill(lake: Lake, symbol: str, rows: list[CandleRow]) -> None:
    lake.set_current_source(SourceIdentity("exchange", "exchange-test", "test", "a test"))
    candles = frame(symbol, rows).with_columns(revision=pl.lit(0, pl.Int32), venue=pl.lit("test"))
    assert candles.schema["ts"] == TIMESTAMP
    lake.append(candles_dataset("exchange-test", "spot", "5m"), candles.select(CANDLES.polars_schema.names()), START)
