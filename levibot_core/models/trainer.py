"""What every boosted family's trainer does and gives back, and the one rule by which all of them stop.

The trainers are in `.lightgbm_model` and `.xgboost_model`; which parameters they are given is found in `.tuning`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from levibot_core.models.metrics import log_losses

# Told the round, counted from 1, and its validation log loss; says whether training should go on.
KeepGoing = Callable[[int, float], bool]


@dataclass(frozen=True, slots=True)
class TrainedBooster:
    """What one training gave.

    Attributes:
        text: The model up to its best round, in the family's text form.
        rounds: That best round; rounds are counted from 1.
        validation_loss: Log loss there on the validation rows, in nats.
        validation_probabilities: Uncalibrated probability of each validation row there, float64 (n,), without the
            shift of a class weight (see `.class_weight`).
        given_up: Whether training ended because it was told not to go on.
    """

    text: str
    rounds: int
    validation_loss: float
    validation_probabilities: np.ndarray = field(compare=False, repr=False)
    given_up: bool = False


class Trainer(Protocol):
    """Trains boosters of one family on the same rows again and again."""

    def train(self, parameters: Mapping[str, float], keep_going: KeepGoing | None = None) -> TrainedBooster:
        """Train until the validation log loss has not improved for the profile's patience, or its rounds are over.

        Args:
            parameters: The family's parameters that were tuned.
            keep_going: Asked after each round.
        """
        ...


class BestRound:
    """Remembers the best round of one training and says when it is over.

    The loss is computed here and not by the libraries, whose threads sum it in an order that depends on their number.
    """

    def __init__(self, labels: np.ndarray, patience: int, keep_going: KeepGoing | None) -> None:
        self._labels = labels
        self._patience = patience
        self._keep_going = keep_going
        self.rounds = 0
        self.loss = float("inf")
        self.probabilities = np.empty(0)
        self.given_up = False

    def ends_with(self, round_number: int, probabilities: np.ndarray) -> bool:
        """Take in the validation probabilities after a round; return whether training ends with it."""
        loss = float(log_losses(probabilities, self._labels).mean())
        if loss < self.loss:
            self.rounds, self.loss, self.probabilities = round_number, loss, probabilities.copy()
        if self._keep_going is not None and not self._keep_going(round_number, loss):
            self.given_up = True
        return self.given_up or round_number - self.rounds >= self._patience

    def booster(self, text: str) -> TrainedBooster:
        """The outcome, given the model's text up to the best round."""
        return TrainedBooster(text, self.rounds, self.loss, self.probabilities, self.given_up)
