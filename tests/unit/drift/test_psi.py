import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from levibot_core.drift.psi import drift_level, population_stability_index, psi_table
from levibot_core.errors import DataQualityError, MissingFeatureError

values = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, float("nan")]))
samples = arrays(np.float64, st.integers(1, 120), elements=values)


@settings(max_examples=150, deadline=None)
@given(reference=samples, current=samples)
def test_the_index_is_finite_and_never_negative(reference: np.ndarray, current: np.ndarray) -> None:
    assert 0.0 <= population_stability_index(reference, current) < 40.0


@settings(max_examples=80, deadline=None)
@given(sample=samples, seed=st.integers(0, 9))
def test_the_same_values_in_any_order_have_an_index_of_zero(sample: np.ndarray, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(sample)
    assert population_stability_index(sample, shuffled) == 0.0
    assert population_stability_index(sample, np.tile(sample, 3)) == pytest.approx(0.0, abs=1e-9)


@settings(max_examples=80, deadline=None)
@given(
    reference=arrays(np.int64, st.integers(1, 120), elements=st.integers(-50, 50)),
    current=arrays(np.int64, st.integers(1, 120), elements=st.integers(-60, 60)),
)
def test_a_strictly_increasing_transformation_changes_nothing(reference: np.ndarray, current: np.ndarray) -> None:
    plain = population_stability_index(reference, current)
    assert population_stability_index(3.0 * reference + 7.0, 3.0 * current + 7.0) == plain
    assert population_stability_index(np.exp(reference / 9.0), np.exp(current / 9.0)) == plain


def test_the_index_is_the_sum_by_hand() -> None:
    reference = np.arange(100.0)
    current = np.concatenate([np.full(30, 5.0), np.arange(10.0, 80.0)])
    shares = np.full(10, 0.1)
    now = np.array([0.3, *[0.1] * 7, 0.0, 0.0])
    now = np.where(now == 0, 1e-4, now)
    expected = float(np.sum((now - shares) * np.log(now / shares)))
    assert population_stability_index(reference, current) == pytest.approx(expected)


@pytest.mark.parametrize(("shift", "level"), [(0.0, "ok"), (0.5, "warning"), (1.0, "critical")])
def test_a_shifted_normal_is_told_by_how_far_it_moved(shift: float, level: str) -> None:
    generator = np.random.default_rng(0)
    index = population_stability_index(generator.normal(size=20_000), generator.normal(shift, size=20_000))
    assert index == pytest.approx(shift**2, abs=0.03 + 0.1 * shift**2)
    assert drift_level(index) == level


@pytest.mark.parametrize("moved_to", [-1.0, 1.0, float("nan")])
def test_a_constant_feature_that_moves_is_critical_and_one_that_stays_is_not(moved_to: float) -> None:
    constant = np.zeros(50)
    assert population_stability_index(constant, np.zeros(80)) == 0.0
    assert drift_level(population_stability_index(constant, np.full(80, moved_to))) == "critical"


def test_values_that_go_missing_are_drift() -> None:
    reference = np.random.default_rng(1).normal(size=1000)
    current = reference.copy()
    current[:400] = np.nan
    assert drift_level(population_stability_index(reference, current)) == "critical"
    assert population_stability_index(np.full(5, np.nan), np.full(9, np.nan)) == 0.0


def test_a_two_valued_feature_is_compared_value_by_value() -> None:
    reference, current = np.array([0.0] * 50 + [1.0] * 50), np.array([0.0] * 80 + [1.0] * 20)
    assert population_stability_index(reference, current) == pytest.approx(0.3 * np.log(1.6) - 0.3 * np.log(0.4))


def test_a_side_without_values_cannot_be_compared() -> None:
    with pytest.raises(DataQualityError, match="0 now"):
        population_stability_index(np.ones(3), np.empty(0))


@pytest.mark.parametrize(
    ("psi", "level"),
    [(0.0, "ok"), (0.1999, "ok"), (0.2, "warning"), (0.2999, "warning"), (0.3, "critical"), (9.0, "critical")],
)
def test_levels_begin_at_their_thresholds(psi: float, level: str) -> None:
    assert drift_level(psi) == level


def test_the_table_ranks_features_and_counts_nulls_as_missing() -> None:
    reference = pl.DataFrame({"calm": range(100), "moved": range(100), "lost": range(100)})
    current = pl.DataFrame({"calm": range(100), "moved": range(50, 150), "lost": [None] * 60 + list(range(60, 100))})
    table = psi_table(reference, current, ("calm", "moved", "lost"))
    assert table.schema == {"feature": pl.String, "psi": pl.Float64, "level": pl.String}
    assert table["psi"].to_list() == sorted(table["psi"], reverse=True)
    assert dict(table.select("feature", "level").iter_rows()) == {"calm": "ok", "moved": "critical", "lost": "critical"}


def test_a_feature_that_one_side_lacks_is_refused_by_name() -> None:
    with pytest.raises(MissingFeatureError, match="momentum"):
        psi_table(pl.DataFrame({"momentum": [1.0]}), pl.DataFrame({"noise": [1.0]}), ("momentum",))
