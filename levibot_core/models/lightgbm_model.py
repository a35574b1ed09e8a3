"""Training one LightGBM classifier. Which parameters it is given is found in `levibot_core.models.tuning`.

Training is deterministic: the same rows, parameters and seed give the same text, whatever the number of threads.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np

from levibot_core.config import TrainingProfile
from levibot_core.models.metrics import log_losses
from levibot_core.models.predictors import SYMBOL_CODE, matrix_columns

_VALIDATION = "validation"
_LOSS = "log_loss"
_THREADS_LINE = re.compile(r"^\[num_threads: \d+\]$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class LabelledMatrix:
    """A design matrix, float64 (n, f + 1), and its labels, float64 (n,)."""

    matrix: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, slots=True)
class TrainedBooster:
    """What one training gave.

    Attributes:
        text: The model up to its best round, in LightGBM's text form.
        rounds: That best round; rounds are counted from 1.
        validation_loss: Log loss there on the validation rows, in nats.
    """

    text: str
    rounds: int
    validation_loss: float


# Told the round, counted from 1, and its validation log loss. An exception it raises ends the training.
RoundCallback = Callable[[int, float], None]


class BoosterTrainer:
    """Trains boosters on the same rows again and again; the rows are binned once."""

    def __init__(
        self,
        train: LabelledMatrix,
        validation: LabelledMatrix,
        features: Sequence[str],
        profile: TrainingProfile,
        seed: int,
        threads: int,
    ) -> None:
        self._profile = profile
        self._fixed: dict[str, object] = {
            "objective": "binary",
            "metric": "none",
            "deterministic": True,
            "force_row_wise": True,
            "seed": seed,
            "num_threads": threads,
            "max_bin": profile.max_bin,
            # Rows are binned before min_data_in_leaf is known: no feature may be dropped for one value of it.
            "feature_pre_filter": False,
            "bagging_freq": 1,
            "verbosity": -1,
        }
        columns = list(matrix_columns(features))
        self._train = lightgbm.Dataset(
            train.matrix,
            train.labels,
            feature_name=columns,
            categorical_feature=[columns.index(SYMBOL_CODE)],
            params=self._fixed,
            free_raw_data=False,
        ).construct()
        self._validation = self._train.create_valid(
            validation.matrix, validation.labels, params=self._fixed
        ).construct()

    def train(self, parameters: Mapping[str, float], on_round: RoundCallback | None = None) -> TrainedBooster:
        """Train until the validation log loss has not improved for the profile's patience.

        Args:
            parameters: LightGBM parameters that were tuned.
            on_round: Told the validation log loss after each round.
        """
        callbacks: list[Callable[..., Any]] = [
            lightgbm.early_stopping(self._profile.early_stopping_rounds, verbose=False)
        ]
        if on_round is not None:
            callbacks.append(_as_lightgbm_callback(on_round))
        booster = lightgbm.train(
            {**self._fixed, **parameters},
            self._train,
            num_boost_round=self._profile.max_rounds,
            valid_sets=[self._validation],
            valid_names=[_VALIDATION],
            feval=_validation_loss,
            callbacks=callbacks,
        )
        rounds = int(booster.best_iteration)
        text = booster.model_to_string(num_iteration=rounds)
        return TrainedBooster(_without_threads(text), rounds, float(booster.best_score[_VALIDATION][_LOSS]))


def gain_importance(booster_text: str) -> dict[str, float]:
    """Share of the total gain per column of the design matrix, highest first; all 0 for a model without splits."""
    booster = lightgbm.Booster(model_str=booster_text)
    gains = booster.feature_importance("gain")
    shares = gains / gains.sum() if gains.sum() > 0 else gains
    ranked = sorted(zip(booster.feature_name(), shares.tolist(), strict=True), key=lambda item: (-item[1], item[0]))
    return dict(ranked)


def _validation_loss(probabilities: np.ndarray, data: lightgbm.Dataset) -> tuple[str, float, bool]:
    """LightGBM's own log loss is summed by its threads, and so differs in the last digit with their number."""
    return _LOSS, float(log_losses(probabilities, np.asarray(data.get_label())).mean()), False


def _without_threads(text: str) -> str:
    """The number of threads is the one setting that the model does not depend on: keep it out of the text."""
    return _THREADS_LINE.sub("[num_threads: 1]", text)


def _as_lightgbm_callback(on_round: RoundCallback) -> Callable[[Any], None]:
    def callback(environment: Any) -> None:
        on_round(environment.iteration + 1, float(environment.evaluation_result_list[0][2]))

    return callback
