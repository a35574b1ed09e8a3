import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import BundleError
from levibot_core.models.novelty import fit_novelty, read_novelty

ROWS = np.column_stack(
    [
        np.random.default_rng(7).normal(3.0, 2.0, 2_000),
        np.random.default_rng(8).standard_t(3, 2_000),
        np.full(2_000, 5.0),
        (np.arange(2_000) % 50 == 0).astype(float),
    ]
)
REFERENCE = read_novelty(fit_novelty(ROWS), 4)
MIDDLE = np.array([3.0, 0.0, 5.0, 0.0])


def test_training_rows_spread_over_all_scores() -> None:
    scores = np.array([REFERENCE.score(row) for row in ROWS])
    assert np.quantile(scores, [0.1, 0.5, 0.9]) == pytest.approx([0.1, 0.5, 0.9], abs=0.01)
    assert (scores.min(), scores.max()) == (0.0, 1.0)


def test_the_middle_is_known_and_what_lies_beyond_all_rows_is_new() -> None:
    assert REFERENCE.score(MIDDLE) < 0.02
    assert REFERENCE.score(MIDDLE + np.array([40.0, 0.0, 0.0, 0.0])) > 0.99
    assert REFERENCE.score(MIDDLE + np.array([0.0, 0.0, 1e-9, 0.0])) > 0.99  # it never moved before
    assert REFERENCE.score(np.array([1e300, -1e300, 1e300, 1e300])) == 1.0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4), st.floats(1.0, 10.0))
def test_the_score_is_a_share_and_grows_with_the_distance(offset: list[float], factor: float) -> None:
    near, far = (REFERENCE.score(MIDDLE + np.array(offset) * times) for times in (1.0, factor))
    assert 0.0 <= near <= 1.0
    assert far >= near - 0.02  # the middle is that of the distribution, not quite that of the rows


def test_the_same_rows_give_the_same_bytes_and_many_are_sampled() -> None:
    assert fit_novelty(ROWS) == fit_novelty(ROWS.copy())
    many = np.tile(ROWS, (25, 1))
    assert read_novelty(fit_novelty(many), 4).center == pytest.approx(REFERENCE.center, abs=0.1)


@pytest.mark.parametrize(
    "change",
    [
        {"center": [1.0]},
        {"scale": [1.0, 1.0, -1.0, 1.0]},
        {"scale": ["a", 1.0, 1.0, 1.0]},
        {"distances": [1.0, 0.0]},
        {"format": "levibot-novelty/2"},
    ],
)
def test_a_reference_that_makes_no_sense_is_refused(change: dict[str, object]) -> None:
    content = json.loads(fit_novelty(ROWS)) | change
    with pytest.raises(BundleError, match="novelty"):
        read_novelty(json.dumps(content).encode(), 4)
    with pytest.raises(BundleError, match="5 features"):
        read_novelty(fit_novelty(ROWS), 5)
