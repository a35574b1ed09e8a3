"""The area under the ROC curve: scikit-learn's, with an interval that holds where labels overlap."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from levibot_core.errors import DataQualityError
from levibot_core.models.auc import area_under_curve


@settings(max_examples=40, deadline=None)
@given(
    forecasts=st.lists(st.tuples(st.sampled_from([0.1, 0.4, 0.5, 0.9]), st.booleans()), min_size=2, max_size=30).filter(
        lambda rows: len({rose for _, rose in rows}) == 2
    )
)
def test_the_area_is_that_of_scikit_learn(forecasts: list[tuple[float, bool]]) -> None:
    p, y = (np.array(column, dtype=np.float64) for column in zip(*forecasts, strict=True))
    found = area_under_curve(p, y, 1, np.arange(p.size))
    assert found.value == pytest.approx(roc_auc_score(y, p))
    assert 0.0 <= found.lower_95 <= found.value <= found.upper_95 <= 1.0


def test_independent_rows_have_the_error_of_delong() -> None:
    random = np.random.default_rng(0)
    y = (random.random(3_000) < 0.4).astype(float)
    p = random.normal(size=3_000) + 0.3 * y
    found = area_under_curve(p, y, 1, random.permutation(3_000))
    up, down = p[y == 1], p[y == 0]
    above = (up[:, np.newaxis] > down).astype(float)
    delong = np.sqrt(above.mean(axis=1).var(ddof=1) / up.size + above.mean(axis=0).var(ddof=1) / down.size)
    assert found.standard_error == pytest.approx(delong, rel=0.1)


def test_the_interval_holds_where_labels_overlap() -> None:
    random = np.random.default_rng(1)
    held = 0
    for _ in range(100):
        steps = random.normal(size=1_012)
        label = np.convolve(steps, np.ones(12), "valid")[:1_000] > 0
        score = np.convolve(random.normal(size=1_040), np.ones(40), "valid")[:1_000]
        found = area_under_curve(score, label, 12, np.arange(1_000))
        held += found.lower_95 <= 0.5 <= found.upper_95
    assert held >= 85


def test_one_class_has_no_area() -> None:
    with pytest.raises(DataQualityError, match="both classes"):
        area_under_curve(np.ones(3), np.ones(3), 1, np.arange(3))
