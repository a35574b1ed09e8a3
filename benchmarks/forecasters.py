"""The forecasters of `model_table`: ours, with parameters that were fixed beforehand, and what others start from.

Each is trained on the rows it is given and scores others. Which rows those are is `walk_forward`'s business, how good
the scores are that of `model_scores`. The transformer is in `transformer`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np
import polars as pl

from benchmarks.periods import Recording
from levibot_core.config import TrainingProfile
from levibot_core.models.boosters import booster_family
from levibot_core.models.design import LabelledMatrix, label_vector
from levibot_core.models.families import FAMILIES
from levibot_core.models.predictors import LIGHTGBM, XGBOOST, matrix_columns


@dataclass(frozen=True, slots=True)
class Known:
    """What may be learnt from at one instant.

    Attributes:
        recording: Where the rows are from.
        rows: With labels, all of which had ended; `place` names their row of the recording's matrix.
        begin_ms: The instant, UTC milliseconds.
        horizon: Bars ahead.
    """

    recording: Recording
    rows: pl.DataFrame
    begin_ms: int
    horizon: int


Score = Callable[[pl.DataFrame], np.ndarray]
"""From rows of the recording to a probability of a rise each, (n,); NaN where there is no forecast."""
Fit = Callable[[Known], Callable[[int], Score]]
"""From what is known to what trains with a seed: work that all seeds share is done once."""

ROUNDS = 200
_STOPPED_BY_EVERY = 8
# Shallow trees of many rows, slowly, for weak signals. Set by hand and not tuned; but three such settings were looked
# at on the recordings of 2025 before this one was kept.
PARAMETERS: Mapping[str, Mapping[str, float]] = {
    LIGHTGBM: {
        "learning_rate": 0.03,
        "num_leaves": 8,
        "min_data_in_leaf": 2000,
        "feature_fraction": 0.2,
        "bagging_fraction": 0.8,
        "lambda_l2": 100.0,
    },
    XGBOOST: {
        "learning_rate": 0.03,
        "max_depth": 3,
        "min_child_weight": 500.0,
        "colsample_bytree": 0.2,
        "subsample": 0.8,
        "lambda": 100.0,
    },
}
FIVE_FEATURES = ("log_return_1", "sma_gap_20", "sma_gap_50", "volume_zscore_50", "realized_volatility_48")


def boosted(name: str) -> Fit:
    """One of the platform's boosted families, for a fixed number of rounds."""
    family = booster_family(name)
    profile = TrainingProfile(
        name="benchmark", trials=1, max_rounds=ROUNDS, early_stopping_rounds=ROUNDS, max_bin=63, drift_rows=100
    )

    def fit(known: Known) -> Callable[[int], Score]:
        matrix, features = known.recording.matrix, known.recording.period.features
        train = LabelledMatrix(matrix[known.rows["place"].to_numpy()], label_vector(known.rows, "train"))
        # Stopped by rows it was trained on, that is, hardly: their loss falls to the last rounds.
        some = LabelledMatrix(train.matrix[::_STOPPED_BY_EVERY], train.labels[::_STOPPED_BY_EVERY])
        trainer = family.trainer(train, some, features, profile, 0, 1)

        def with_seed(seed: int) -> Score:
            # Binning the rows knows no chance, so that one trainer serves all seeds.
            trained = trainer.train({**PARAMETERS[name], "seed": seed})
            predictor = FAMILIES[name].read({family.file: trained.text.encode()}, matrix_columns(features))
            return lambda rows: predictor.predict(matrix[rows["place"].to_numpy()])

        return with_seed

    return fit


def five_features_by_default(known: Known) -> Callable[[int], Score]:
    """LightGBM as it comes, on five features like those of the earlier LeviBot."""
    matrix, features = known.recording.matrix, known.recording.period.features
    columns = np.array([features.index(name) for name in FIVE_FEATURES])
    train = matrix[np.ix_(known.rows["place"].to_numpy(), columns)]

    def with_seed(seed: int) -> Score:
        settings: dict[str, Any] = {"objective": "binary", "seed": seed, "num_threads": 1, "verbosity": -1}
        booster = lightgbm.train(settings, lightgbm.Dataset(train, label_vector(known.rows, "train")), 100)
        return lambda rows: np.asarray(booster.predict(matrix[np.ix_(rows["place"].to_numpy(), columns)]))

    return with_seed


def momentum_sign(known: Known) -> Callable[[int], Score]:
    """How often a rise of the last hour was followed by one, and a fall by one."""
    returns = known.recording.matrix[:, known.recording.period.features.index("log_return_12")]
    labels, rose = label_vector(known.rows, "train"), returns[known.rows["place"].to_numpy()] > 0
    after_rise, after_fall = float(labels[rose].mean()), float(labels[~rose].mean())
    return lambda _: lambda rows: np.where(returns[rows["place"].to_numpy()] > 0, after_rise, after_fall)


def base_rate(known: Known) -> Callable[[int], Score]:
    """Always the share of rises among the training rows."""
    share = float(label_vector(known.rows, "train").mean())
    return lambda _: lambda rows: np.full(rows.height, share)


def always_up(known: Known) -> Callable[[int], Score]:
    """A rise, always, by a hair: what accuracy and returns are compared with."""
    del known  # It looks at nothing.
    return lambda _: lambda rows: np.full(rows.height, np.nextafter(0.5, 1.0))
