"""Windows cut out of training rows, and the forecasts that rest on them."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import UnknownSymbolError
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.candidate import CalibratedCandidate
from levibot_core.models.design import design_matrix
from levibot_core.models.row_forecasts import (
    forecast_rows,
    input_of_rows,
    predict_rows,
    split_with_windows,
    with_windows,
)
from levibot_core.schemas import TIMESTAMP
from levibot_core.validation.comparison import compare_with_model
from levibot_core.validation.split import SplitResult

START, BAR = datetime(2025, 1, 1, tzinfo=UTC), timedelta(minutes=5)
PLACES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 14)), min_size=1, max_size=24, unique=True)


def rows_of(identity: BundleIdentity, places: list[tuple[int, int]]) -> pl.DataFrame:
    """Rows whose first feature tells which bar they are."""
    times = pl.Series("ts", [START + bar * BAR for _, bar in places]).cast(TIMESTAMP)
    values = {name: [100.0 * symbol + bar for symbol, bar in places] for name in identity.features}
    symbols = [identity.symbols[symbol] for symbol, _ in places]
    types = {"symbol": pl.String(), **dict.fromkeys(identity.features, pl.Float64())}
    return pl.DataFrame({"symbol": symbols, "ts": times, **values}, schema_overrides=types)


def first_and_last(matrix: np.ndarray) -> np.ndarray:
    return np.asarray(1000.0 * matrix[:, 0, 0] + matrix[:, -1, 0])


@settings(max_examples=60, deadline=None)
@given(PLACES, st.integers(2, 4), st.integers(1, 3), st.data())
def test_a_row_is_forecast_from_its_successive_bars_or_not_at_all(
    identity: BundleIdentity, places: list[tuple[int, int]], window: int, rows_at_once: int, data: st.DataObject
) -> None:
    looking_back = identity.model_copy(update={"window": window})
    history = rows_of(identity, places)
    asked = data.draw(st.lists(st.sampled_from(places), unique=True))
    rows = rows_of(identity, asked)
    expected = [
        1000.0 * (100.0 * symbol + bar - window + 1) + 100.0 * symbol + bar
        if all((symbol, bar - back) in places for back in range(window))
        else np.nan
        for symbol, bar in asked
    ]
    found = forecast_rows(first_and_last, looking_back, rows, history, rows_at_once)
    np.testing.assert_array_equal(found, np.array(expected, dtype=np.float64))
    assert with_windows(looking_back, rows, history).equals(
        rows.filter(pl.Series(np.isfinite(found), dtype=pl.Boolean))
    )
    assert input_of_rows(looking_back, rows, history).shape == (np.isfinite(found).sum(), window, 4)


@settings(max_examples=40, deadline=None)
@given(PLACES, st.integers(2, 4), st.integers(0, 14))
def test_what_follows_a_row_changes_no_forecast_of_it(
    identity: BundleIdentity, places: list[tuple[int, int]], window: int, instant: int
) -> None:
    looking_back = identity.model_copy(update={"window": window})
    rows = rows_of(identity, places)
    decided = pl.col("ts") <= START + instant * BAR
    changed = rows.with_columns(
        pl.when(decided).then(pl.col(name)).otherwise(-1.0).alias(name) for name in identity.features
    )
    kept = rows.filter(decided)
    before = forecast_rows(first_and_last, looking_back, kept, rows)
    for other in (changed, kept):
        np.testing.assert_array_equal(forecast_rows(first_and_last, looking_back, kept, other), before)


def test_a_model_of_one_bar_is_asked_as_ever_and_leaves_no_row_out(
    calibrated: CalibratedCandidate, split: SplitResult
) -> None:
    bundle, manifest = calibrated.bundle, calibrated.bundle.manifest
    matrix = design_matrix(split.test, manifest.features, manifest.symbols)
    assert predict_rows(bundle, split.test, split.history).tobytes() == bundle.predict(matrix).tobytes()
    assert split_with_windows(manifest, split) is split
    columns = {name: split.test[name].to_numpy() for name in manifest.features}
    found = bundle.predict_bars(split.test["symbol"].to_list(), np.arange(split.test.height), columns)
    assert found.tobytes() == bundle.predict(matrix).tobytes()


def test_later_parts_reach_back_over_purged_rows_and_the_train_part_stays(
    identity: BundleIdentity, split: SplitResult
) -> None:
    looking_back = identity.model_copy(update={"window": 40})
    assert split.purged["train"] > 0
    assert {name: part.height for name, part in split_with_windows(looking_back, split).parts.items()} == {
        name: part.height for name, part in split.parts.items()
    }
    holed = split.with_parts({})
    kept = split_with_windows(looking_back, holed)
    assert kept.train.equals(split.train)
    assert kept.test.height == split.test.height - 2 * 39
    assert split_with_windows(looking_back, kept).test.equals(kept.test)


def test_only_rows_that_both_models_can_forecast_are_compared(
    calibrated: CalibratedCandidate, split: SplitResult
) -> None:
    plain = calibrated.bundle

    class Windowed(ModelBundle):
        """The same model, asked for windows, of which it looks at the last bar."""

        def predict(self, matrix: np.ndarray) -> np.ndarray:
            return super().predict(matrix[:, -1])

    manifest = plain.manifest.model_copy(update={"window": 10})
    windowed = Windowed(manifest, plain.files)
    found = compare_with_model(windowed, plain, split.test, "itself")
    assert (found.mean, found.lower_95, found.upper_95) == (0.0, 0.0, 0.0)
    assert np.isnan(predict_rows(windowed, split.test)).sum() == 2 * 9
    with pytest.raises(UnknownSymbolError, match="was DOGE/USDT"):
        predict_rows(windowed, split.test.with_columns(symbol=pl.lit("DOGE/USDT")))
