import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from levibot_core.errors import DataQualityError
from levibot_core.monitoring.correlation import CorrelationReport, measure_correlation
from levibot_core.monitoring.plots import correlation_png

GENERATOR = np.random.default_rng(5)
BASE = GENERATOR.normal(size=(400, 3))
ROWS = pl.DataFrame(
    {
        "trend": BASE[:, 0],
        "noise": BASE[:, 1],
        "trend_cubed": BASE[:, 0] ** 3,
        "flat": np.ones(400),
        "trend_reversed": -BASE[:, 0] + 1e-3 * GENERATOR.normal(size=400),
        "other": BASE[:, 2],
        "other_like": BASE[:, 2] + 0.05 * GENERATOR.normal(size=400),
        "mixed": BASE[:, 1] + BASE[:, 2],
    }
)


def measured(rows: pl.DataFrame = ROWS, sample: int = 1_000, threshold: float = 0.95) -> CorrelationReport:
    return measure_correlation(rows, rows.columns, sample, seed=7, threshold=threshold)


def test_features_that_say_the_same_are_one_cluster_whatever_their_sign_and_scale() -> None:
    report = measured()
    assert [set(cluster.members) for cluster in report.clusters] == [
        {"trend", "trend_cubed", "trend_reversed"},
        {"other", "other_like"},
    ]
    assert report.constant == ("flat",)
    assert report.redundant == 3
    for cluster in report.clusters:
        assert cluster.representative in cluster.members


def test_the_matrix_is_spearmans_in_the_order_of_the_clustering() -> None:
    report = measured()
    expected = np.asarray(spearmanr(ROWS.select(report.features).to_numpy()).statistic)
    assert report.matrix == pytest.approx(expected, abs=1e-12)
    assert sorted([*report.features, "flat"]) == sorted(ROWS.columns)
    for cluster in report.clusters:
        places = sorted(report.features.index(name) for name in cluster.members)
        assert places == list(range(places[0], places[0] + len(places))), "its members stand side by side"
    assert report.to_frame().columns == ["feature", *report.features]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), threshold=st.floats(0.3, 0.99))
def test_every_pair_of_a_cluster_is_above_the_threshold(seed: int, threshold: float) -> None:
    generator = np.random.default_rng(seed)
    roots = generator.normal(size=(60, 3))
    values = np.repeat(roots, 4, axis=1) + generator.uniform(0, 1, 12) * generator.normal(size=(60, 12))
    rows = pl.DataFrame({f"f{place}": values[:, place] for place in range(12)})
    report = measured(rows, threshold=threshold)
    strength = dict(zip(report.features, np.abs(report.matrix), strict=True))
    for cluster in report.clusters:
        pairs = [
            strength[one][report.features.index(two)]
            for one in cluster.members
            for two in cluster.members
            if one != two
        ]
        assert min(pairs) == pytest.approx(cluster.weakest)
        assert cluster.weakest >= threshold - 1e-9


def test_inflation_is_that_of_a_regression_of_the_ranks_and_infinite_for_an_exact_combination() -> None:
    from scipy.stats import rankdata

    report = measured(ROWS.drop("trend_cubed"))
    names = [name for name in report.inflation if name != "mixed"]
    ranks = {name: rankdata(ROWS[name].to_numpy()) for name in report.inflation}
    others = np.column_stack([np.ones(400), *(ranks[name] for name in names)])
    fitted = others @ np.linalg.lstsq(others, ranks["mixed"], rcond=None)[0]
    explained = 1.0 - np.var(ranks["mixed"] - fitted) / np.var(ranks["mixed"])
    assert report.inflation["mixed"] == pytest.approx(1.0 / (1.0 - explained), rel=1e-6)

    doubled = measured(ROWS.with_columns(copy=pl.col("noise") * 3.0))
    assert doubled.inflation["copy"] == doubled.inflation["noise"] == np.inf
    assert np.isfinite(doubled.inflation["other"])
    found = json.loads(json.dumps(doubled.to_dict(), allow_nan=False))
    assert found["variance_inflation"]["copy"] is None
    assert (found["features"], found["constant"]) == (9, ["flat"])


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    assert measured(sample=100).rows == 100
    assert (measured(sample=100).matrix == measured(sample=100).matrix).all()


@pytest.mark.parametrize("rows", [ROWS.head(2), ROWS.clear(), ROWS.select("flat", "noise")])
def test_too_little_to_correlate_is_refused(rows: pl.DataFrame) -> None:
    with pytest.raises(DataQualityError, match="at least 3 rows and 2 features"):
        measured(rows)


def test_the_picture_names_few_features_and_numbers_the_clusters_of_many() -> None:
    few, many = measured(), pl.DataFrame({f"f{place}": GENERATOR.normal(size=50) for place in range(60)})
    assert correlation_png(few, "all").startswith(b"\x89PNG")
    assert correlation_png(measured(many), "all") != correlation_png(measured(many, threshold=0.2), "all")
