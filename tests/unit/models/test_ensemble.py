"""Ensembles: exact recipes, weights as defined, and taken only where they are clearly better."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from levibot_core.errors import BundleError, DataQualityError
from levibot_core.models.calibration import logit, sigmoid
from levibot_core.models.ensemble import EnsembleRecipe, ensemble_from_json
from levibot_core.models.ensemble_fitting import choose_final, fit_stacking, sharpe_vote
from levibot_core.models.metrics import log_losses

ROWS = 4_000
_recipes = st.integers(1, 4).flatmap(
    lambda count: st.builds(
        EnsembleRecipe,
        st.just("stacking"),
        st.just(tuple(f"member {place}" for place in range(count))),
        st.lists(st.floats(0.0, 5.0), min_size=count, max_size=count).map(tuple),
        st.floats(-3.0, 3.0),
    )
)


def forecasts(seed: int = 0, *noises: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Members that see a common signal behind independent noise, and labels drawn from the signal."""
    random = np.random.default_rng(seed)
    signal = random.normal(0.0, 0.7, ROWS)
    labels = (random.random(ROWS) < sigmoid(signal)).astype(np.float64)
    return {
        f"member {place}": sigmoid(signal + random.normal(0.0, noise, ROWS)) for place, noise in enumerate(noises)
    }, labels


@settings(max_examples=50, deadline=None)
@given(recipe=_recipes, seed=st.integers(0, 99), rows=st.integers(0, 20))
def test_a_recipe_survives_json_and_gives_a_row_the_same_bits_alone(
    recipe: EnsembleRecipe, seed: int, rows: int
) -> None:
    again = ensemble_from_json(recipe.to_json())
    assert again == recipe
    matrix = np.random.default_rng(seed).random((len(recipe.members), rows))
    together = again.apply(matrix)
    assert together.shape == (rows,)
    assert [again.apply(matrix[:, [row]])[0] for row in range(rows)] == together.tolist()
    assert ((together >= 0.0) & (together <= 1.0)).all()
    higher = again.apply(np.minimum(matrix + 0.1, 1.0))
    assert (higher >= together).all()


def test_stacking_adds_logits_and_a_vote_adds_probabilities() -> None:
    matrix = np.array([[0.6, 0.5], [0.8, 0.1]])
    stacked = EnsembleRecipe("stacking", ("a", "b"), (1.0, 0.5), -0.2).apply(matrix)
    assert stacked == pytest.approx(sigmoid(logit(matrix[0]) + 0.5 * logit(matrix[1]) - 0.2))
    voted = EnsembleRecipe("sharpe_vote", ("a", "b"), (0.25, 0.75)).apply(matrix)
    assert voted == pytest.approx([0.75, 0.2])
    certain = EnsembleRecipe("sharpe_vote", ("a", "b", "c"), (0.1, 0.2, 0.7)).apply(np.ones((3, 1)))
    assert certain[0] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"method": "average"}, "a method of"),
        ({"members": ["a", "a"]}, "different names"),
        ({"members": [], "weights": []}, "different names"),
        ({"weights": [1.0]}, "one weight per member"),
        ({"weights": [1.0, -0.1]}, "at least 0"),
        ({"weights": [1.0, float("nan")]}, "at least 0"),
        ({"intercept": float("inf")}, "finite intercept"),
        ({"method": "sharpe_vote"}, "sum to 1"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(wrong: dict[str, Any], message: str) -> None:
    content = {"method": "stacking", "members": ["a", "b"], "weights": [1.0, 1.0], "intercept": 0.0} | wrong
    with pytest.raises(BundleError, match=message):
        EnsembleRecipe(content["method"], tuple(content["members"]), tuple(content["weights"]), content["intercept"])
    with pytest.raises(BundleError):
        ensemble_from_json(json.dumps(content))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"method": "stacking", "members": 3, "weights": [], "intercept": 0.0}']
)
def test_text_that_is_no_recipe_is_refused(text: str) -> None:
    with pytest.raises(BundleError, match="Fit it again"):
        ensemble_from_json(text)


