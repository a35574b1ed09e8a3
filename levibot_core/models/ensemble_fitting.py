"""Finding the weights of an ensemble on out-of-fold rows, and deciding on untouched ones whether it is worth having.

What an ensemble is, and how it is applied, is in `levibot_core.models.ensemble`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from levibot_core.errors import DataQualityError
from levibot_core.models.calibration import logit, sigmoid
from levibot_core.models.ensemble import EnsembleRecipe
from levibot_core.models.metrics import PairedDifference, log_losses, paired_log_loss_difference
from levibot_core.validation.deflated_sharpe import ReturnShape

RIDGE = 1.0
"""Trust in equal weights: as that of a prior with a standard deviation of 1 / sqrt(RIDGE) around them."""


def fit_stacking(
    members: Mapping[str, np.ndarray], labels: np.ndarray, label_overlap_bars: int, ridge: float = RIDGE
) -> EnsembleRecipe:
    """Logistic regression of the labels on the members' logits, with weights of at least 0, drawn to equal ones.

    Stacked generalisation after D. H. Wolpert (1992) with the non-negative weights of L. Breiman, "Stacked
    regressions" (1996). The penalty is ridge / 2 times the sum of (weight - 1 / members)^2; against it stands the log
    likelihood, divided by the overlap of the labels, since rows that share their future are not that many
    observations. The intercept is free. Deterministic: a convex problem from a fixed start.

    Args:
        members: Name of each member to its probabilities, (n,), on rows it was not trained on; in the order in which
            the recipe will have them.
        labels: 1 for a rise, else 0; (n,). Both classes.
        label_overlap_bars: Bars a label looks ahead.
        ridge: Above 0.

    Raises:
        DataQualityError: the members' rows are not as many as the labels, are not probabilities, or have one class.
    """
    logits, y = logit(_matrix(members, labels)), np.asarray(labels, dtype=np.float64)
    count = len(members)
    equal = np.full(count, 1.0 / count)
    observations = y.size / label_overlap_bars
    # Close to the answer from the start, and columns of about one size: the search needs few steps.
    scale = np.maximum(logits.std(axis=1), 1e-6)
    base = float(np.log(y.mean() / (1.0 - y.mean())))

    def loss_and_gradient(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        weights, intercept = parameters[:-1] / scale, parameters[-1]
        fitted = weights @ logits + intercept
        residuals = sigmoid(fitted) - y
        away = weights - equal
        loss = float(np.mean(np.logaddexp(0.0, fitted) - y * fitted)) + ridge / observations * float(away @ away) / 2.0
        slopes = (logits @ residuals / y.size + ridge / observations * away) / scale
        return loss, np.append(slopes, residuals.mean())

    found = minimize(
        loss_and_gradient,
        np.append(equal * scale, base),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * count + [(None, None)],
        options={"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1_000},
    )
    weights = np.maximum(found.x[:-1] / scale, 0.0)
    return EnsembleRecipe("stacking", tuple(members), tuple(weights.tolist()), float(found.x[-1]))


def sharpe_vote(members: Mapping[str, np.ndarray]) -> EnsembleRecipe:
    """A vote in which each member counts by its Sharpe ratio, not at all if that is not positive.

    Args:
        members: Name of each member to its daily returns after costs, (days,), fraction, on rows it was not trained
            on; NaN is no return. Where no ratio is positive, all members count alike.

    Raises:
        DataQualityError: there is no member.
    """
    if not members:
        raise DataQualityError("Expected at least one member of an ensemble, was none. Train a model first.")
    shapes = [ReturnShape.of(returns) for returns in members.values()]
    ratios = np.array([max(shape.sharpe, 0.0) if shape else 0.0 for shape in shapes])
    votes = ratios / ratios.sum() if ratios.sum() > 0.0 else np.full(ratios.size, 1.0 / ratios.size)
    return EnsembleRecipe("sharpe_vote", tuple(members), tuple(votes.tolist()))


@dataclass(frozen=True, slots=True)
class FinalChoice:
    """Who forecasts: the ensemble or its best member.

    Attributes:
        name: The ensemble's method, or the best member's name.
        takes_ensemble: Which of the two it is.
        best_member: Name of the member with the lowest log loss.
        against_best: Log loss of the ensemble less that of the best member, nats per row; below 0 it is better.
        reason: Why, in words.
    """

    name: str
    takes_ensemble: bool
    best_member: str
    against_best: PairedDifference
    reason: str


def choose_final(
    members: Mapping[str, np.ndarray],
    ensemble: EnsembleRecipe,
    labels: np.ndarray,
    label_overlap_bars: int,
    groups: np.ndarray,
) -> FinalChoice:
    """Take the ensemble only where its log loss is below that of its best member, with 95 % confidence.

    The best member is looked for on the same rows: it is flattered by that, the ensemble is not.

    Args:
        members: Name of each member to its probabilities, (n,), on rows that nothing was fitted or chosen on.
        ensemble: Fitted on other rows.
        labels: 1 for a rise, else 0; (n,). Both classes.
        label_overlap_bars: Bars a label looks ahead.
        groups: Time of each row, (n,), any sortable type.

    Raises:
        DataQualityError: the members' rows are not as many as the labels, are not probabilities, or have one class;
            or the ensemble needs a member that is not given.
    """
    matrix = _matrix(members, labels)
    probabilities = ensemble.apply(matrix[_places(ensemble.members, tuple(members))])
    losses = {name: float(log_losses(row, labels).mean()) for name, row in zip(members, matrix, strict=True)}
    best = min(losses, key=lambda name: losses[name])
    difference = paired_log_loss_difference(
        probabilities, np.asarray(members[best]), np.asarray(labels), label_overlap_bars, groups
    )
    better = difference.upper_95 < 0.0
    figures = (
        f"log loss {difference.mean:+.5f} against its best member {best} "
        f"(95 % interval {difference.lower_95:+.5f} to {difference.upper_95:+.5f})"
    )
    kept = "the ensemble is taken" if better else "the ensemble is not clearly better and is not taken"
    return FinalChoice(ensemble.method if better else best, better, best, difference, f"{figures}; {kept}")


def _places(wanted: Sequence[str], given: tuple[str, ...]) -> list[int]:
    if missing := [name for name in wanted if name not in given]:
        raise DataQualityError(
            f"Expected probabilities of {', '.join(wanted)}, was none of {', '.join(missing)}. Ask every member."
        )
    return [given.index(name) for name in wanted]


def _matrix(members: Mapping[str, np.ndarray], labels: np.ndarray) -> np.ndarray:
    """The members' probabilities, float64 (members, n)."""
    y = np.asarray(labels)
    shapes = {name: np.shape(row) for name, row in members.items()}
    if not members or any(shape != y.shape for shape in shapes.values()):
        raise DataQualityError(
            f"Expected members with one probability for each of {y.size} labels, was {shapes}. Use the same rows."
        )
    matrix = np.array(list(members.values()), dtype=np.float64)
    if not ((matrix >= 0.0) & (matrix <= 1.0)).all() or not 0 < y.sum() < y.size:
        raise DataQualityError(
            f"Expected probabilities between 0 and 1 and labels of both classes, was {y.size} rows with "
            f"{int(y.sum())} rises and {int((~((matrix >= 0.0) & (matrix <= 1.0))).sum())} values that are none. "
            "Use a longer history, and forecasts without NaN."
        )
    return matrix
