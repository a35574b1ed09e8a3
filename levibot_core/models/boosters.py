"""The boosted families: how each is trained, where its parameters are searched, and from where the search starts.

A further boosted family adds one entry to `BOOSTERS`. The search itself is in `levibot_core.models.tuning`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from levibot_core.config import TrainingProfile
from levibot_core.errors import ConfigurationError
from levibot_core.models import lightgbm_model, xgboost_model
from levibot_core.models.design import LabelledMatrix
from levibot_core.models.predictors import LIGHTGBM, XGBOOST
from levibot_core.models.trainer import Trainer

# The sum of second derivatives per row where a forecast is near one half: XGBoost counts leaves in these.
_CURVATURE_PER_ROW = 0.25


class MakeTrainer(Protocol):
    """Makes a trainer for rows to train on, rows to stop and rank by, and the features' names without the symbol."""

    def __call__(
        self,
        train: LabelledMatrix,
        validation: LabelledMatrix,
        features: Sequence[str],
        profile: TrainingProfile,
        seed: int,
        threads: int,
    ) -> Trainer:
        """See `Trainer`; the number of threads does not change what it trains."""
        ...


@dataclass(frozen=True, slots=True)
class BoosterFamily:
    """A family of boosted trees.

    Attributes:
        name: Its name among `FAMILIES`.
        file: The one file of its predictor, which holds `TrainedBooster.text`.
        trainer: Makes its trainer.
        space: Where to search, given the number of training rows.
        first_trial: Cautious parameters for weak signals; the search starts from here.
        importance: Share of the gain per column of the design matrix, highest first, given the text.
    """

    name: str
    file: str
    trainer: MakeTrainer
    space: Callable[[int], dict[str, BaseDistribution]]
    first_trial: Mapping[str, float]
    importance: Callable[[str], dict[str, float]]


def lightgbm_space(rows: int) -> dict[str, BaseDistribution]:
    """Where to search for LightGBM's parameters; large leaves and strong shrinkage suit weak signals."""
    return {
        "num_leaves": IntDistribution(4, 63, log=True),
        "min_data_in_leaf": IntDistribution(_smallest_leaf(rows), _largest_leaf(rows), log=True),
        "learning_rate": FloatDistribution(0.01, 0.2, log=True),
        "feature_fraction": FloatDistribution(0.1, 0.7),
        "bagging_fraction": FloatDistribution(0.5, 1.0),
        "lambda_l1": FloatDistribution(1e-3, 10.0, log=True),
        "lambda_l2": FloatDistribution(1e-3, 100.0, log=True),
    }


def xgboost_space(rows: int) -> dict[str, BaseDistribution]:
    """Where to search for XGBoost's parameters: the same leaves, in its own measure, and trees grown by depth."""
    return {
        "max_depth": IntDistribution(2, 6),
        "min_child_weight": FloatDistribution(
            _CURVATURE_PER_ROW * _smallest_leaf(rows), _CURVATURE_PER_ROW * _largest_leaf(rows), log=True
        ),
        "learning_rate": FloatDistribution(0.01, 0.2, log=True),
        "colsample_bytree": FloatDistribution(0.1, 0.7),
        "subsample": FloatDistribution(0.5, 1.0),
        "alpha": FloatDistribution(1e-3, 10.0, log=True),
        "lambda": FloatDistribution(1e-3, 100.0, log=True),
    }


def booster_family(name: str) -> BoosterFamily:
    """The boosted family of that name.

    Raises:
        ConfigurationError: there is none.
    """
    if name not in BOOSTERS:
        raise ConfigurationError(f"Expected a boosted family of {', '.join(BOOSTERS)}, was {name!r}.")
    return BOOSTERS[name]


def clipped(parameters: Mapping[str, float], space: Mapping[str, BaseDistribution]) -> dict[str, float]:
    """The parameters, moved into the space where few rows have narrowed it."""
    bounds = {name: space[name] for name in parameters}
    return {
        name: min(max(parameters[name], bound.low), bound.high)
        for name, bound in bounds.items()
        if isinstance(bound, IntDistribution | FloatDistribution)
    }


def _smallest_leaf(rows: int) -> int:
    return min(200, max(10, rows // 100))


def _largest_leaf(rows: int) -> int:
    return max(20, min(5000, rows // 10))


BOOSTERS: Mapping[str, BoosterFamily] = {
    LIGHTGBM: BoosterFamily(
        LIGHTGBM,
        "booster.txt",
        lightgbm_model.LightGBMTrainer,
        lightgbm_space,
        {
            "num_leaves": 15,
            "min_data_in_leaf": 1000,
            "learning_rate": 0.03,
            "feature_fraction": 0.3,
            "bagging_fraction": 0.8,
            "lambda_l1": 0.01,
            "lambda_l2": 1.0,
        },
        lightgbm_model.gain_importance,
    ),
    XGBOOST: BoosterFamily(
        XGBOOST,
        "xgboost.json",
        xgboost_model.XGBoostTrainer,
        xgboost_space,
        {
            "max_depth": 4,
            "min_child_weight": 250.0,
            "learning_rate": 0.03,
            "colsample_bytree": 0.3,
            "subsample": 0.8,
            "alpha": 0.01,
            "lambda": 1.0,
        },
        xgboost_model.gain_importance,
    ),
}
