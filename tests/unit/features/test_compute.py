"""The batch: the same bits from any slice of history, NaN in gaps, and nothing known too early."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from levibot_core.errors import DataQualityError, SchemaError
from levibot_core.features.compute import compute_features
from levibot_core.features.inputs import SERIES
from levibot_core.features.registry import load_registry
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP

V1 = load_registry("v1")
FIVE_MINUTES = Timeframe.parse("5m")
BAR_MS = FIVE_MINUTES.milliseconds
BARS = 700
SYMBOLS = ("BTC/USDT", "ETH/USDT")
OF_OWN_BARS = [spec.name for spec in V1.features if {SERIES[name].origin for name in spec.inputs} == {"own"}]

slowly = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def market(make_market: Callable[..., Any]) -> Any:
    return make_market(SYMBOLS, bars=BARS)


@pytest.fixture(scope="module")
def whole(market: Any) -> pl.DataFrame:
    return features(market.candles, market.funding)


def features(
    candles: pl.DataFrame, funding: pl.DataFrame, start_ms: int | None = None, end_ms: int | None = None
) -> pl.DataFrame:
    return compute_features(candles, funding, V1, FIVE_MINUTES, start_ms=start_ms, end_ms=end_ms)


def bits(frame: pl.DataFrame) -> bytes:
    return b"".join(frame[name].to_physical().to_numpy().tobytes() for name in frame.columns if name != "symbol")


def rows(frame: pl.DataFrame, market: Any, first: int, last: int) -> pl.DataFrame:
    """Rows of every symbol whose bar number is in [first, last]."""
    return frame.filter(pl.col("ts").is_between(open_time(market, first), open_time(market, last)))


def open_time(market: Any, bar: int) -> Any:
    return market.candles["ts"].unique().sort()[bar]


@slowly
@given(bar=st.integers(V1.warm_up - 1, BARS - 1))
def test_the_last_row_from_only_the_warm_up_has_the_bits_of_the_full_history(
    market: Any, whole: pl.DataFrame, bar: int
) -> None:
    window = rows(market.candles, market, bar - V1.warm_up + 1, bar)
    last = rows(features(window, market.funding), market, bar, bar)
    assert last.height == len(SYMBOLS)
    assert bits(last) == bits(rows(whole, market, bar, bar))
    assert not np.isnan(last.select(V1.names).to_numpy()).any()


@pytest.mark.parametrize("spec", V1.features, ids=lambda spec: spec.name)
def test_every_feature_needs_exactly_its_declared_warm_up(market: Any, whole: pl.DataFrame, spec: Any) -> None:
    bar = 500
    enough = rows(market.candles, market, bar - spec.warm_up + 1, bar)
    assert bits(features(enough, market.funding).tail(1)[[spec.name]]) == bits(
        rows(whole, market, bar, bar).tail(1)[[spec.name]]
    )
    if spec.warm_up > 1:
        short = rows(market.candles, market, bar - spec.warm_up + 2, bar)
        assert np.isnan(features(short, market.funding).tail(1)[spec.name].item())


@slowly
@given(start=st.integers(0, 300), cuts=st.lists(st.integers(300, BARS - 1), max_size=3, unique=True))
def test_neither_where_a_history_starts_nor_how_it_is_chunked_matters(
    market: Any, whole: pl.DataFrame, start: int, cuts: list[int]
) -> None:
    edges = [start + V1.warm_up - 1, *sorted(cut for cut in cuts if cut >= start + V1.warm_up), BARS]
    chunks = []
    for first, end in pairwise(edges):
        given_bars = rows(market.candles, market, first - V1.warm_up + 1, end - 1)
        start_ms = int(open_time(market, first).timestamp() * 1000)
        chunks.append(features(given_bars, market.funding, start_ms=start_ms, end_ms=start_ms + (end - first) * BAR_MS))
    joined = pl.concat(chunks).sort("symbol", "ts")
    assert bits(joined) == bits(rows(whole, market, edges[0], BARS - 1))


@slowly
@given(now=st.integers(0, BARS - 2), seed=st.integers(0, 2**32 - 1))
def test_what_comes_later_never_changes_what_was(market: Any, whole: pl.DataFrame, now: int, seed: int) -> None:
    noise = np.random.default_rng(seed).lognormal(0.0, 0.5, market.candles.height)
    future = pl.col("ts") > open_time(market, now)
    rewritten = market.candles.with_columns(
        pl.when(future).then(pl.col(name) * pl.Series(noise)).otherwise(pl.col(name)).alias(name)
        for name in ("open", "high", "low", "close", "volume")
    )
    for candles in (market.candles.filter(~future), rewritten):
        assert bits(rows(features(candles, market.funding), market, 0, now)) == bits(rows(whole, market, 0, now))


def test_the_order_of_arrival_does_not_matter(market: Any, whole: pl.DataFrame) -> None:
    shuffled = features(
        market.candles.sample(fraction=1.0, shuffle=True, seed=5),
        market.funding.sample(fraction=1.0, shuffle=True, seed=6),
    )
    assert bits(shuffled) == bits(whole)


@slowly
@given(gap=st.integers(0, BARS - 1))
def test_a_missing_bar_makes_every_window_over_it_nan_and_touches_nothing_else(
    market: Any, whole: pl.DataFrame, gap: int
) -> None:
    without = market.candles.filter((pl.col("symbol") != "ETH/USDT") | (pl.col("ts") != open_time(market, gap)))
    holed = features(without, market.funding).filter(pl.col("symbol") == "ETH/USDT")
    sound = whole.filter((pl.col("symbol") == "ETH/USDT") & (pl.col("ts") != open_time(market, gap)))
    assert holed["ts"].equals(sound["ts"])
    bar = np.delete(np.arange(BARS), gap)
    for spec in V1.features:
        expected = sound[spec.name].to_numpy().copy()
        if spec.name in OF_OWN_BARS:
            expected[(bar >= gap) & (bar < gap + spec.warm_up)] = np.nan
        assert holed[spec.name].to_numpy().tobytes() == expected.tobytes(), spec.name


def test_a_bar_that_became_known_late_counts_only_from_then_on(market: Any, whole: pl.DataFrame) -> None:
    corrected, known = 500, 510
    late = market.candles.with_columns(
        pl.when((pl.col("symbol") == "BTC/USDT") & (pl.col("ts") == open_time(market, corrected)))
        .then(open_time(market, known) + pl.duration(milliseconds=BAR_MS, time_unit="ms"))
        .otherwise(pl.col("known_at"))
        .alias("known_at")
    )
    computed = features(late, market.funding)
    for spec in V1.features:
        origins = {SERIES[name].origin for name in spec.inputs}
        for symbol in SYMBOLS:
            expected = whole.filter(pl.col("symbol") == symbol)[spec.name].to_numpy().copy()
            if "leader" in origins or ("own" in origins and symbol == "BTC/USDT"):
                expected[corrected : min(known, corrected + spec.warm_up)] = np.nan
            found = computed.filter(pl.col("symbol") == symbol)[spec.name].to_numpy()
            assert found.tobytes() == expected.tobytes(), (symbol, spec.name)


def test_the_leader_sees_its_own_return_and_the_others_see_the_leaders(whole: pl.DataFrame) -> None:
    leader, other = (whole.filter(pl.col("symbol") == symbol) for symbol in SYMBOLS)
    for bars in (1, 3, 12):
        assert bits(leader[[f"leader_return_{bars}"]]) == bits(leader[[f"log_return_{bars}"]])
        assert bits(other[[f"leader_return_{bars}"]]) == bits(leader[[f"leader_return_{bars}"]])


def test_without_the_leader_its_features_are_nan_and_the_others_are_the_same(market: Any, whole: pl.DataFrame) -> None:
    alone = features(market.candles.filter(pl.col("symbol") == "ETH/USDT"), market.funding)
    own = whole.filter(pl.col("symbol") == "ETH/USDT")
    led = [name for name in V1.names if name.startswith("leader_")]
    assert np.isnan(alone.select(led).to_numpy()).all()
    assert bits(alone.drop(led)) == bits(own.drop(led))


def test_funding_is_used_from_the_close_at_which_it_is_known(market: Any) -> None:
    settled = open_time(market, 300)  # 25 hours after the first bar
    funding = market.funding.filter(pl.col("symbol") == "ETH/USDT").head(1)
    one = funding.with_columns(ts=pl.lit(settled), known_at=pl.lit(settled), rate=pl.lit(0.25))
    computed = features(market.candles, one).filter(pl.col("symbol") == "ETH/USDT")
    rate, age = computed["funding_rate_last"].to_numpy(), computed["funding_hours_since"].to_numpy()
    assert np.isnan(rate[:299]).all()
    assert rate[299] == 0.25  # the bar that closes at the settlement
    assert age[299:302].tolist() == [0.0, BAR_MS / 3_600_000, 2 * BAR_MS / 3_600_000]
    assert rate[299 + 288] == 0.25
    assert np.isnan(rate[299 + 289 :]).all()  # older than a day: stale, not carried on
    assert np.isnan(computed["funding_rate_sum_3"].to_numpy()).all()


def test_a_settlement_that_became_known_late_leaves_what_was_known_before(market: Any) -> None:
    times = [open_time(market, bar) for bar in (100, 196, 292)]
    known = [times[0], open_time(market, 400), times[2]]
    funding = pl.DataFrame(
        {
            "symbol": ["ETH/USDT"] * 3,
            "ts": pl.Series(times, dtype=TIMESTAMP),
            "rate": [1.0, 2.0, 4.0],
            "known_at": pl.Series(known, dtype=TIMESTAMP),
        }
    )
    computed = features(market.candles, funding).filter(pl.col("symbol") == "ETH/USDT")
    last, total = computed["funding_rate_last"].to_numpy(), computed["funding_rate_sum_3"].to_numpy()
    assert [last[99], last[195], last[290], last[291], last[399]] == [1.0, 1.0, 1.0, 4.0, 4.0]
    assert np.isnan(total[398])
    assert total[399] == 7.0


def test_a_repeated_bar_a_missing_column_and_an_open_time_off_the_grid_are_refused(market: Any) -> None:
    with pytest.raises(SchemaError, match="one row per symbol and time in candles, was 1 repeated"):
        features(pl.concat([market.candles, market.candles.head(1)]), market.funding)
    with pytest.raises(SchemaError, match="was without volume"):
        features(market.candles.drop("volume"), market.funding)
    askew = market.candles.with_columns(ts=pl.col("ts") + pl.duration(seconds=1, time_unit="ms"))
    with pytest.raises(DataQualityError, match=r"5m grid, was off it in 1400 candles"):
        features(askew, market.funding)


def test_no_candles_give_an_empty_table(market: Any) -> None:
    assert features(market.candles.clear(), market.funding).equals(V1.table().empty())


def test_recorded_candles_give_the_same_bits_whole_and_in_slices(market_data: Path) -> None:
    folder = market_data / "compact"
    candles = pl.concat(
        pl.read_parquet(folder / f"candles_5m_binance_spot_{name}USDT.parquet").head(9_000)
        for name in ("BTC", "ETH", "SOL")
    ).with_columns(known_at=pl.col("ts") + pl.duration(milliseconds=BAR_MS, time_unit="ms"))
    funding = (
        pl.read_parquet(folder / "funding_8h_binance_perp.parquet")
        .rename({"funding_rate": "rate"})
        .with_columns(known_at="ts")
    )
    full = features(candles, funding)
    opens = candles["ts"].unique().sort()
    for first in (1_000, 4_095, 7_777):
        start, end = opens[first], opens[first + 1_000]
        near = candles.filter(pl.col("ts") >= opens[first - V1.warm_up + 1], pl.col("ts") < end)
        recent = funding.filter(pl.col("ts") >= start - pl.duration(hours=72), pl.col("ts") <= end)
        part = features(near, recent, start_ms=int(start.timestamp() * 1000))
        assert bits(part) == bits(full.filter(pl.col("ts") >= start, pl.col("ts") < end))
    assert not np.isnan(full.filter(pl.col("ts") >= opens[V1.warm_up]).select(V1.names).to_numpy()).any()
