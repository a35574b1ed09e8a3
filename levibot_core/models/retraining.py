"""Training with given parameters: one function per family, for rebuilding a model and for measuring its spread.

Which parameters are good is found in `levibot_core.models.tuning`; what is done with the outcome, in `.rebuild` and
`.spread`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from levibot_core.config import TrainingProfile
from levibot_core.errors import BundleError
from levibot_core.models.bundle import BundleIdentity
from levibot_core.models.design import design_matrix, label_vector
from levibot_core.models.lightgbm_model import BoosterTrainer, LabelledMatrix
from levibot_core.models.predictors import FAMILIES, LIGHTGBM


@dataclass(frozen=True, slots=True)
class Retrained:
    """What one training gave.

    Attributes:
        files: The predictor, as the files of its family in a bundle: name to bytes.
        rounds: The best round (or epoch), counted from 1.
        validation_loss: Log loss there on the validation rows, in nats, before calibration.
    """

    files: Mapping[str, bytes]
    rounds: int
    validation_loss: float


class TrainWithParameters(Protocol):
    """Trains models of a family: the rows of two parts in, one predictor per seed out. Deterministic given the seed."""

    def __call__(
        self,
        train: pl.DataFrame,
        validation: pl.DataFrame,
        identity: BundleIdentity,
        parameters: Mapping[str, bool | int | float | str],
        profile: TrainingProfile,
        seeds: Sequence[int],
        threads: int,
    ) -> tuple[Retrained, ...]:
        """Train on `train`, stop by `validation`; see `train_lightgbm`."""
        ...


@dataclass(frozen=True, slots=True)
class FamilyTraining:
    """How a family is trained with given parameters, and how equal two such trainings are.

    Attributes:
        train: Trains one model per seed; what they share is prepared once.
        tolerance: Largest difference of a test forecast between two trainings of the same recipe; 0 means the same
            bits, in the files too.
    """

    train: TrainWithParameters
    tolerance: float = 0.0


def train_lightgbm(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    identity: BundleIdentity,
    parameters: Mapping[str, bool | int | float | str],
    profile: TrainingProfile,
    seeds: Sequence[int],
    threads: int,
) -> tuple[Retrained, ...]:
    """Train LightGBM models exactly as a trial of the search does, early stopping included; rows are binned once.

    Args:
        train: Rows to grow trees on: symbol, label and the identity's features.
        validation: Rows that stop the training.
        identity: Features and symbols.
        parameters: LightGBM parameters that were tuned.
        profile: Limit of rounds, patience and bins.
        seeds: Seeds of the boosters, at least one.
        threads: They do not change the result.

    Raises:
        DataQualityError: a part has no rows, or rows of one class only.
        MissingFeatureError: a feature is absent, or NaN or infinite in some row.
    """
    labelled = [
        LabelledMatrix(design_matrix(rows, identity.features, identity.symbols), label_vector(rows, part))
        for part, rows in (("train", train), ("validation", validation))
    ]
    numbers = {name: value for name, value in parameters.items() if not isinstance(value, str)}
    trainer = BoosterTrainer(labelled[0], labelled[1], identity.features, profile, seeds[0], threads)
    boosters = [trainer.train({**numbers, "seed": seed}) for seed in seeds]
    name = FAMILIES[LIGHTGBM].file
    return tuple(
        Retrained({name: booster.text.encode()}, booster.rounds, booster.validation_loss) for booster in boosters
    )


TRAININGS: Mapping[str, FamilyTraining] = {LIGHTGBM: FamilyTraining(train_lightgbm)}


def training_of(family: str) -> FamilyTraining:
    """How a family is trained with given parameters.

    Raises:
        BundleError: this version of the platform cannot train that family again.
    """
    if family not in TRAININGS:
        raise BundleError(
            f"Expected a model of a family that can be trained again ({', '.join(sorted(TRAININGS))}), was {family!r}."
        )
    return TRAININGS[family]
