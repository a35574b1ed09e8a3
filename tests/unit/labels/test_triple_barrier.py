"""Triple-barrier labels: those of a slow loop that follows the definition, on any prices and around any gap."""

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from levibot_core.features.compute import compute_features
from levibot_core.features.registry import FeatureSet, load_registry
from levibot_core.labels.definition import TripleBarrierLabel
from levibot_core.labels.triple_barrier import triple_barrier_labels
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import FUNDING_RATES, TIMESTAMP, TRAINING_ROWS
from levibot_core.validation.definition_checks import check_labels_need_their_bar

FIVE_MINUTES = Timeframe.parse("5m")
STEP = FIVE_MINUTES.milliseconds
SHORT = TripleBarrierLabel(max_bars=3, atr_bars=2)
Bar = tuple[float, float, float, float]


def candles_of(bars: dict[int, Bar], symbol: str = "BTC/USDT") -> pl.DataFrame:
    """Bars by number: open, high, low, close."""
    columns = dict(zip(("open", "high", "low", "close"), zip(*bars.values(), strict=True), strict=True))
    ts = pl.Series([number * STEP for number in bars], dtype=pl.Int64).cast(TIMESTAMP)
    return pl.DataFrame({"symbol": [symbol] * len(bars), "ts": ts, **columns})


def slow_label(bars: dict[int, Bar], now: int, definition: TripleBarrierLabel) -> tuple[int, float, int] | None:
    """Label, return and number of the bar that decides."""
    window = range(now - definition.atr_bars + 1, now + 1)
    if any(number not in bars for number in (window[0] - 1, *window)):
        return None
    total = 0.0
    for number in window:
        before = bars[number - 1][3]
        total += max(bars[number][1], before) - min(bars[number][2], before)
    atr, close = total / definition.atr_bars, bars[now][3]
    if atr <= 0.0:
        return None
    profit, stop = close + definition.profit_atr * atr, close - definition.stop_atr * atr
    for number in range(now + 1, now + definition.max_bars + 1):
        if number not in bars:
            return None
        opened, high, low, _ = bars[number]
        if low <= stop:
            return -1, min(stop, opened) / close - 1.0, number
        if high >= profit:
            return 1, profit / close - 1.0, number
    last = now + definition.max_bars
    return 0, bars[last][3] / close - 1.0, last


# Prices on a coarse grid, so that barriers are touched exactly, and both at once, more often than never.
_price = st.integers(1, 24).map(float)
_bars = st.dictionaries(
    st.integers(0, 30),
    st.tuples(_price, _price, _price, _price).map(lambda four: (four[0], max(four), min(four), four[3])),
    min_size=8,
)
_definitions = st.builds(
    TripleBarrierLabel,
    profit_atr=st.sampled_from([0.25, 0.5, 1.0]),
    stop_atr=st.sampled_from([0.25, 0.5, 1.0]),
    max_bars=st.integers(1, 6),
    atr_bars=st.integers(1, 4),
)


@settings(max_examples=60, deadline=None)
@given(bars=_bars, others=_bars, definition=_definitions)
def test_labels_are_those_of_a_loop_over_the_bars(
    bars: dict[int, Bar], others: dict[int, Bar], definition: TripleBarrierLabel
) -> None:
    expected = [
        (symbol, number * STEP, found[0], found[1], (found[2] + 1) * STEP)
        for symbol, market in (("BTC/USDT", bars), ("ETH/USDT", others))
        for number in sorted(market)
        if (found := slow_label(market, number, definition)) is not None
    ]
    candles = pl.concat([candles_of(bars), candles_of(others, "ETH/USDT")]).sample(fraction=1.0, shuffle=True, seed=1)
    labels = triple_barrier_labels(candles, FIVE_MINUTES, definition)
    assert labels.with_columns(pl.col("ts", "label_end").dt.epoch("ms")).rows() == expected


