"""Training one XGBoost classifier. Which parameters it is given is found in `levibot_core.models.tuning`.

Training is deterministic: the same rows, parameters and seed give the same JSON, whatever the number of threads.
Reading that JSON back, verified, is in `.xgboost_json`. The symbol code is a number to these trees, not a category:
with a few symbols two splits tell any of them apart, and a plain tree is a smaller format to verify.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xgboost

from levibot_core.config import TrainingProfile
from levibot_core.models.calibration import sigmoid
from levibot_core.models.class_weight import weight_of_rises, without_class_weight
from levibot_core.models.design import LabelledMatrix
from levibot_core.models.predictors import matrix_columns
from levibot_core.models.trainer import BestRound, KeepGoing, TrainedBooster

# Gradients are rounded to multiples of this. The double-precision sums over fewer than 2^32 rows are then exact, so
# that no order of summation, and no number of threads, can decide between two splits that are equally good.
_GRADIENT_STEP = 2.0**-20


class XGBoostTrainer:
    """Trains boosters on the same rows again and again; the rows are binned once. See `.trainer.Trainer`."""

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
        self._labels = validation.labels
        columns = list(matrix_columns(features))
        balanced = profile.class_weight == "balanced"
        self._weight_of_rises = weight_of_rises(train.labels, train.weights) if balanced else 1.0
        weights = np.ones(train.labels.size) if train.weights is None else train.weights
        self._row_weights = np.where(train.labels == 1, weights * self._weight_of_rises, weights)
        self._train_labels = train.labels
        self._fixed: dict[str, object] = {
            "objective": "binary:logistic",
            "base_score": float(np.average(train.labels, weights=self._row_weights)),
            "tree_method": "hist",
            "max_bin": profile.max_bin,
            "seed": seed,
            "nthread": threads,
            "disable_default_eval_metric": True,
            "verbosity": 0,
        }
        self._train = xgboost.QuantileDMatrix(
            train.matrix, train.labels, feature_names=columns, max_bin=profile.max_bin, nthread=threads
        )
        self._validation = xgboost.DMatrix(validation.matrix, feature_names=columns, nthread=threads)

    def train(self, parameters: Mapping[str, float], keep_going: KeepGoing | None = None) -> TrainedBooster:
        """See `Trainer.train`; the parameters are XGBoost's."""
        best = BestRound(self._labels, self._profile.early_stopping_rounds, keep_going)
        booster = xgboost.train(
            {**self._fixed, **parameters},
            self._train,
            num_boost_round=self._profile.max_rounds,
            # Named here so that XGBoost keeps its forecasts up to date from round to round.
            evals=[(self._validation, "validation")],
            obj=self._gradients,
            callbacks=[_Watch(best, self._validation, self._weight_of_rises)],
            verbose_eval=False,
        )
        return best.booster(bytes(booster[: best.rounds].save_raw("json")).decode())

    def _gradients(self, margins: np.ndarray, _: xgboost.DMatrix) -> tuple[np.ndarray, np.ndarray]:
        """First and second derivative of the weighted log loss in each row's margin, float32 (n,) each."""
        probabilities = sigmoid(np.asarray(margins, dtype=np.float64))
        first = self._row_weights * (probabilities - self._train_labels)
        second = self._row_weights * probabilities * (1.0 - probabilities)
        return _on_the_grid(first), _on_the_grid(second)


class _Watch(xgboost.callback.TrainingCallback):
    """Asks after each round whether it is the last."""

    def __init__(self, best: BestRound, validation: xgboost.DMatrix, weight_of_rises: float) -> None:
        super().__init__()
        self._best = best
        self._validation = validation
        self._weight_of_rises = weight_of_rises

    def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
        """See `TrainingCallback`; True ends the training."""
        del evals_log  # Part of XGBoost's hook; no metric of its own is in use.
        scores = np.asarray(model.predict(self._validation), dtype=np.float64)
        return self._best.ends_with(epoch + 1, without_class_weight(scores, self._weight_of_rises))


def gain_importance(model_json: str) -> dict[str, float]:
    """Share of the total gain per column of the design matrix, highest first; all 0 for a model without splits."""
    booster = xgboost.Booster(model_file=bytearray(model_json.encode()))
    gains = booster.get_score(importance_type="total_gain")
    total = sum(_number(gain) for gain in gains.values())
    shares = {name: _number(gains.get(name, 0.0)) / (total or 1.0) for name in booster.feature_names or ()}
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def _number(gain: float | list[float]) -> float:
    return float(gain) if isinstance(gain, int | float) else float(sum(gain))


def _on_the_grid(values: np.ndarray) -> np.ndarray:
    return (np.round(values / _GRADIENT_STEP) * _GRADIENT_STEP).astype(np.float32)
