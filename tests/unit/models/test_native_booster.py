import subprocess
import sys
import threading
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from levibot_core.errors import BundleError
from levibot_core.models.native_booster import NativeBooster

COLUMNS = 4


@pytest.fixture(scope="module")
def booster() -> lightgbm.Booster:
    """Two numbers, one mostly zero, and a category; the last column decides by membership in sets."""
    generator = np.random.default_rng(5)
    rows = np.column_stack([generator.normal(size=(600, COLUMNS - 1)), generator.integers(0, 6, 600)])
    rows[generator.uniform(size=600) < 0.7, 2] = 0.0
    target = (rows[:, 0] + rows[:, 2] > 0.0) ^ (rows[:, 3] % 2 == 0)
    parameters = {
        "objective": "binary",
        "num_leaves": 8,
        "num_threads": 1,
        "seed": 5,
        "verbose": -1,
        "min_data_per_group": 10,
        "cat_smooth": 1.0,
    }
    data = lightgbm.Dataset(rows, target, categorical_feature=[COLUMNS - 1])
    return lightgbm.Booster(model_str=lightgbm.train(parameters, data, num_boost_round=20).model_to_string())


@pytest.fixture(scope="module")
def native(booster: lightgbm.Booster) -> NativeBooster:
    return NativeBooster(booster.model_to_string())


@given(
    numbers=arrays(np.float64, COLUMNS - 1, elements=st.floats(-1e9, 1e9, width=64)),
    category=st.integers(-1, 7),
)
@settings(max_examples=60, deadline=None)
def test_a_single_row_has_the_bits_that_predicting_a_matrix_gives(
    booster: lightgbm.Booster, native: NativeBooster, numbers: np.ndarray, category: int
) -> None:
    row = np.array([*numbers, category], dtype=np.float64)
    expected = np.asarray(booster.predict(row[np.newaxis], num_threads=1))
    alone = native.predict(row[np.newaxis])
    in_company = native.predict(np.stack([row, row]))
    assert alone.tobytes() == expected.tobytes() == in_company[:1].tobytes()
    shap = np.asarray(booster.predict(row[np.newaxis], pred_contrib=True))
    assert native.contributions(row[np.newaxis]).tobytes() == shap.tobytes()


def test_threads_that_share_a_booster_do_not_see_each_others_rows(
    booster: lightgbm.Booster, native: NativeBooster
) -> None:
    rows = np.random.default_rng(6).normal(size=(200, COLUMNS))
    expected = np.asarray(booster.predict(rows, num_threads=1)).tolist()
    found = [[0.0] * len(rows) for _ in range(4)]

    def score(place: int) -> None:
        found[place] = [float(native.predict(row[np.newaxis])[0]) for row in rows]

    threads = [threading.Thread(target=score, args=(place,)) for place in range(len(found))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [expected] * len(threads)


def test_rows_in_any_order_of_memory_are_read_as_rows(booster: lightgbm.Booster, native: NativeBooster) -> None:
    rows = np.asfortranarray(np.random.default_rng(7).normal(size=(50, 2 * COLUMNS)))[:, ::2]
    assert native.predict(rows).tobytes() == np.asarray(booster.predict(np.ascontiguousarray(rows))).tobytes()
    assert native.predict(np.empty((0, COLUMNS))).shape == (0,)


def test_another_number_of_columns_and_a_text_that_is_no_model_are_refused(native: NativeBooster) -> None:
    with pytest.raises(BundleError, match=r"Expected rows of 4 columns, was \(1, 3\)"):
        native.predict(np.zeros((1, COLUMNS - 1)))
    with pytest.raises(BundleError, match="LightGBM says"):
        NativeBooster("no model")


def test_a_model_is_read_and_asked_without_the_package_of_lightgbm(booster: lightgbm.Booster, tmp_path: Path) -> None:
    file = tmp_path / "booster.txt"
    file.write_text(booster.model_to_string(), "utf-8")
    program = (
        "import pathlib, sys, numpy\n"
        "from levibot_core.models.native_booster import NativeBooster\n"
        "booster = NativeBooster(pathlib.Path(sys.argv[1]).read_text())\n"
        "print(booster.predict(numpy.zeros((1, booster.columns)))[0].hex())\n"
        "sys.exit('lightgbm' in sys.modules or 'pandas' in sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(file)], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == [float(np.asarray(booster.predict(np.zeros((1, COLUMNS))))[0]).hex()]
