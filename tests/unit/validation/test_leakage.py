"""The leak check: quiet on the clean pipeline, and loud for every leak planted in it."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from levibot_core.features.compute import compute_features
from levibot_core.features.folds import FloatArray, window_sum
from levibot_core.features.kernels import FAMILIES, Inputs, Kernel
from levibot_core.features.registry import FeatureSet, FeatureSpec, load_registry
from levibot_core.labels.direction import direction_labels
from levibot_core.market.timeframe import Timeframe
from levibot_core.validation.leak_report import LeakReport, verdict
from levibot_core.validation.leakage import check_leakage
from levibot_core.validation.split import PARTS, SplitResult, chronological_split

V1 = load_registry("v1")
FIVE_MINUTES = Timeframe.parse("5m")
BAR_MS = FIVE_MINUTES.milliseconds
HORIZON = 12
# A few cheap families, so that each planted leak is checked in a fraction of a second.
SMALL = replace(
    V1, features=tuple(spec for spec in V1.features if spec.name in ("log_return_3", "sma_gap_20", "funding_rate_last"))
)


@pytest.fixture(scope="module")
def market(make_market: Callable[..., Any]) -> Any:
    return make_market(bars=600)


def training_rows(
    market: Any, feature_set: FeatureSet = SMALL, kernels: Mapping[str, Kernel] = FAMILIES
) -> pl.DataFrame:
    features = compute_features(market.candles, market.funding, feature_set, FIVE_MINUTES, kernels=kernels)
    labels = direction_labels(market.candles, FIVE_MINUTES, HORIZON)
    joined = features.join(labels, on=["symbol", "ts"], maintain_order="left")
    return joined.filter(pl.all_horizontal(pl.col(feature_set.names).is_not_nan()))


def check(
    market: Any,
    split: SplitResult,
    feature_set: FeatureSet = SMALL,
    kernels: Mapping[str, Kernel] = FAMILIES,
    seed: int = 3,
) -> LeakReport:
    return check_leakage(
        market.candles, market.funding, feature_set, FIVE_MINUTES, HORIZON, split, seed, kernels=kernels
    )


def failed(report: LeakReport) -> list[str]:
    assert report.passed == (report.failures == ())
    return [found.name for found in report.checks if not found.passed]


@pytest.mark.parametrize("seed", range(2))
def test_the_clean_pipeline_raises_no_alarm(market: Any, seed: int) -> None:
    report = check(market, chronological_split(training_rows(market)), seed=seed)
    assert failed(report) == []
    assert len(report.checks) == 6


def test_the_whole_feature_set_raises_no_alarm_and_each_check_says_what_it_compared(market: Any) -> None:
    report = check(market, chronological_split(training_rows(market, V1)), V1)
    assert failed(report) == []
    assert "of 40 features kept their bits under 6 kinds of change at 6 instants" in report.checks[0].detail


# Each looks at a whole series, as no kernel should: float64 (n,) and a window to float64 (n,).


def window_mean(values: FloatArray, window: int) -> FloatArray:
    return np.concatenate([np.full(window - 1, np.nan), window_sum(values, window) / window])


def shifted(close: FloatArray, _: int) -> FloatArray:
    return np.append(close[1:], np.nan) / close - 1.0


def centred(close: FloatArray, window: int) -> FloatArray:
    half = window // 2
    middle: FloatArray = np.append(window_mean(close, window)[half:], np.full(half, np.nan))
    return close / middle - 1.0


def full_sample(close: FloatArray, _: int) -> FloatArray:
    scores: FloatArray = (close - np.nanmean(close)) / np.nanstd(close)
    return scores


def full_sample_rank(close: FloatArray, _: int) -> FloatArray:
    ranks: FloatArray = np.argsort(np.argsort(close)) / float(close.size)
    return ranks


def filled_from_the_future(close: FloatArray, window: int) -> FloatArray:
    extremes = np.fmax.accumulate(close[::-1])[::-1]
    return close / extremes + 0.0 * window_mean(close, window)


def last_bar_only(close: FloatArray, _: int) -> FloatArray:
    return np.full(close.size, close[~np.isnan(close)][-1]) / close


@pytest.mark.parametrize(
    "leak", [shifted, centred, full_sample, full_sample_rank, filled_from_the_future, last_bar_only]
)
def test_a_kernel_that_looks_ahead_is_caught_and_its_feature_named(market: Any, leak: Any) -> None:
    def rows_of_the_leak(inputs: Inputs, window: int, _: Any) -> FloatArray:
        (close,) = inputs
        markets = [leak(close.values[:, market], window) for market in range(close.values.shape[1])]
        return np.column_stack(markets)[close.begin : close.end]

    kernels = {**FAMILIES, "planted": Kernel(rows_of_the_leak, lambda window, _: window, 1)}
    planted = FeatureSpec("planted_20", "planted", ("close",), 20, 20, "fraction", "a planted leak", "v1")
    leaky = replace(SMALL, features=(*SMALL.features, planted))
    split = chronological_split(training_rows(market, leaky, kernels))
    report = check(market, split, leaky, kernels)
    assert "features_ignore_the_future" in failed(report)
    assert "planted_20 changes in" in report.checks[0].detail
    assert "sma_gap_20" not in report.checks[0].detail


def test_features_altered_after_they_were_computed_are_caught(market: Any) -> None:
    rows = training_rows(market)
    scores = rows.with_columns((pl.col("sma_gap_20") - pl.col("sma_gap_20").mean()) / pl.col("sma_gap_20").std())
    moved = rows.with_columns(pl.col("log_return_3").shift(-1, fill_value=0.0).over("symbol"))
    swapped = rows.with_columns(known_at=pl.col("known_at") - pl.duration(milliseconds=BAR_MS, time_unit="ms"))
    for altered, column in ((scores, "sma_gap_20"), (moved, "log_return_3"), (swapped, "known_at")):
        report = check(market, chronological_split(altered))
        assert "rows_are_what_the_kernels_give" in failed(report)
        assert f"{column} changes in" in report.checks[1].detail


def test_a_row_that_no_bar_stands_for_is_caught(market: Any) -> None:
    rows = training_rows(market)
    opens = market.candles["ts"].unique().sort()
    holed = market._replace(candles=market.candles.filter(pl.col("ts") != opens[400]))
    assert "rows_are_what_the_kernels_give" in failed(check(holed, chronological_split(rows)))


@pytest.mark.parametrize(
    ("alter", "words"),
    [
        ({"label": 1 - pl.col("label")}, "are not the direction"),
        ({"label": pl.col("label").shift(1, fill_value=0).over("symbol")}, "are not the direction"),
        ({"forward_return": pl.col("forward_return") * 2}, "forward returns"),
        ({"label_end": pl.col("label_end") - pl.duration(milliseconds=BAR_MS, time_unit="ms")}, "do not end"),
        ({"label_end": pl.col("ts") + pl.duration(milliseconds=BAR_MS, time_unit="ms")}, "do not end"),
    ],
)
def test_labels_that_are_not_their_definition_are_caught(market: Any, alter: dict[str, pl.Expr], words: str) -> None:
    report = check(market, chronological_split(training_rows(market).with_columns(**alter)))
    assert "labels_match_the_closes" in failed(report)
    assert words in report.checks[2].detail


def test_a_label_without_a_bar_at_its_horizon_is_caught(market: Any) -> None:
    shorter = market._replace(candles=market.candles.filter(pl.col("known_at") < market.candles["known_at"].max()))
    report = check(shorter, chronological_split(training_rows(market)))
    assert failed(report) == ["labels_match_the_closes"]
    assert report.checks[2].detail == (
        "BTC/USDT: 1 labels without a close at both ends; ETH/USDT: 1 labels without a close at both ends"
    )


def test_a_split_purged_by_the_start_of_the_label_is_caught(market: Any) -> None:
    rows = training_rows(market)
    clean = chronological_split(rows)
    decided = pl.col("known_at").dt.epoch("ms")
    unpurged = rows.filter(decided < clean.boundaries["validation"])
    report = check(market, replace(clean, train=unpurged))
    assert failed(report) == ["split_is_ordered_and_purged"]
    assert "22 labels of train end after the next part begins" in report.checks[4].detail


def test_parts_that_overlap_or_trade_places_are_caught(market: Any) -> None:
    clean = chronological_split(training_rows(market))
    shared = replace(clean, test=pl.concat([clean.test, clean.train.tail(5)]))
    assert "5 rows are in more than one part" in check(market, shared).checks[4].detail
    swapped = replace(clean, train=clean.test, test=clean.train)
    assert failed(check(market, swapped)) == ["split_is_ordered_and_purged"]
    boundaries = replace(clean, boundaries=dict(zip(PARTS, reversed(list(clean.boundaries.values())), strict=True)))
    assert "do not begin one after the other" in check(market, boundaries).checks[4].detail


def test_funding_that_is_used_before_it_is_known_is_caught(market: Any) -> None:
    early = market.funding.with_columns(known_at=pl.col("known_at") - pl.duration(hours=3, time_unit="ms"))
    split = chronological_split(training_rows(market._replace(funding=early)))
    assert failed(check(market, split)) == ["rows_are_what_the_kernels_give"]


def test_a_long_list_of_findings_is_cut_and_counted() -> None:
    found = verdict("x", [str(number) for number in range(9)], "")
    assert (found.passed, found.detail) == (False, "0; 1; 2; 3; 4; and 4 more")


def test_recorded_candles_raise_no_alarm(market_data: Path, make_market: Callable[..., Any]) -> None:
    folder = market_data / "compact"
    candles = pl.concat(
        pl.read_parquet(folder / f"candles_5m_binance_spot_{name}USDT.parquet").head(3_000) for name in ("BTC", "SOL")
    ).with_columns(known_at=pl.col("ts") + pl.duration(milliseconds=BAR_MS, time_unit="ms"))
    funding = (
        pl.read_parquet(folder / "funding_8h_binance_perp.parquet")
        .rename({"funding_rate": "rate"})
        .with_columns(known_at="ts")
    )
    recorded = make_market(bars=1)._replace(candles=candles, funding=funding)
    report = check(recorded, chronological_split(training_rows(recorded, V1)), V1)
    assert failed(report) == []
