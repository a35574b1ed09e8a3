"""Average uniqueness: that of a count over every bar, by symbol, in any order."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import DataQualityError
from levibot_core.labels.uniqueness import average_uniqueness, sample_weights
from levibot_core.schemas import TIMESTAMP

_labels = st.lists(
    st.tuples(st.sampled_from(["BTC/USDT", "ETH/USDT"]), st.integers(0, 40), st.integers(1, 12)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=100, deadline=None)
@given(labels=_labels, step=st.sampled_from([1, 300_000]))
def test_uniqueness_is_the_mean_share_of_the_bars_of_a_label(labels: list[tuple[str, int, int]], step: int) -> None:
    spans = [(symbol, range(known + 1, known + length + 1)) for symbol, known, length in labels]
    expected = [
        np.mean([1 / sum(bar in other for name, other in spans if name == symbol) for bar in bars])
        for symbol, bars in spans
    ]
    known = np.array([label[1] for label in labels]) * step
    ends = known + np.array([label[2] for label in labels]) * step
    found = average_uniqueness([label[0] for label in labels], known, ends)
    assert found.dtype == np.float64
    assert found == pytest.approx(expected, rel=1e-9)
    assert ((found > 0) & (found <= 1)).all()


def test_labels_one_bar_apart_over_a_horizon_have_one_over_it_each() -> None:
    known = np.arange(1_000, dtype=np.int64) * 300_000
    found = average_uniqueness(np.full(1_000, "BTC/USDT"), known, known + 12 * 300_000)
    assert found[100:900] == pytest.approx(1 / 12)
    assert found[0] > 1 / 12
    assert average_uniqueness([], np.empty(0), np.empty(0)).shape == (0,)


def test_labels_that_cannot_be_are_refused() -> None:
    with pytest.raises(DataQualityError, match="1 that do not"):
        average_uniqueness(["A", "A"], np.array([0, 5]), np.array([1, 5]))
    with pytest.raises(DataQualityError, match="same rows"):
        average_uniqueness(["A"], np.array([0, 5]), np.array([1, 6]))


@settings(max_examples=50, deadline=None)
@given(labels=_labels)
def test_weights_are_those_of_a_loop_over_the_bars_and_one_on_average(labels: list[tuple[str, int, int]]) -> None:
    bar_ms = 300_000
    rows = pl.DataFrame(
        {
            "symbol": [symbol for symbol, _, _ in labels],
            "known_at": pl.Series([known * bar_ms for _, known, _ in labels]).cast(TIMESTAMP),
            "label_end": pl.Series([(known + length) * bar_ms for _, known, length in labels]).cast(TIMESTAMP),
        }
    )
    shares = []
    for symbol, known, length in labels:
        total = 0.0
        for bar in range(known, known + length):
            total += 1 / sum(name == symbol and begin <= bar < begin + bars for name, begin, bars in labels)
        shares.append(total / length)
    found = sample_weights(rows, "uniqueness")
    assert found is not None
    assert found == pytest.approx(np.array(shares) / np.mean(shares), rel=1e-9)
    assert found.mean() == pytest.approx(1.0)
    assert sample_weights(rows, "none") is None
