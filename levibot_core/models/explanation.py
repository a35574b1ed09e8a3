"""Why one forecast is what it is: the base value, and what each value of the row adds to it, in log-odds.

Contributions are the model's own SHAP values (S. M. Lundberg, S.-I. Lee, "A unified approach to interpreting model
predictions", 2017); for trees they are exact. Serving imports this module: numpy alone. SHAP values of many rows are
sampled in `levibot_core.models.shap_values`.
"""

from dataclasses import dataclass

import numpy as np

from levibot_core.errors import BundleError
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.calibration import logit
from levibot_core.models.predictors import matrix_columns

TOP_CONTRIBUTIONS = 10
# XGBoost adds its trees in single precision; LightGBM agrees with itself to 1e-12.
ADDITIVITY_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Contribution:
    """One value of a row and what it adds to the log-odds of a rise."""

    feature: str
    value: float
    contribution: float


@dataclass(frozen=True, slots=True)
class ForecastExplanation:
    """One forecast taken apart. `base_value` + all contributions = `log_odds`, before calibration.

    Attributes:
        base_value: Log-odds that the model starts from, the same for every row.
        contributions: The strongest, largest absolute value first.
        others: Sum of the contributions that are not listed.
        log_odds: Of the uncalibrated score.
        raw_probability: The uncalibrated score.
        probability: The calibrated forecast.
    """

    base_value: float
    contributions: tuple[Contribution, ...]
    others: float
    log_odds: float
    raw_probability: float
    probability: float


def explain(bundle: ModelBundle, row: np.ndarray, top: int = TOP_CONTRIBUTIONS) -> ForecastExplanation:
    """Take the forecast of one row apart.

    Args:
        bundle: The model.
        row: Its design matrix, float64 (1, f + 1), as `ModelBundle.matrix_row` gives it.
        top: Contributions to list at most, at least 1.

    Raises:
        MissingFeatureError: a value is NaN or infinite.
        BundleError: contributions and score do not fit together: base values of this row and of another differ.
    """
    # A second row, of zeros: what is left of a score without its contributions has to be the same for both.
    pair = np.vstack([row, np.zeros_like(row)])
    scores, contributions = bundle.predict_raw(pair), bundle.contributions(pair)
    base_values = logit(scores) - contributions.sum(axis=1)
    if not abs(base_values[0] - base_values[1]) <= ADDITIVITY_TOLERANCE:
        raise BundleError(
            f"Expected contributions that add up to the score from one base value, was {base_values[0]:.6f} for the "
            f"row and {base_values[1]:.6f} for a row of zeros. Train the model again."
        )
    own = contributions[0]
    ranked = np.argsort(-np.abs(own), kind="stable")[:top]
    columns = matrix_columns(bundle.manifest.features)
    listed = tuple(Contribution(columns[place], float(row[0, place]), float(own[place])) for place in ranked)
    base_value, log_odds = float(base_values[0]), float(logit(scores[:1])[0])
    return ForecastExplanation(
        base_value=base_value,
        contributions=listed,
        others=log_odds - base_value - sum(item.contribution for item in listed),
        log_odds=log_odds,
        raw_probability=float(scores[0]),
        probability=float(bundle.calibrate(scores[:1])[0]),
    )