@pytest.mark.parametrize(
    "probabilities", [np.ones((1, 3)), np.ones(2), np.array([[0.5], [np.nan]]), np.full((2, 1), 1.5)]
)
def test_members_that_do_not_fit_are_refused(probabilities: np.ndarray) -> None:
    with pytest.raises(BundleError, match="between 0 and 1 of a, b"):
        EnsembleRecipe("stacking", ("a", "b"), (1.0, 1.0)).apply(probabilities)


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 999), noises=st.lists(st.floats(0.1, 3.0), min_size=1, max_size=4), overlap=st.integers(1, 48)
)
def test_stacking_finds_the_penalised_optimum(seed: int, noises: list[float], overlap: int) -> None:
    members, labels = forecasts(seed, *noises)
    recipe = fit_stacking(members, labels, overlap)
    assert recipe == fit_stacking(members, labels, overlap)
    logits = logit(np.array(list(members.values())))

    def objective(parameters: np.ndarray) -> float:
        losses = log_losses(sigmoid(parameters[:-1] @ logits + parameters[-1]), labels)
        return float(losses.sum() / overlap + 0.5 * ((parameters[:-1] - 1.0 / len(noises)) ** 2).sum())

    found = np.array([*recipe.weights, recipe.intercept])
    bounds = [(0.0, None)] * len(noises) + [(None, None)]
    other = minimize(objective, np.full(found.size, 0.5), method="L-BFGS-B", bounds=bounds)
    assert objective(found) <= other.fun + 1e-6 * abs(other.fun)
    assert min(recipe.weights) >= 0.0


def test_stacking_prefers_the_better_member_and_gives_a_contrary_one_nothing() -> None:
    members, labels = forecasts(1, 0.2, 2.0)
    weights = fit_stacking(members, labels, 1).weights
    assert weights[0] > 2 * weights[1]
    shy = sigmoid(0.3 * logit(members["member 0"]))
    contrary = fit_stacking({"shy": shy, "contrary": 1.0 - shy}, labels, 1).weights
    assert contrary == (pytest.approx(1 / 0.3, rel=0.2), 0.0)
    strong = fit_stacking(members, labels, 1, ridge=1e9)
    assert strong.weights == pytest.approx([0.5, 0.5], abs=1e-4)
    constant = fit_stacking({"always": np.full(ROWS, 0.5), **members}, labels, 1)
    assert constant.weights[0] == pytest.approx(1 / 3, abs=1e-4)


def test_a_vote_counts_members_by_their_ratio() -> None:
    returns = np.array([0.01, -0.02, 0.03, 0.0, float("nan")])
    recipe = sharpe_vote({"up": returns, "twice": returns * 2, "down": -returns, "flat": np.zeros(5)})
    assert recipe.weights == pytest.approx((0.5, 0.5, 0.0, 0.0))
    assert sharpe_vote({"down": -returns, "flat": np.zeros(5)}).weights == (0.5, 0.5)
    with pytest.raises(DataQualityError, match="at least one member"):
        sharpe_vote({})


def test_the_ensemble_is_taken_where_it_beats_its_best_member_and_only_there() -> None:
    fitted_on, untouched = forecasts(2, 1.0, 1.0, 1.0), forecasts(3, 1.0, 1.0, 1.0)
    recipe = fit_stacking(*fitted_on, 1)
    times = np.arange(ROWS)
    choice = choose_final(*untouched[:1], recipe, untouched[1], 1, times)
    assert choice.takes_ensemble
    assert choice.name == "stacking"
    assert choice.against_best.upper_95 < 0.0
    assert "the ensemble is taken" in choice.reason
    # One member as good as all of them together: nothing is gained.
    members, labels = forecasts(4, 0.0, 3.0)
    pointless = choose_final(members, EnsembleRecipe("sharpe_vote", tuple(members), (0.5, 0.5)), labels, 1, times)
    assert (pointless.takes_ensemble, pointless.name) == (False, "member 0")
    assert "best member member 0" in pointless.reason
    assert "not clearly better" in pointless.reason
    alone = choose_final(members, EnsembleRecipe("stacking", ("member 0",), (1.0,)), labels, 1, times)
    assert not alone.takes_ensemble


def test_forecasts_that_cannot_be_weighed_are_refused() -> None:
    members, labels = forecasts(5, 1.0)
    for wrong, y in (
        ({}, labels),
        ({"a": members["member 0"][1:]}, labels),
        ({"a": np.full(ROWS, np.nan)}, labels),
        (members, np.zeros(ROWS)),
    ):
        with pytest.raises(DataQualityError, match="Use "):
            fit_stacking(wrong, y, 1)
    with pytest.raises(DataQualityError, match="none of b"):
        choose_final(members, EnsembleRecipe("stacking", ("b",), (1.0,)), labels, 1, np.arange(ROWS))
