from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from levibot_core.errors import BundleError, DataQualityError
from levibot_core.models import retraining
from levibot_core.models.recipe import Recipe
from levibot_core.models.retraining import FamilyTraining, Retrained, train_boosted
from levibot_core.models.spread import SpreadReport, cross_validated_spread
from levibot_core.validation.purged import PurgedWalkForward

Folds = list[tuple[np.ndarray, np.ndarray]]
_SEEDS = (11, 12, 13)


@pytest.fixture(scope="module")
def rows(make_rows: Callable[..., pl.DataFrame]) -> pl.DataFrame:
    return make_rows(bars=500)


@pytest.fixture(scope="module")
def folds(rows: pl.DataFrame) -> Folds:
    times = [rows[name].dt.epoch("ms").to_numpy() for name in ("known_at", "label_end")]
    return list(PurgedWalkForward(n_folds=2, window="expanding").split(*times))


def _spread(rows: pl.DataFrame, folds: Folds, recipe: Recipe, seeds: tuple[int, ...] = _SEEDS) -> SpreadReport:
    return cross_validated_spread(rows, folds, seeds, "lightgbm", recipe.identity, recipe.parameters, recipe.profile, 1)


def test_a_planted_edge_is_found_on_every_fold_and_seeds_differ(
    rows: pl.DataFrame, folds: Folds, recipe: Recipe
) -> None:
    report = _spread(rows, folds, recipe)
    assert [(run.fold, run.seed) for run in report.runs] == [(fold, seed) for fold in (1, 2) for seed in _SEEDS]
    assert min(run.gain for run in report.runs) > 0.0
    assert [run.rows for run in report.runs[::3]] == [len(test) for _, test in folds]
    summary = report.summary()
    assert summary["gain"]["between_seeds"] > 0.0
    assert summary["auc"]["lowest"] < summary["auc"]["mean"] < summary["auc"]["highest"]
    table = np.array([run.auc for run in report.runs]).reshape(2, 3)
    assert summary["auc"]["between_folds"] == pytest.approx(table.mean(axis=1).std(ddof=1))
    assert report == _spread(rows, folds, recipe)


def test_no_row_is_fitted_that_reaches_into_what_stops_or_tests(
    rows: pl.DataFrame, folds: Folds, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[pl.DataFrame, pl.DataFrame]] = []

    def watching(train: pl.DataFrame, validation: pl.DataFrame, *given: Any) -> tuple[Retrained, ...]:
        seen.append((train, validation))
        return train_boosted("lightgbm", train, validation, *given)

    monkeypatch.setitem(retraining.TRAININGS, "lightgbm", FamilyTraining(watching))  # type: ignore[arg-type]
    _spread(rows, folds, recipe, seeds=(1,))

    for (train, stopping), (_, test) in zip(seen, folds, strict=True):
        assert train["label_end"].max() < stopping["known_at"].min()  # type: ignore[operator]
        assert stopping["label_end"].max() < rows[test]["known_at"].min()  # type: ignore[operator]


def test_no_edge_gives_no_gain(make_rows: Callable[..., pl.DataFrame], folds: Folds, recipe: Recipe) -> None:
    report = _spread(make_rows(bars=500, edge=0.0), folds, recipe)
    assert abs(report.summary()["auc"]["mean"] - 0.5) < 0.08
    assert report.summary()["gain"]["mean"] < 0.01


def test_without_folds_or_of_an_unknown_family_there_is_no_spread(
    rows: pl.DataFrame, folds: Folds, recipe: Recipe
) -> None:
    with pytest.raises(DataQualityError, match="folds and seeds"):
        _spread(rows, [], recipe)
    with pytest.raises(BundleError, match="oracle"):
        cross_validated_spread(rows, folds, (1,), "oracle", recipe.identity, {}, recipe.profile, 1)
