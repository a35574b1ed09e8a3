"""Training the volatility head: LightGBM on the logarithm of the realised volatility.

The logarithm is close to normal (Andersen, Bollerslev, Diebold, Labys 2003), so squared error is the right
loss for it. Reading and applying the head is in `levibot_core.models.volatility`, the label in
`levibot_core.labels.volatility`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import lightgbm
import numpy as np

from levibot_core.errors import DataQualityError
from levibot_core.models.booster_text import without_threads
from levibot_core.models.predictors import SYMBOL_CODE, matrix_columns
from levibot_core.models.volatility import VolatilityHead, VolatilitySettings, read_volatility, volatility_settings_text

MAX_ROUNDS = 600
PATIENCE = 30
PARAMETERS = {
    "objective": "regression",
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_data_in_leaf": 100,
    "feature_fraction": 0.5,
    "bagging_fraction": 0.7,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "max_bin": 63,
}
"""Not searched: volatility is forecast well by any sensible choice, and each trial would have to be counted."""


@dataclass(frozen=True, slots=True)
class TrainedVolatility:
    """A trained head as the two texts of a bundle.

    Attributes:
        booster_text: Content of `volatility.txt`.
        settings_text: Content of `volatility.json`.
        rounds: Trees it has.
        validation_rmse: Root mean squared error of the log volatility on the validation rows.
    """

    booster_text: str
    settings_text: str
    rounds: int
    validation_rmse: float

    def head(self) -> VolatilityHead:
        """The head, read from the texts as serving reads it."""
        return read_volatility(self.booster_text, self.settings_text)


def train_volatility(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    features: Sequence[str],
    horizon_bars: int,
    seed: int,
    threads: int = 1,
    max_rounds: int = MAX_ROUNDS,
) -> TrainedVolatility:
    """Train on the train rows, stop and correct the bias on the validation rows.

    The exponential of a mean logarithm is a median. It is multiplied by sqrt(mean(exp(2 * error))) over the validation
    rows, so that its square is unbiased: N. Duan, "Smearing estimate: a nonparametric retransformation method" (1983),
    for the variance, which is what sizing and QLIKE ask for. The train rows' own errors would be too small for it.
    Rows of a volatility of 0, in which nothing was traded, are left out.

    Args:
        train: Design matrix, float64 (n, f + 1), and realised volatility over the horizon, a fraction, (n,).
        validation: The same of later rows.
        features: Columns of the matrix, in order, without the symbol code at the end.
        horizon_bars: Bars that the label spans.
        seed: The same rows and seed give the same text, whatever the number of threads.
        threads: Threads to use.
        max_rounds: Trees at most.

    Raises:
        DataQualityError: a part has no row with a positive, finite volatility.
    """
    columns = list(matrix_columns(features))
    fixed = {
        **PARAMETERS,
        "metric": "none",
        "deterministic": True,
        "force_row_wise": True,
        "seed": seed,
        "num_threads": threads,
        "verbosity": -1,
    }
    (matrix, logs), (later_matrix, later_logs) = _traded(train, "train"), _traded(validation, "validation")
    data = lightgbm.Dataset(
        matrix, logs, feature_name=columns, categorical_feature=[columns.index(SYMBOL_CODE)], params=fixed
    )
    booster = lightgbm.train(
        fixed,
        data,
        num_boost_round=max_rounds,
        valid_sets=[data.create_valid(later_matrix, later_logs, params=fixed)],
        valid_names=["validation"],
        feval=_mean_squared_error,
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    text = without_threads(booster.model_to_string(num_iteration=booster.best_iteration))
    errors = later_logs - np.asarray(booster.predict(later_matrix, num_iteration=booster.best_iteration, num_threads=1))
    smearing = float(np.sqrt(np.mean(np.exp(2.0 * errors))))
    settings = VolatilitySettings(horizon_bars, tuple(features), smearing)
    rmse = float(np.sqrt(np.mean(errors**2)))
    return TrainedVolatility(text, volatility_settings_text(settings), int(booster.best_iteration), rmse)


def _traded(rows: tuple[np.ndarray, np.ndarray], part: str) -> tuple[np.ndarray, np.ndarray]:
    """The matrix and the log volatility of the rows in which something was traded."""
    matrix, volatility = rows
    traded = np.isfinite(volatility) & (volatility > 0.0)
    if not traded.any():
        raise DataQualityError(
            f"Expected {part} rows with a realised volatility above 0, was none of {volatility.size}. "
            "Train on a market that trades, or on a longer history."
        )
    return matrix[traded], np.log(volatility[traded])


def _mean_squared_error(forecasts: np.ndarray, data: lightgbm.Dataset) -> tuple[str, float, bool]:
    """LightGBM's own is summed by its threads, and so differs in the last digit with their number."""
    return "mse", float(np.mean((forecasts - np.asarray(data.get_label(), dtype=np.float64)) ** 2)), False