def outcome(*later: Bar) -> tuple[int, float, int] | None:
    """What becomes of a decision at 100 with an ATR of 1: profit at 103, stop at 98, three bars."""
    quiet: Bar = (100.0, 100.5, 99.5, 100.0)
    labels = triple_barrier_labels(candles_of(dict(enumerate((quiet, quiet, quiet, *later)))), FIVE_MINUTES, SHORT)
    found = labels.filter(pl.col("ts").dt.epoch("ms") == 2 * STEP)
    if found.is_empty():
        return None
    label, returned, end = found.select("label", "forward_return", pl.col("label_end").dt.epoch("ms")).row(0)
    return label, round(returned, 10), end // STEP - 1


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        ([(100.0, 103.0, 99.0, 102.0)], (1, 0.03, 3)),
        ([(100.0, 101.0, 98.0, 99.0)], (-1, -0.02, 3)),
        # Both in one bar: the stop, because what came first is not known.
        ([(100.0, 104.0, 97.0, 103.0)], (-1, -0.02, 3)),
        # Opened below the stop: sold there, not at the stop.
        ([(100.0, 101.0, 99.0, 100.0), (95.0, 96.0, 94.0, 95.0)], (-1, -0.05, 4)),
        # Opened above the profit: sold at the limit, no better.
        ([(105.0, 106.0, 104.0, 105.0)], (1, 0.03, 3)),
        ([(100.0, 102.9, 98.1, 101.0)] * 3, (0, 0.01, 5)),
        ([(100.0, 102.9, 98.1, 101.0)] * 2, None),
        ([(100.0, float("nan"), 98.1, 101.0), (100.0, 104.0, 99.0, 101.0)], None),
    ],
)
def test_what_each_way_of_the_price_is_labelled(later: list[Bar], expected: tuple[int, float, int] | None) -> None:
    assert outcome(*later) == expected


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 119), min_size=1, max_size=3), definition=_definitions)
def test_a_label_needs_no_bar_after_its_end_and_every_bar_up_to_it(
    make_market: Callable[..., Any], cuts: list[int], definition: TripleBarrierLabel
) -> None:
    candles = make_market(bars=120).candles
    first = int(candles["ts"].dt.epoch("ms").min())
    checked = check_labels_need_their_bar(
        candles,
        FIVE_MINUTES,
        0,
        [first + cut * STEP for cut in cuts],
        lambda known, timeframe, _: triple_barrier_labels(known, timeframe, definition),
    )
    assert checked.passed, checked.detail


def test_the_true_range_is_that_of_the_feature(make_market: Callable[..., Any]) -> None:
    candles = make_market(symbols=["BTC/USDT"], bars=200).candles
    whole = load_registry("v1")
    atr = FeatureSet(whole.version, tuple(spec for spec in whole.features if spec.name == "atr_14"))
    features = compute_features(candles, FUNDING_RATES.empty(), atr, FIVE_MINUTES)
    labels = triple_barrier_labels(candles, FIVE_MINUTES).filter(pl.col("label") == 1)
    joined = labels.join(features, on=["symbol", "ts"])
    assert joined.height == labels.height > 0
    assert joined["forward_return"].to_numpy() == pytest.approx(3.0 * joined["atr_14"].to_numpy(), rel=1e-9)


def test_columns_have_the_types_of_the_catalogue_also_without_rows(make_market: Callable[..., Any]) -> None:
    candles = make_market(bars=80).candles
    for some in (candles, candles.clear()):
        labels = triple_barrier_labels(some, FIVE_MINUTES)
        assert dict(labels.schema) == {name: TRAINING_ROWS.polars_schema[name] for name in labels.columns}
    assert set(triple_barrier_labels(candles, FIVE_MINUTES)["label"].unique()) <= {-1, 0, 1}


def test_a_market_that_does_not_move_has_no_label() -> None:
    flat: Bar = (5.0, 5.0, 5.0, 5.0)
    assert triple_barrier_labels(candles_of(dict.fromkeys(range(30), flat)), FIVE_MINUTES, SHORT).is_empty()


def test_the_definition_is_what_a_snapshot_hashes() -> None:
    assert TripleBarrierLabel().model_dump() == {
        "kind": "triple_barrier",
        "profit_atr": 3.0,
        "stop_atr": 2.0,
        "max_bars": 60,
        "atr_bars": 14,
    }
    for wrong in ({"profit_atr": 0.0}, {"max_bars": 0}, {"horizon_bars": 12}):
        with pytest.raises(ValidationError):
            TripleBarrierLabel(**wrong)
