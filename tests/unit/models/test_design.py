from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from levibot_core.errors import DataQualityError, MissingFeatureError, UnknownSymbolError
from levibot_core.models.candidate import CalibratedCandidate
from levibot_core.models.design import design_matrix, label_vector


def test_training_and_serving_build_the_same_matrix(
    make_rows: Callable[..., pl.DataFrame], calibrated: CalibratedCandidate
) -> None:
    rows = make_rows(bars=20)
    manifest = calibrated.bundle.manifest
    matrix = design_matrix(rows, manifest.features, manifest.symbols)
    served = [calibrated.bundle.matrix_row(row["symbol"], row) for row in rows.iter_rows(named=True)]
    assert np.concatenate(served).tobytes() == matrix.tobytes()
    assert matrix.shape == (40, 4)
    assert matrix.flags.c_contiguous


def test_nulls_and_absent_columns_are_missing_features(make_rows: Callable[..., pl.DataFrame]) -> None:
    rows = make_rows(bars=5)
    with pytest.raises(MissingFeatureError, match="volume"):
        design_matrix(rows, ("momentum", "volume"), ("BTC/USDT", "ETH/USDT"))
    holes = rows.with_columns(momentum=pl.lit(None, dtype=pl.Float64))
    with pytest.raises(MissingFeatureError, match="momentum"):
        design_matrix(holes, ("momentum",), ("BTC/USDT", "ETH/USDT"))
    with pytest.raises(UnknownSymbolError, match="ETH/USDT"):
        design_matrix(rows, ("momentum",), ("BTC/USDT",))


def test_a_part_of_one_class_is_refused_by_name(make_rows: Callable[..., pl.DataFrame]) -> None:
    rows = make_rows(bars=5)
    assert set(label_vector(make_rows(bars=50), "train")) == {0.0, 1.0}
    with pytest.raises(DataQualityError, match="calibration part, was 10 rows with 10 rises"):
        label_vector(rows.with_columns(label=pl.lit(1, dtype=pl.Int8)), "calibration")
    with pytest.raises(DataQualityError, match="0 rows"):
        label_vector(rows.head(0), "test")
