"""The incremental refresh: only new rows are computed, and the lake holds the bits of one batch over everything."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from levibot_core.features.compute import compute_features
from levibot_core.features.refresh import FeatureTables, latest_vectors, refresh_features
from levibot_core.features.registry import load_registry
from levibot_core.market.ingest import Slice
from levibot_core.market.timeframe import Timeframe
from levibot_core.stores.lake import Lake
from levibot_core.stores.paths import candles_dataset, fear_greed_dataset, features_dataset, funding_dataset

SYMBOLS = ("BTC/USDT", "ETH/USDT")
FIVE_MINUTES = Timeframe.parse("5m")
BAR_MS = FIVE_MINUTES.milliseconds
BARS = 1_200
V2 = load_registry("v2")
TABLES = FeatureTables(
    candles_dataset("test", "spot", "5m"),
    funding_dataset("test"),
    fear_greed_dataset("test"),
    features_dataset("test", "spot", "5m", "v2", V2.table()),
)


@pytest.fixture(scope="module")
def market(make_market: Callable[..., Any]) -> Any:
    return make_market(SYMBOLS, bars=BARS)


def new_lake(folder: Path, market: Any, fear_greed: pl.DataFrame) -> Lake:
    lake = Lake(folder)
    lake.append(TABLES.funding, market.funding, 0)
    lake.append(TABLES.fear_greed, fear_greed, 0)
    return lake


def arrive(lake: Lake, market: Any, first: int, end: int, observed_at_ms: int = 0) -> int:
    """Put the bars [first, end) of every symbol into the lake and refresh; the number of rows that were computed."""
    opens = market.candles["ts"].unique().sort()
    lake.append(TABLES.candles, market.candles.filter(pl.col("ts").is_in(opens[first:end].implode())), observed_at_ms)
    return refresh(lake, market)


def refresh(lake: Lake, market: Any) -> int:
    start_ms = int(market.candles["ts"].min().timestamp() * 1000)
    slices = [Slice(symbol, start_ms, start_ms + BARS * BAR_MS) for symbol in SYMBOLS]
    return refresh_features(lake, TABLES, V2, FIVE_MINUTES, slices, on_progress=lambda _: None).rows


def same_bits(lake: Lake, expected: pl.DataFrame) -> bool:
    found = lake.read(TABLES.features)
    values = (frame.select(V2.names).to_numpy() for frame in (found, expected))
    return (
        found.select("symbol", "ts").equals(expected.select("symbol", "ts"))
        and len({np.ascontiguousarray(part).tobytes() for part in values}) == 1
    )


@settings(
    max_examples=3,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(cuts=st.lists(st.integers(1, BARS - 1), min_size=1, max_size=4, unique=True))
def test_bars_that_arrive_in_parts_give_the_bits_of_one_batch_and_are_computed_once(
    market: Any, fear_greed: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    lake = new_lake(tmp_path_factory.mktemp("lake"), market, fear_greed)
    edges = [0, *sorted(cuts), BARS]
    for first, end in pairwise(edges):
        assert arrive(lake, market, first, end) == (end - first) * len(SYMBOLS)
    batch = compute_features(market.candles, market.funding, V2, FIVE_MINUTES, fear_greed=fear_greed)
    assert same_bits(lake, batch)


def test_a_correction_changes_later_rows_only(market: Any, fear_greed: pl.DataFrame, tmp_path: Path) -> None:
    lake = new_lake(tmp_path, market, fear_greed)
    arrive(lake, market, 0, BARS - 10)
    before = lake.read(TABLES.features)
    opens = market.candles["ts"].unique().sort()
    corrected = market.candles.filter(pl.col("ts") == opens[BARS - 20]).with_columns(pl.col("volume") * 3.0)
    observed_at_ms = int(opens[BARS - 5].timestamp() * 1000)
    lake.append(TABLES.candles, corrected, observed_at_ms)

    assert arrive(lake, market, BARS - 10, BARS) == 10 * len(SYMBOLS)

    assert lake.read(TABLES.features).filter(pl.col("ts") < opens[BARS - 10]).equals(before, null_equal=True)
    revisions = lake.read_all_revisions(TABLES.candles)
    batch = compute_features(revisions, market.funding, V2, FIVE_MINUTES, fear_greed=fear_greed)
    assert same_bits(lake, batch)
    unaware = compute_features(market.candles, market.funding, V2, FIVE_MINUTES, fear_greed=fear_greed)
    changed = (batch["volume_ratio_30"] != unaware["volume_ratio_30"]) & batch["volume_ratio_30"].is_not_nan()
    assert batch.filter(changed)["ts"].min() == opens[BARS - 6]  # the bar that closes as the correction is seen


def test_without_anything_new_a_slice_is_computed_again(market: Any, fear_greed: pl.DataFrame, tmp_path: Path) -> None:
    lake = new_lake(tmp_path, market, fear_greed)
    arrive(lake, market, 0, 300)
    assert refresh(lake, market) == 300 * len(SYMBOLS)


def test_a_gap_filled_in_the_middle_is_computed_with_what_follows(
    market: Any, fear_greed: pl.DataFrame, tmp_path: Path
) -> None:
    lake = new_lake(tmp_path, market, fear_greed)
    arrive(lake, market, 0, 100)
    arrive(lake, market, 110, 200)
    assert arrive(lake, market, 100, 110) == 200 * len(SYMBOLS)
    opens = market.candles["ts"].unique().sort()
    some = market.candles.filter(pl.col("ts") < opens[200])
    assert same_bits(lake, compute_features(some, market.funding, V2, FIVE_MINUTES, fear_greed=fear_greed))


def test_the_newest_vector_has_the_close_that_was_known_at_its_decision_time(
    market: Any, fear_greed: pl.DataFrame, tmp_path: Path
) -> None:
    lake = new_lake(tmp_path, market, fear_greed)
    arrive(lake, market, 0, BARS)
    newest = market.candles.filter(pl.col("ts") == pl.col("ts").max())
    later_ms = int(newest["known_at"][0].timestamp() * 1000) + 60_000
    lake.append(TABLES.candles, newest.with_columns(pl.col("high", "close") * 1.01), later_ms)
    found = latest_vectors(
        lake,
        candles_dataset=TABLES.candles,
        features_dataset=TABLES.features,
        symbols=SYMBOLS,
        source_kind="recorded",
    )
    assert found.incomplete == {}
    assert [vector.close for vector in found.complete] == newest.sort("symbol")["close"].to_list()


def test_the_bars_before_the_newest_come_with_it_and_one_that_lacks_a_feature_is_a_hole(
    market: Any, fear_greed: pl.DataFrame, tmp_path: Path
) -> None:
    lake = new_lake(tmp_path, market, fear_greed)
    arrive(lake, market, 0, BARS)
    rows = lake.read(TABLES.features, symbols=[SYMBOLS[0]]).tail(8)
    spoilt = rows.slice(5, 1).with_columns(pl.lit(float("nan")).alias(V2.names[0]))
    lake.upsert(TABLES.features, spoilt)
    found = latest_vectors(
        lake,
        candles_dataset=TABLES.candles,
        features_dataset=TABLES.features,
        symbols=SYMBOLS,
        source_kind="recorded",
        bars=8,
    )
    mine = [vector for vector in (*found.earlier, *found.complete) if vector.symbol == SYMBOLS[0]]
    whole = rows.filter(pl.col("ts") != spoilt["ts"][0])
    assert [vector.ts_ms for vector in mine] == whole["ts"].dt.epoch("ms").to_list()
    assert [list(vector.values.values()) for vector in mine] == [list(row) for row in whole.select(V2.names).rows()]
    assert len(found.earlier) == 6 + 7 * (len(SYMBOLS) - 1)
