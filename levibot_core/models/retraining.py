"""Training with given parameters, for rebuilding a model and for measuring its spread.

How a boosted family is trained is in `levibot_core.models.boosters`, which parameters are good is found in `.tuning`;
what is done with the outcome, in `.rebuild` and `.spread`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import polars as pl

from levibot_core.config import TrainingProfile
from levibot_core.errors import BundleError
from levibot_core.models.boosters import BOOSTERS, booster_family
from levibot_core.models.bundle import BundleIdentity
from levibot_core.models.design import LabelledMatrix, design_matrix, label_vector
from levibot_core.models.predictors import TFT
from levibot_core.models.tft.configuration import TFT_REBUILD_TOLERANCE


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
        """Train on `train`, stop by `validation`; see `train_boosted`."""
        ...


@dataclass(frozen=True, slots=True)
class FamilyTraining:
    """How a family is trained with given parameters, and how equal two such trainings are.

    Attributes:
        train: Trains one model per seed; what they share is prepared once.
        tolerance: Largest difference of a test forecast between two trainings of the same recipe; 0 means the same
            bits, in the files too.
        cheap: Whether a training takes seconds, so that the card can have many of them: other folds, other seeds.
    """

    train: TrainWithParameters
    tolerance: float = 0.0
    cheap: bool = True


def train_boosted(
    family: str,
    train: pl.DataFrame,
    validation: pl.DataFrame,
    identity: BundleIdentity,
    parameters: Mapping[str, bool | int | float | str],
    profile: TrainingProfile,
    seeds: Sequence[int],
    threads: int,
) -> tuple[Retrained, ...]:
    """Train models of a boosted family exactly as a trial of the search does; rows are binned once for all seeds.

    Args:
        family: Its name, such as `lightgbm`.
        train: Rows to grow trees on: symbol, label and the identity's features.
        validation: Rows that stop the training.
        identity: Features and symbols.
        parameters: The family's parameters that were tuned.
        profile: Limit of rounds, patience and bins.
        seeds: Seeds of the boosters, at least one.
        threads: They do not change the result.

    Raises:
        DataQualityError: a part has no rows, or rows of one class only.
        MissingFeatureError: a feature is absent, or NaN or infinite in some row.
        ConfigurationError: there is no such boosted family.
    """
    family_of_trees = booster_family(family)
    labelled = [
        LabelledMatrix(design_matrix(rows, identity.features, identity.symbols), label_vector(rows, part))
        for part, rows in (("train", train), ("validation", validation))
    ]
    numbers = {name: value for name, value in parameters.items() if not isinstance(value, str)}
    trainer = family_of_trees.trainer(labelled[0], labelled[1], identity.features, profile, seeds[0], threads)
    boosters = [trainer.train({**numbers, "seed": seed}) for seed in seeds]
    return tuple(
        Retrained({family_of_trees.file: booster.text.encode()}, booster.rounds, booster.validation_loss)
        for booster in boosters
    )


def train_transformer(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    identity: BundleIdentity,
    parameters: Mapping[str, bool | int | float | str],
    profile: TrainingProfile,
    seeds: Sequence[int],
    threads: int,
) -> tuple[Retrained, ...]:
    """Train transformers; see `levibot_core.models.tft.candidate.retrain_transformer`, which takes the same."""
    from levibot_core.models.tft.candidate import retrain_transformer  # It needs `Retrained`, of this module.

    return retrain_transformer(train, validation, identity, parameters, profile, seeds, threads)


TRAININGS: Mapping[str, FamilyTraining] = {
    **{name: FamilyTraining(partial(train_boosted, name)) for name in BOOSTERS},
    TFT: FamilyTraining(train_transformer, tolerance=TFT_REBUILD_TOLERANCE, cheap=False),
}


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
