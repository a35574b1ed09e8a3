"""Training one LightGBM classifier. Which parameters it is given is found in `levibot_core.models.tuning`.

Training is deterministic: the same rows, parameters and seed give the same text, whatever the number of threads.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import lightgbm
import numpy as np

from levibot_core.config import TrainingProfile
from levibot_core.models.class_weight import weight_of_rises, without_class_weight
from levibot_core.models.design import LabelledMatrix
from levibot_core.models.predictors import SYMBOL_CODE, matrix_columns
from levibot_core.models.trainer import BestRound, KeepGoing, TrainedBooster

_THREADS_LINE = re.compile(r"^\[num_threads: \d+\]$", re.MULTILINE)


class LightGBMTrainer:
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
        balanced = profile.class_weight == "balanced"
        self._weight_of_rises = weight_of_rises(train.labels, train.weights) if balanced else 1.0
        self._fixed: dict[str, object] = {
            "objective": "binary",
            "metric": "none",
            "deterministic": True,
            "force_row_wise": True,
            "seed": seed,
            "num_threads": threads,
            "max_bin": profile.max_bin,
            "scale_pos_weight": self._weight_of_rises,
            # Rows are binned before min_data_in_leaf is known: no feature may be dropped for one value of it.
            "feature_pre_filter": False,
            "bagging_freq": 1,
            "verbosity": -1,
        }
        columns = list(matrix_columns(features))
        self._train = lightgbm.Dataset(
            train.matrix,
            train.labels,
            weight=train.weights,
            feature_name=columns,
            categorical_feature=[columns.index(SYMBOL_CODE)],
            params=self._fixed,
            free_raw_data=False,
        ).construct()
        self._validation = self._train.create_valid(
            validation.matrix, validation.labels, params=self._fixed
        ).construct()

    def train(self, parameters: Mapping[str, float], keep_going: KeepGoing | None = None) -> TrainedBooster:
        """See `Trainer.train`; the parameters are LightGBM's."""
        best = BestRound(self._labels, self._profile.early_stopping_rounds, keep_going)
        latest = np.empty(0)

        def score(probabilities: np.ndarray, _: lightgbm.Dataset) -> tuple[str, float, bool]:
            nonlocal latest
            latest = without_class_weight(probabilities, self._weight_of_rises)
            return "kept by BestRound", 0.0, False

        def stop(environment: Any) -> None:
            if best.ends_with(environment.iteration + 1, latest):
                raise lightgbm.EarlyStopException(best.rounds - 1, environment.evaluation_result_list)

        booster = lightgbm.train(
            {**self._fixed, **parameters},
            self._train,
            num_boost_round=self._profile.max_rounds,
            valid_sets=[self._validation],
            feval=score,
            callbacks=[stop],
        )
        return best.booster(_without_threads(booster.model_to_string(num_iteration=best.rounds)))


def gain_importance(booster_text: str) -> dict[str, float]:
    """Share of the total gain per column of the design matrix, highest first; all 0 for a model without splits."""
    booster = lightgbm.Booster(model_str=booster_text)
    gains = booster.feature_importance("gain")
    shares = gains / gains.sum() if gains.sum() > 0 else gains
    ranked = sorted(zip(booster.feature_name(), shares.tolist(), strict=True), key=lambda item: (-item[1], item[0]))
    return dict(ranked)


def _without_threads(text: str) -> str:
    """The number of threads is the one setting that the model does not depend on: keep it out of the text."""
    return _THREADS_LINE.sub("[num_threads: 1]", text)
