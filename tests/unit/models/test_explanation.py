import numpy as np
import pytest

from levibot_core.errors import BundleError, MissingFeatureError
from levibot_core.models.base_rate import base_rate_bundle
from levibot_core.models.bundle import BundleIdentity
from levibot_core.models.calibration import logit
from levibot_core.models.candidate import CalibratedCandidate
from levibot_core.models.design import design_matrix
from levibot_core.models.explanation import explain
from levibot_core.models.predictors import matrix_columns
from levibot_core.models.shap_plots import beeswarm_png
from levibot_core.models.shap_values import ShapSample, shap_sample
from levibot_core.validation.split import SplitResult


def test_base_value_and_contributions_add_up_to_the_score(calibrated: CalibratedCandidate, split: SplitResult) -> None:
    bundle = calibrated.bundle
    matrix = design_matrix(split.test[:20], bundle.manifest.features, bundle.manifest.symbols)
    explained = [explain(bundle, matrix[place : place + 1], top=2) for place in range(20)]
    for place, found in enumerate(explained):
        listed = sum(item.contribution for item in found.contributions)
        assert found.base_value + listed + found.others == pytest.approx(found.log_odds, abs=1e-12)
        assert found.log_odds == pytest.approx(float(logit(bundle.predict_raw(matrix[place : place + 1]))[0]))
        assert found.probability == bundle.predict(matrix[place : place + 1])[0]
        places = [matrix_columns(bundle.manifest.features).index(item.feature) for item in found.contributions]
        assert [item.value for item in found.contributions] == matrix[place, places].tolist()
    assert len({round(found.base_value, 9) for found in explained}) == 1


def test_the_strongest_come_first_and_all_of_them_leave_nothing(
    calibrated: CalibratedCandidate, split: SplitResult
) -> None:
    bundle = calibrated.bundle
    found = explain(bundle, design_matrix(split.test[:1], bundle.manifest.features, bundle.manifest.symbols), top=99)
    sizes = [abs(item.contribution) for item in found.contributions]
    assert sizes == sorted(sizes, reverse=True)
    assert {item.feature for item in found.contributions} == {*bundle.manifest.features, "symbol_code"}
    assert found.others == pytest.approx(0.0, abs=1e-9)


def test_contributions_that_do_not_add_up_are_refused(
    calibrated: CalibratedCandidate, split: SplitResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = calibrated.bundle
    row = design_matrix(split.test[:1], bundle.manifest.features, bundle.manifest.symbols)
    right = bundle.contributions

    monkeypatch.setattr(bundle, "contributions", lambda matrix: right(matrix) * 1.01)

    with pytest.raises(BundleError, match="add up"):
        explain(bundle, row)


def test_the_base_rate_starts_and_ends_at_itself_and_a_gap_is_no_zero(
    identity: BundleIdentity, calibrated: CalibratedCandidate
) -> None:
    found = explain(base_rate_bundle(identity, np.array([1, 1, 0])), np.ones((1, 4)))
    assert found.probability == pytest.approx(0.6)
    assert found.base_value == pytest.approx(found.log_odds)
    assert all(item.contribution == 0.0 for item in found.contributions)
    with pytest.raises(MissingFeatureError):
        explain(calibrated.bundle, np.full((1, 4), np.nan))


def test_a_sample_is_small_and_always_the_same(calibrated: CalibratedCandidate, split: SplitResult) -> None:
    first, second = (shap_sample(calibrated.bundle, split.test, 50) for _ in range(2))
    assert first.contributions.shape == first.values.shape == (50, 4)
    np.testing.assert_array_equal(first.contributions, second.contributions)
    assert first.columns[int(np.argmax(first.mean_absolute))] == "momentum"
    assert first.shares.sum() == pytest.approx(1.0)


def test_a_beeswarm_is_a_picture_and_the_same_every_time(calibrated: CalibratedCandidate, split: SplitResult) -> None:
    sample = shap_sample(calibrated.bundle, split.test, 50)
    png = beeswarm_png(sample, "planted")
    assert png == beeswarm_png(sample, "planted")
    assert png.startswith(b"\x89PNG")
    still = ShapSample(sample.columns, sample.values, np.zeros_like(sample.contributions))
    assert beeswarm_png(still, "nothing moves it").startswith(b"\x89PNG")
