"""The batch: the same bits from any slice of history and any number of threads, NaN in gaps, nothing known early."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from levibot_core.errors import DataQualityError, SchemaError
from levibot_core.features.compute import compute_features
from levibot_core.features.inputs import origins_of
from levibot_core.features.registry import FeatureSet, FeatureSpec, load_registry
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP

NEWEST = load_registry("v2")
FIVE_MINUTES = Timeframe.parse("5m")
BAR_MS = FIVE_MINUTES.milliseconds
BARS = 1500
# A row at which the newest closed bar of every higher timeframe closed as long ago as can be.
FARTHEST = 1390
SYMBOLS = ("BTC/USDT", "ETH/USDT")
OF_OWN_BARS = [spec.name for spec in NEWEST.features if "own" in origins_of(spec.inputs)]

# Without shrinking: a failure is the same in any of these small markets, and shrinking one takes minutes.
slowly = settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def market(make_market: Callable[..., Any]) -> Any:
    return make_market(SYMBOLS, bars=BARS)


@pytest.fixture(scope="module")
def features(fear_greed: pl.DataFrame) -> Callable[..., pl.DataFrame]:
    """`compute_features` of the newest set."""

    def compute(candles: pl.DataFrame, funding: pl.DataFrame, **options: Any) -> pl.DataFrame:
        return compute_features(candles, funding, NEWEST, FIVE_MINUTES, **{"fear_greed": fear_greed, **options})

    return compute


@pytest.fixture(scope="module")
def whole(market: Any, features: Any) -> pl.DataFrame:
    return features(market.candles, market.funding)


def bits(frame: pl.DataFrame) -> bytes:
    return b"".join(frame[name].to_physical().to_numpy().tobytes() for name in frame.columns if name != "symbol")


def rows(frame: pl.DataFrame, market: Any, first: int, last: int) -> pl.DataFrame:
    """Rows of every symbol whose bar number is in [first, last]."""
    return frame.filter(pl.col("ts").is_between(open_time(market, first), open_time(market, last)))


def looks_at(spec: FeatureSpec, bar: int, unknown_until: int = BARS * 100) -> Any:
    """Rows whose window holds the bar, decided before the close of bar `unknown_until`. Shape (BARS,)."""
    ratio = 1 if spec.step_ms is None else spec.step_ms // BAR_MS
    reach = spec.warm_up if ratio == 1 else (spec.warm_up + 1) // ratio - 1
    newest_closed = np.arange(1, BARS + 1) // ratio - 1
    known = np.arange(BARS) >= unknown_until
    return (newest_closed >= bar // ratio) & (newest_closed < bar // ratio + reach) & ~known


def open_time(market: Any, bar: int) -> Any:
    return market.candles["ts"].unique().sort()[bar]


@slowly
@given(bar=st.integers(NEWEST.warm_up - 1, BARS - 1))
def test_the_last_row_from_only_the_warm_up_has_the_bits_of_the_full_history(
    market: Any, features: Any, whole: pl.DataFrame, bar: int
) -> None:
    window = rows(market.candles, market, bar - NEWEST.warm_up + 1, bar)
    last = rows(features(window, market.funding), market, bar, bar)
    assert last.height == len(SYMBOLS)
    assert bits(last) == bits(rows(whole, market, bar, bar))
    assert not np.isnan(last.select(NEWEST.names).to_numpy()).any()


@pytest.mark.parametrize("warm_up", sorted({spec.warm_up for spec in NEWEST.features}))
def test_every_feature_needs_exactly_its_declared_warm_up(
    market: Any, features: Any, whole: pl.DataFrame, warm_up: int
) -> None:
    names = [spec.name for spec in NEWEST.features if spec.warm_up == warm_up]
    enough = features(rows(market.candles, market, FARTHEST - warm_up + 1, FARTHEST), market.funding).tail(1)
    assert bits(enough[names]) == bits(rows(whole, market, FARTHEST, FARTHEST).tail(1)[names])
    if warm_up > 1:
        short = features(rows(market.candles, market, FARTHEST - warm_up + 2, FARTHEST), market.funding).tail(1)
        assert np.isnan(short[names].to_numpy()).all()


@pytest.mark.parametrize("name", ["bar_range_15m", "bar_range_1h", "bar_range_4h"])
def test_a_higher_timeframe_alone_needs_no_more_than_its_own_warm_up(
    market: Any, whole: pl.DataFrame, name: str
) -> None:
    spec = next(spec for spec in NEWEST.features if spec.name == name)
    alone = FeatureSet("v2", (spec,))
    for bar in range(FARTHEST - 47, FARTHEST + 1):
        given_bars = rows(market.candles, market, bar - spec.warm_up + 1, bar)
        found = rows(compute_features(given_bars, market.funding, alone, FIVE_MINUTES), market, bar, bar)
        assert bits(found[[name]]) == bits(rows(whole, market, bar, bar)[[name]])


@slowly
@given(start=st.integers(0, 400), cuts=st.lists(st.integers(400, BARS - 1), max_size=3, unique=True))
def test_neither_where_a_history_starts_nor_how_it_is_chunked_matters(
    market: Any, features: Any, whole: pl.DataFrame, start: int, cuts: list[int]
) -> None:
    edges = [start + NEWEST.warm_up - 1, *sorted(cut for cut in cuts if cut >= start + NEWEST.warm_up), BARS]
    chunks = []
    for first, end in pairwise(edges):
        given_bars = rows(market.candles, market, first - NEWEST.warm_up + 1, end - 1)
        start_ms = int(open_time(market, first).timestamp() * 1000)
        chunks.append(features(given_bars, market.funding, start_ms=start_ms, end_ms=start_ms + (end - first) * BAR_MS))
    joined = pl.concat(chunks).sort("symbol", "ts")
    assert bits(joined) == bits(rows(whole, market, edges[0], BARS - 1))


@slowly
@given(now=st.integers(0, BARS - 2), seed=st.integers(0, 2**32 - 1))
def test_what_comes_later_never_changes_what_was(
    market: Any, features: Any, whole: pl.DataFrame, now: int, seed: int
) -> None:
    noise = np.random.default_rng(seed).lognormal(0.0, 0.5, market.candles.height)
    future = pl.col("ts") > open_time(market, now)
    rewritten = market.candles.with_columns(
        pl.when(future).then(pl.col(name) * pl.Series(noise)).otherwise(pl.col(name)).alias(name)
        for name in ("open", "high", "low", "close", "volume")
    )
    for candles in (market.candles.filter(~future), rewritten):
        assert bits(rows(features(candles, market.funding), market, 0, now)) == bits(rows(whole, market, 0, now))


def test_the_order_of_arrival_does_not_matter(market: Any, features: Any, whole: pl.DataFrame) -> None:
    shuffled = features(
        market.candles.sample(fraction=1.0, shuffle=True, seed=5),
        market.funding.sample(fraction=1.0, shuffle=True, seed=6),
    )
    assert bits(shuffled) == bits(whole)


@slowly
@given(gap=st.integers(0, BARS - 1))
def test_a_missing_bar_makes_every_window_over_it_nan_and_touches_nothing_else(
    market: Any, features: Any, whole: pl.DataFrame, gap: int
) -> None:
    without = market.candles.filter((pl.col("symbol") != "ETH/USDT") | (pl.col("ts") != open_time(market, gap)))
    holed = features(without, market.funding).filter(pl.col("symbol") == "ETH/USDT")
    sound = whole.filter((pl.col("symbol") == "ETH/USDT") & (pl.col("ts") != open_time(market, gap)))
    assert holed["ts"].equals(sound["ts"])
    for spec in NEWEST.features:
        expected = sound[spec.name].to_numpy().copy()
        if spec.name in OF_OWN_BARS:
            expected[np.delete(looks_at(spec, gap), gap)] = np.nan
        assert holed[spec.name].to_numpy().tobytes() == expected.tobytes(), spec.name


def test_a_bar_that_became_known_late_counts_only_from_then_on(market: Any, features: Any, whole: pl.DataFrame) -> None:
    corrected, known = 500, 510
    late = market.candles.with_columns(
        pl.when((pl.col("symbol") == "BTC/USDT") & (pl.col("ts") == open_time(market, corrected)))
        .then(open_time(market, known) + pl.duration(milliseconds=BAR_MS, time_unit="ms"))
        .otherwise(pl.col("known_at"))
        .alias("known_at")
    )
    computed = features(late, market.funding)
    for spec in NEWEST.features:
        origins = origins_of(spec.inputs)
        for symbol in SYMBOLS:
            expected = whole.filter(pl.col("symbol") == symbol)[spec.name].to_numpy().copy()
            if "leader" in origins or ("own" in origins and symbol == "BTC/USDT"):
                expected[looks_at(spec, corrected, unknown_until=known)] = np.nan
            found = computed.filter(pl.col("symbol") == symbol)[spec.name].to_numpy()
            assert found.tobytes() == expected.tobytes(), (symbol, spec.name)


def test_the_leader_sees_its_own_return_and_the_others_see_the_leaders(whole: pl.DataFrame) -> None:
    leader, other = (whole.filter(pl.col("symbol") == symbol) for symbol in SYMBOLS)
    for bars in (1, 3, 12):
        assert bits(leader[[f"leader_return_{bars}"]]) == bits(leader[[f"log_return_{bars}"]])
        assert bits(other[[f"leader_return_{bars}"]]) == bits(leader[[f"leader_return_{bars}"]])


def test_without_the_leader_its_features_are_nan_and_the_others_are_the_same(
    market: Any, features: Any, whole: pl.DataFrame
) -> None:
    alone = features(market.candles.filter(pl.col("symbol") == "ETH/USDT"), market.funding)
    own = whole.filter(pl.col("symbol") == "ETH/USDT")
    led = [spec.name for spec in NEWEST.features if "leader" in origins_of(spec.inputs)]
    assert np.isnan(alone.select(led).to_numpy()).all()
    assert bits(alone.drop(led)) == bits(own.drop(led))


def test_funding_is_used_from_the_close_at_which_it_is_known(market: Any, features: Any) -> None:
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


def test_a_settlement_that_became_known_late_leaves_what_was_known_before(market: Any, features: Any) -> None:
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


def test_a_repeated_bar_a_missing_column_and_an_open_time_off_the_grid_are_refused(market: Any, features: Any) -> None:
    with pytest.raises(SchemaError, match="one row per symbol and open time in candles, was 1 repeated"):
        features(pl.concat([market.candles, market.candles.head(1)]), market.funding)
    with pytest.raises(SchemaError, match="was without volume"):
        features(market.candles.drop("volume"), market.funding)
    askew = market.candles.with_columns(ts=pl.col("ts") + pl.duration(seconds=1, time_unit="ms"))
    with pytest.raises(DataQualityError, match=r"5m grid, was off it in 3000 candles"):
        features(askew, market.funding)


def test_no_candles_give_an_empty_table(market: Any, features: Any) -> None:
    assert features(market.candles.clear(), market.funding).equals(NEWEST.table().empty())


@pytest.mark.parametrize("threads", [2, 3])
def test_the_number_of_threads_does_not_matter(market: Any, features: Any, whole: pl.DataFrame, threads: int) -> None:
    assert bits(features(market.candles, market.funding, threads=threads)) == bits(whole)


def test_how_many_rows_are_computed_at_a_time_does_not_matter(
    market: Any, features: Any, whole: pl.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("levibot_core.features.compute._CHUNK", 97)
    assert bits(features(market.candles, market.funding)) == bits(whole)


@slowly
@given(
    corrections=st.lists(
        st.tuples(st.integers(0, BARS - 1), st.integers(1, 400), st.sampled_from(SYMBOLS), st.floats(0.5, 2.0)),
        min_size=1,
        max_size=3,
        unique_by=lambda correction: (correction[0], correction[2]),
    )
)
def test_a_row_sees_the_corrections_known_at_its_decision_and_no_later_one(
    market: Any, features: Any, corrections: list[tuple[int, int, str, float]]
) -> None:
    revised = [market.candles]
    for bar, delay, symbol, factor in corrections:
        original = market.candles.filter(pl.col("symbol") == symbol, pl.col("ts") == open_time(market, bar))
        revised.append(
            original.with_columns(
                [pl.col(name) * factor for name in ("open", "high", "low", "close")],
                known_at=pl.col("known_at") + pl.duration(milliseconds=delay * BAR_MS, time_unit="ms"),
                revision=pl.lit(1, pl.Int32),
            )
        )
    computed = features(pl.concat(revised), market.funding)
    times = sorted({min(bar + delay + offset, BARS - 1) for bar, delay, *_ in corrections for offset in (-1, 0, 1, 30)})
    for row in times:
        decided = pl.col("known_at") <= open_time(market, row) + pl.duration(milliseconds=BAR_MS, time_unit="ms")
        known = pl.concat(revised).filter(decided).sort("revision").unique(["symbol", "ts"], keep="last")
        # A correction known by now is, to this row, simply the bar.
        seen = features(
            known.with_columns(known_at=pl.col("ts").dt.offset_by("5m"), revision=pl.lit(0, pl.Int32)), market.funding
        )
        assert bits(rows(computed, market, row, row)) == bits(rows(seen, market, row, row))


def test_recorded_candles_give_the_same_bits_whole_and_in_slices(market_data: Path, features: Any) -> None:
    folder = market_data / "compact"
    fear_greed = (
        pl.read_parquet(folder / "fear_greed_daily.parquet")
        .select(ts=pl.col("date").cast(pl.Datetime("ms")).dt.replace_time_zone("UTC"), value="value")
        .with_columns(known_at=pl.col("ts").dt.offset_by("1d"))
    )
    candles = pl.concat(
        pl.read_parquet(folder / f"candles_5m_binance_spot_{name}USDT.parquet").head(9_000)
        for name in ("BTC", "ETH", "SOL")
    ).with_columns(known_at=pl.col("ts") + pl.duration(milliseconds=BAR_MS, time_unit="ms"))
    funding = (
        pl.read_parquet(folder / "funding_8h_binance_perp.parquet")
        .rename({"funding_rate": "rate"})
        .with_columns(known_at="ts")
    )
    full = features(candles, funding, fear_greed=fear_greed)
    opens = candles["ts"].unique().sort()
    for first in (1_100, 4_095, 7_777):
        start, end = opens[first], opens[first + 1_000]
        near = candles.filter(pl.col("ts") >= opens[first - NEWEST.warm_up + 1], pl.col("ts") < end)
        recent = funding.filter(pl.col("ts") >= start - pl.duration(hours=72), pl.col("ts") <= end)
        part = features(near, recent, fear_greed=fear_greed, start_ms=int(start.timestamp() * 1000))
        assert bits(part) == bits(full.filter(pl.col("ts") >= start, pl.col("ts") < end))
    assert not np.isnan(full.filter(pl.col("ts") >= opens[NEWEST.warm_up]).select(NEWEST.names).to_numpy()).any()
