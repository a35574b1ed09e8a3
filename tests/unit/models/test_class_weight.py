import numpy as np
import pytest

from levibot_core.config import TrainingProfile
from levibot_core.errors import DataQualityError
from levibot_core.models.boosters import BOOSTERS
from levibot_core.models.class_weight import weight_of_rises, without_class_weight
from levibot_core.models.design import LabelledMatrix

PARAMETERS = {
    "lightgbm": {"num_leaves": 7, "min_data_in_leaf": 50, "learning_rate": 0.2},
    "xgboost": {"max_depth": 3, "min_child_weight": 5.0, "learning_rate": 0.2},
}


def few_rises(rows: int, seed: int) -> LabelledMatrix:
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(rows, 3))
    matrix[:, -1] = 0.0
    chance = 1.0 / (1.0 + np.exp(3.0 - 1.5 * matrix[:, 0]))
    return LabelledMatrix(matrix, (generator.random(rows) < chance).astype(np.float64))


def test_the_weight_makes_both_classes_count_the_same() -> None:
    labels = np.array([1.0, 0.0, 0.0, 0.0])
    assert weight_of_rises(labels) == 3.0
    assert weight_of_rises(labels, np.array([2.0, 1.0, 1.0, 2.0])) == 2.0


def test_the_shift_of_a_weight_is_a_factor_on_the_odds() -> None:
    shifted = np.array([0.0, 0.25, 0.5, 1.0])
    assert without_class_weight(shifted, 3.0) == pytest.approx([0.0, 0.1, 0.25, 1.0])
    assert without_class_weight(shifted, 1.0) is shifted


@pytest.mark.parametrize("family", ["lightgbm", "xgboost"])
def test_a_weighted_model_says_more_rises_and_its_validation_loss_still_compares(
    profile: TrainingProfile, family: str
) -> None:
    train, validation = few_rises(4000, 0), few_rises(1500, 1)
    found = {}
    for weight in ("none", "balanced"):
        weighted = profile.model_copy(update={"class_weight": weight})
        booster = BOOSTERS[family].trainer(train, validation, ("signal", "noise"), weighted, 5, 1)
        found[weight] = booster.train(PARAMETERS[family])
    rises = validation.labels.mean()
    assert rises < 0.15
    for trained in found.values():
        assert trained.validation_probabilities.mean() == pytest.approx(rises, abs=0.03)
        assert trained.validation_loss < 0.95 * -(rises * np.log(rises) + (1 - rises) * np.log(1 - rises))
    assert found["balanced"].text != found["none"].text


@pytest.mark.parametrize("family", ["lightgbm", "xgboost"])
def test_rows_without_weight_are_as_good_as_absent(profile: TrainingProfile, family: str) -> None:
    clean, validation = few_rises(3000, 0), few_rises(800, 1)
    noise = LabelledMatrix(clean.matrix, 1.0 - clean.labels)
    both = LabelledMatrix(
        np.concatenate([clean.matrix, noise.matrix]),
        np.concatenate([clean.labels, noise.labels]),
        np.repeat([1.0, 0.0], 3000),
    )
    make = BOOSTERS[family].trainer
    losses = [
        make(train, validation, ("signal", "noise"), profile, 5, 1).train(PARAMETERS[family]).validation_loss
        for train in (clean, both, LabelledMatrix(both.matrix, both.labels))
    ]
    assert losses[1] == pytest.approx(losses[0], abs=0.01)
    assert losses[2] > losses[0] + 0.1


@pytest.mark.parametrize("weights", [np.ones(3), np.array([1.0, -1.0]), np.array([np.nan, 1.0]), np.zeros(2)])
def test_weights_that_cannot_be_used_are_refused(weights: np.ndarray) -> None:
    with pytest.raises(DataQualityError, match="finite weight of at least 0 for each of 2 rows"):
        LabelledMatrix(np.zeros((2, 3)), np.array([0.0, 1.0]), weights)
