"""The robust scaler: median and interquartile range of each column, exact in JSON."""

import json

import numpy as np
import pytest

from levibot_core.errors import BundleError
from levibot_core.models.scaling import RobustScaler, fit_robust_scaler


def test_columns_are_centred_on_their_median_and_divided_by_their_interquartile_range() -> None:
    matrix = np.column_stack([np.arange(9.0), np.arange(9.0) * 10.0 + 3.0])
    scaler = fit_robust_scaler(matrix)
    assert (scaler.centers, scaler.spreads) == ((4.0, 43.0), (4.0, 40.0))
    np.testing.assert_array_equal(scaler.apply(matrix)[:, 0], (np.arange(9.0) - 4.0) / 4.0)
    np.testing.assert_array_equal(scaler.apply(matrix)[:, 0], scaler.apply(matrix)[:, 1])


def test_a_column_of_equal_values_is_only_centred() -> None:
    scaler = fit_robust_scaler(np.full((5, 1), 7.0))
    assert scaler.apply(np.array([[7.0], [8.0]])).tolist() == [[0.0], [1.0]]


def test_one_wild_row_hardly_moves_it() -> None:
    matrix = np.random.default_rng(0).normal(size=(1_001, 1))
    wild = matrix.copy()
    wild[0] = 1e12
    assert fit_robust_scaler(wild).spreads[0] == pytest.approx(fit_robust_scaler(matrix).spreads[0], rel=0.02)


def test_json_keeps_every_bit() -> None:
    scaler = fit_robust_scaler(np.random.default_rng(1).normal(size=(50, 3)))
    content = json.loads(scaler.to_json())
    assert RobustScaler(tuple(content["centers"]), tuple(content["spreads"])) == scaler


@pytest.mark.parametrize(
    ("centers", "spreads"), [((0.0,), (0.0,)), ((float("nan"),), (1.0,)), ((0.0,), (1.0, 1.0)), ((0.0,), (np.inf,))]
)
def test_a_scaler_that_cannot_be_is_refused(centers: tuple[float, ...], spreads: tuple[float, ...]) -> None:
    with pytest.raises(BundleError, match="Fit the scaler on whole rows again"):
        RobustScaler(centers, spreads)
