"""Several models as one: the recipe that makes one probability of those of the members.

Applying a recipe needs numpy alone and is exact after a JSON round trip. How the weights are found, and whether an
ensemble is better than its best member, is in `levibot_core.models.ensemble_fitting`.
"""

import json
from dataclasses import dataclass
from typing import Literal

import numpy as np

from levibot_core.errors import BundleError
from levibot_core.models.calibration import logit, sigmoid

EnsembleMethod = Literal["stacking", "sharpe_vote"]

_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class EnsembleRecipe:
    """How the members' probabilities become one.

    `stacking` is a logistic curve over the members' logits, p = 1 / (1 + exp(-(sum of weight * logit + intercept)));
    `sharpe_vote` is their weighted mean. Weights are never negative, so the probability never falls when a member's
    rises.

    Attributes:
        method: Which of the two.
        members: Names of the members, in the order of the weights.
        weights: One per member, 0 or above; those of a vote sum to 1.
        intercept: Added to the logit; 0 for a vote.
    """

    method: EnsembleMethod
    members: tuple[str, ...]
    weights: tuple[float, ...]
    intercept: float = 0.0

    def __post_init__(self) -> None:
        weights = np.asarray(self.weights, dtype=np.float64)
        problems = {
            "a method of stacking and sharpe_vote": self.method in ("stacking", "sharpe_vote"),
            "members of different names": 0 < len(set(self.members)) == len(self.members),
            "one weight per member": weights.size == len(self.members),
            "finite weights of at least 0": bool(np.isfinite(weights).all() and (weights >= 0.0).all()),
            "a finite intercept": bool(np.isfinite(self.intercept)),
        }
        if self.method == "sharpe_vote":
            problems["votes that sum to 1 and no intercept"] = (
                abs(float(weights.sum()) - 1.0) <= _TOLERANCE and self.intercept == 0.0
            )
        if broken := [expected for expected, holds in problems.items() if not holds]:
            raise BundleError(f"Expected an ensemble with {', '.join(broken)}, was {self}. Fit the ensemble again.")

    def apply(self, probabilities: np.ndarray) -> np.ndarray:
        """One probability per row.

        Args:
            probabilities: The members' probabilities of a rise, (members, n), in the order of `members`.

        Returns:
            float64 (n,).

        Raises:
            BundleError: there is not one row per member, or a probability is not between 0 and 1.
        """
        matrix = np.asarray(probabilities, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[0] != len(self.members) or not ((matrix >= 0) & (matrix <= 1)).all():
            raise BundleError(
                f"Expected probabilities ({len(self.members)}, n) between 0 and 1 of {', '.join(self.members)}, was "
                f"shape {matrix.shape}. Ask every member for the same rows."
            )
        # Member by member: the bits of a row do not depend on how many rows are asked for at once.
        total = np.full(matrix.shape[1], self.intercept)
        for weight, row in zip(self.weights, matrix, strict=True):
            total = total + weight * (logit(row) if self.method == "stacking" else row)
        return sigmoid(total) if self.method == "stacking" else np.clip(total, 0.0, 1.0)

    def to_json(self) -> str:
        """The recipe as JSON text; `ensemble_from_json` gives back an equal one."""
        content = {
            "method": self.method,
            "members": self.members,
            "weights": self.weights,
            "intercept": self.intercept,
        }
        return json.dumps(content, indent=2) + "\n"


def ensemble_from_json(text: str) -> EnsembleRecipe:
    """Read a recipe written by `to_json`.

    Raises:
        BundleError: the text is not JSON, of an unknown method, or holds values that cannot be.
    """
    try:
        match json.loads(text):
            case {
                "method": "stacking" | "sharpe_vote" as method,
                "members": list(members),
                "weights": list(weights),
                "intercept": float(intercept),
                **others,
            } if not others:
                return EnsembleRecipe(method, tuple(map(str, members)), tuple(map(float, weights)), intercept)
    except (ValueError, TypeError) as error:
        raise BundleError(f"Expected an ensemble in JSON, was {text[:80]!r} ({error}). Fit it again.") from error
    raise BundleError(f"Expected an ensemble in JSON, was {text[:80]!r}. Fit it again.")
