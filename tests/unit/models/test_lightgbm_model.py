import lightgbm
import numpy as np
import pytest

from levibot_core.config import TrainingProfile
from levibot_core.models.design import LabelledMatrix
from levibot_core.models.lightgbm_model import LightGBMTrainer, gain_importance

FEATURES = ("signal", "noise", "more_noise")
PARAMETERS = {
    "num_leaves": 15,
    "min_data_in_leaf": 40,
    "learning_rate": 0.1,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.7,
    "lambda_l1": 0.01,
    "lambda_l2": 0.5,
}


def sample(rows: int, seed: int) -> LabelledMatrix:
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(rows, len(FEATURES) + 1))
    matrix[:, -1] = generator.integers(0, 3, rows)
    chance = 1.0 / (1.0 + np.exp(-0.5 * matrix[:, 0] - 0.3 * (matrix[:, -1] - 1)))
    return LabelledMatrix(matrix, (generator.random(rows) < chance).astype(np.float64))


def trainer(profile: TrainingProfile, threads: int = 1, seed: int = 5) -> LightGBMTrainer:
    return LightGBMTrainer(sample(6000, 0), sample(2000, 1), FEATURES, profile, seed, threads)


def test_the_same_seed_gives_the_same_text_with_one_thread_and_with_two(profile: TrainingProfile) -> None:
    one, two = trainer(profile).train(PARAMETERS), trainer(profile, threads=2).train(PARAMETERS)
    assert one == two
    assert trainer(profile, seed=6).train(PARAMETERS).text != one.text


def test_a_trainer_can_be_used_again_with_smaller_leaves(profile: TrainingProfile) -> None:
    """Binned once, the rows must serve any parameters in any order."""
    shared = trainer(profile)
    shared.train({**PARAMETERS, "min_data_in_leaf": 2000})
    assert shared.train(PARAMETERS) == trainer(profile).train(PARAMETERS)


def test_training_stops_at_the_best_validation_round(profile: TrainingProfile) -> None:
    seen: list[tuple[int, float]] = []

    def watch(round_number: int, loss: float) -> bool:
        seen.append((round_number, loss))
        return True

    patient = profile.model_copy(update={"max_rounds": 300, "early_stopping_rounds": 5})
    booster = trainer(patient).train({**PARAMETERS, "learning_rate": 0.3}, watch)
    assert [number for number, _ in seen] == list(range(1, len(seen) + 1))
    assert booster.validation_loss == min(loss for _, loss in seen)
    assert (booster.rounds, booster.validation_loss) in seen
    assert len(seen) == booster.rounds + 5
    assert lightgbm.Booster(model_str=booster.text).num_trees() == booster.rounds


def test_the_reported_loss_is_that_of_the_text(profile: TrainingProfile) -> None:
    booster, validation = trainer(profile).train(PARAMETERS), sample(2000, 1)
    predicted = np.asarray(lightgbm.Booster(model_str=booster.text).predict(validation.matrix, num_threads=1))
    loss = -np.mean(np.log(np.where(validation.labels == 1, predicted, 1 - predicted)))
    assert booster.validation_loss == pytest.approx(loss)


def test_importance_finds_the_planted_signal_and_sums_to_one(profile: TrainingProfile) -> None:
    shares = gain_importance(trainer(profile).train(PARAMETERS).text)
    assert next(iter(shares)) == "signal"
    assert set(shares) == {*FEATURES, "symbol_code"}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def test_a_model_without_splits_has_no_importance(profile: TrainingProfile) -> None:
    hopeless = trainer(profile).train({**PARAMETERS, "min_data_in_leaf": 5999})
    assert set(gain_importance(hopeless.text).values()) == {0.0}
