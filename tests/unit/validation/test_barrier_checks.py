"""Barrier labels against their definition: right ones pass, and each way of being wrong is found and named."""

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from levibot_core.labels.definition import TripleBarrierLabel
from levibot_core.labels.labelling import label_rows
from levibot_core.market.timeframe import Timeframe
from levibot_core.validation.barrier_checks import check_barriers

FIVE_MINUTES = Timeframe.parse("5m")
BAR = pl.duration(milliseconds=FIVE_MINUTES.milliseconds, time_unit="ms")
BARRIERS = TripleBarrierLabel(max_bars=12)


@pytest.fixture(scope="module")
def candles(make_market: Callable[..., Any]) -> pl.DataFrame:
    market: pl.DataFrame = make_market(bars=500, seed=5).candles
    # A hole in one symbol, so that labels just before it are the quick ones.
    return market.filter((pl.col("symbol") != "ETH/USDT") | (pl.col("ts").rank("dense") != 250))


@pytest.mark.parametrize("definition", [BARRIERS, TripleBarrierLabel(), TripleBarrierLabel(atr_bars=1, max_bars=1)])
def test_labels_as_defined_pass(candles: pl.DataFrame, definition: TripleBarrierLabel) -> None:
    rows = label_rows(candles, FIVE_MINUTES, definition).sample(fraction=0.9, seed=1)
    checked = check_barriers(candles, FIVE_MINUTES, definition, rows)
    assert checked.passed, checked.detail
    assert f"{rows.height:,} labels" in checked.detail


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (pl.col("label") ^ 1, "not what was touched first"),
        (pl.col("label").shift(-1, fill_value=0).over("symbol"), "not what was touched first"),
        (pl.col("label_end") - BAR, "do not end with the close"),
        (pl.col("forward_return") * 1.0001, "forward returns are not"),
        (pl.col("ts") - 60 * BAR, "without every bar"),
    ],
)
def test_labels_that_are_wrong_are_found(candles: pl.DataFrame, wrong: pl.Expr, problem: str) -> None:
    rows = label_rows(candles, FIVE_MINUTES, BARRIERS).with_columns(wrong)
    checked = check_barriers(candles, FIVE_MINUTES, BARRIERS, rows)
    assert not checked.passed
    assert problem in checked.detail


def test_other_barriers_give_other_labels(candles: pl.DataFrame) -> None:
    rows = label_rows(candles, FIVE_MINUTES, BARRIERS)
    assert not check_barriers(candles, FIVE_MINUTES, TripleBarrierLabel(max_bars=12, stop_atr=1.5), rows).passed
