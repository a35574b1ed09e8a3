"""The forecasters of `model_table`: ours, with parameters that were fixed beforehand, and what others start from.

Each is trained on the rows it is given and scores others. Which rows those are is `walk_forward`'s business, how good
the scores are that of `model_table`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightgbm
import numpy as np
import polars as pl

from levibot_core.config import TrainingProfile
from levibot_core.models.boosters import booster_family
from levibot_core.models.design import LabelledMatrix, design_matrix, label_vector
from levibot_core.models.families import FAMILIES
from levibot_core.models.predictors import LIGHTGBM, XGBOOST, matrix_columns

Fit = Callable[[pl.DataFrame, Sequence[str], Sequence[str], int], Callable[[pl.DataFrame], np.ndarray]]
"""From training rows, features, symbols and a seed to what scores rows: a probability of a rise each, (n,)."""

ROUNDS = 200
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

    def fit(
        rows: pl.DataFrame, features: Sequence[str], symbols: Sequence[str], seed: int
    ) -> Callable[[pl.DataFrame], np.ndarray]:
        train = LabelledMatrix(design_matrix(rows, features, symbols), label_vector(rows, "train"))
        # Stopped by rows it was trained on, that is, not at all: their loss falls to the last round.
        trained = family.trainer(train, train, features, profile, seed, 1).train(PARAMETERS[name])
        predictor = FAMILIES[name].read({family.file: trained.text.encode()}, matrix_columns(features))
        return lambda others: predictor.predict(design_matrix(others, features, symbols))

    return fit


def five_features_by_default(
    rows: pl.DataFrame, features: Sequence[str], symbols: Sequence[str], seed: int
) -> Callable[[pl.DataFrame], np.ndarray]:
    """LightGBM as it comes, on five features like those of the earlier LeviBot."""
    del features, symbols  # It has features of its own and does not tell symbols apart.
    settings: dict[str, Any] = {"objective": "binary", "seed": seed, "num_threads": 1, "verbosity": -1}
    booster = lightgbm.train(
        settings, lightgbm.Dataset(rows.select(FIVE_FEATURES).to_numpy(), label_vector(rows, "train")), 100
    )
    return lambda others: np.asarray(booster.predict(others.select(FIVE_FEATURES).to_numpy()))


def base_rate(
    rows: pl.DataFrame, features: Sequence[str], symbols: Sequence[str], seed: int
) -> Callable[[pl.DataFrame], np.ndarray]:
    """Always the share of rises among the training rows."""
    del features, symbols, seed  # It looks at labels alone.
    share = float(label_vector(rows, "train").mean())
    return lambda others: np.full(others.height, share)


def momentum_sign(
    rows: pl.DataFrame, features: Sequence[str], symbols: Sequence[str], seed: int
) -> Callable[[pl.DataFrame], np.ndarray]:
    """How often a rise of the last hour was followed by one, and a fall by one."""
    del features, symbols, seed  # It looks at one return.
    labels, rose = label_vector(rows, "train"), (rows["log_return_12"] > 0).to_numpy()
    after_rise, after_fall = float(labels[rose].mean()), float(labels[~rose].mean())
    return lambda others: np.where((others["log_return_12"] > 0).to_numpy(), after_rise, after_fall)
