import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import xgboost
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.config import TrainingProfile
from levibot_core.errors import BundleError, MissingFeatureError
from levibot_core.models.design import LabelledMatrix
from levibot_core.models.predictors import matrix_columns
from levibot_core.models.trainer import TrainedBooster
from levibot_core.models.xgboost_json import check_xgboost_json, read_xgboost
from levibot_core.models.xgboost_model import XGBoostTrainer, gain_importance

FEATURES = ("signal", "twin", "noise")
COLUMNS = matrix_columns(FEATURES)
PARAMETERS = {
    "max_depth": 4,
    "min_child_weight": 5.0,
    "learning_rate": 0.2,
    "colsample_bytree": 0.8,
    "subsample": 0.7,
    "alpha": 0.01,
    "lambda": 0.5,
}


def sample(rows: int, seed: int, weights: np.ndarray | None = None) -> LabelledMatrix:
    """A strong signal and its mirror image: every split on the one is exactly as good on the other."""
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(rows, len(COLUMNS)))
    matrix[:, 1] = -matrix[:, 0]
    matrix[:, -1] = generator.integers(0, 3, rows)
    chance = 1.0 / (1.0 + np.exp(-3.0 * matrix[:, 0]))
    return LabelledMatrix(matrix, (generator.random(rows) < chance).astype(np.float64), weights)


def trainer(
    profile: TrainingProfile, threads: int = 1, seed: int = 5, weights: np.ndarray | None = None
) -> XGBoostTrainer:
    return XGBoostTrainer(sample(3000, 0, weights), sample(800, 1), FEATURES, profile, seed, threads)


@pytest.fixture(scope="module")
def trained(profile: TrainingProfile) -> TrainedBooster:
    return trainer(profile.model_copy(update={"max_rounds": 6})).train(PARAMETERS)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_same_seed_gives_the_same_json_with_one_thread_and_with_two(
    profile: TrainingProfile, weighted: bool
) -> None:
    short = profile.model_copy(update={"max_rounds": 12})
    weights = np.random.default_rng(2).random(3000) if weighted else None
    one, two = (trainer(short, threads=threads, weights=weights).train(PARAMETERS) for threads in (1, 2))
    assert one == two
    assert one.validation_probabilities.tobytes() == two.validation_probabilities.tobytes()
    assert trainer(short, seed=6, weights=weights).train(PARAMETERS).text != one.text


def test_a_trainer_can_be_used_again(profile: TrainingProfile) -> None:
    short = profile.model_copy(update={"max_rounds": 6})
    shared = trainer(short)
    shared.train({**PARAMETERS, "max_depth": 2})
    assert shared.train(PARAMETERS) == trainer(short).train(PARAMETERS)


def test_training_stops_at_the_best_validation_round_or_when_it_is_told_to(profile: TrainingProfile) -> None:
    seen: list[tuple[int, float]] = []

    def watch(round_number: int, loss: float) -> bool:
        seen.append((round_number, loss))
        return True

    patient = trainer(profile.model_copy(update={"max_rounds": 300, "early_stopping_rounds": 5}))
    booster = patient.train({**PARAMETERS, "learning_rate": 0.5}, watch)
    assert (booster.rounds, booster.validation_loss) in seen
    assert booster.validation_loss == min(loss for _, loss in seen)
    assert len(seen) == booster.rounds + 5
    assert xgboost.Booster(model_file=bytearray(booster.text.encode())).num_boosted_rounds() == booster.rounds

    given_up = patient.train(PARAMETERS, lambda round_number, _: round_number < 3)
    assert given_up.given_up
    assert given_up.rounds <= 3


def test_what_is_read_forecasts_as_it_did_in_training(trained: TrainedBooster) -> None:
    predictor = read_xgboost({"xgboost.json": trained.text.encode()}, COLUMNS)
    matrix = sample(800, 1).matrix
    predicted = predictor.predict(matrix)
    assert predicted.dtype == np.float64
    assert predicted == pytest.approx(trained.validation_probabilities, abs=1e-6)
    log_odds = np.log(predicted / (1.0 - predicted))
    assert np.ptp(log_odds - predictor.contributions(matrix).sum(axis=1)) < 1e-4
    with ThreadPoolExecutor(4) as pool:
        alone = list(pool.map(lambda row: float(predictor.predict(matrix[row : row + 1])[0]), range(40)))
    assert alone == predicted[:40].tolist()
    for unusable in (np.nan, np.inf):
        with pytest.raises(MissingFeatureError):
            predictor.predict(np.full((1, len(COLUMNS)), unusable))


def test_importance_finds_the_planted_signal_and_sums_to_one(trained: TrainedBooster) -> None:
    shares = gain_importance(trained.text)
    assert set(shares) == set(COLUMNS)
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["signal"] + shares["twin"] > 0.8
    assert list(shares.values()) == sorted(shares.values(), reverse=True)


def changed(text: str, *path: str | int, to: object) -> bytes:
    model: Any = json.loads(text)
    place = model["learner"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return json.dumps(model).encode()


_TREES = ("gradient_booster", "model", "trees")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: b"", "Expecting value"),
        (lambda _: b"\xff\xfe", "codec"),
        (lambda _: b"[]", "list"),
        (lambda _: b'{"learner": {}}', "gradient_booster|learner_model_param"),
        (lambda text: text.encode()[:-200], "Expecting|Unterminated|delimiter"),
        (lambda text: text.replace('"id":1', '"id":1,"id":1', 1).encode(), "twice"),
        (lambda text: changed(text, "feature_names", to=["a", "b", "c", "d"]), "columns a b c d"),
        (lambda text: changed(text, "learner_model_param", "num_feature", to="900"), "contradicts itself"),
        (lambda text: changed(text, "learner_model_param", "base_score", to="[2E0]"), "base score"),
        (lambda text: changed(text, "objective", "name", to="reg:squarederror"), "objective"),
        (lambda text: changed(text, "gradient_booster", "name", to="dart"), "plain trees"),
        (lambda text: changed(text, *_TREES[:2], "tree_info", to=[7] * 6), "other classes"),
        (lambda text: changed(text, *_TREES, 0, "split_indices", 0, to=4), "unknown column"),
        (lambda text: changed(text, *_TREES, 0, "split_indices", 0, to=-1), "unknown column"),
        (lambda text: changed(text, *_TREES, 0, "left_children", 0, to=0), "not a tree"),
        (lambda text: changed(text, *_TREES, 0, "left_children", 0, to=10**6), "not a tree"),
        (lambda text: changed(text, *_TREES, 0, "left_children", 0, to=-1), "half a split"),
        (lambda text: changed(text, *_TREES, 0, "parents", 0, to=3), "parents"),
        (lambda text: changed(text, *_TREES, 0, "split_type", 0, to=1), "unknown way"),
        (lambda text: changed(text, *_TREES, 0, "split_conditions", to=[0.5]), "split_conditions"),
        (lambda text: changed(text, *_TREES, 0, "split_conditions", 0, to=float("nan")), "NaN"),
        (lambda text: changed(text, *_TREES, 0, "split_conditions", 0, to=True), "does not hold|finite|XGBoost"),
        (lambda text: changed(text, *_TREES, 0, "categories", to=[1]), "categories"),
        (lambda text: changed(text, *_TREES, 0, "tree_param", "num_nodes", to="10000000"), "does not hold"),
        (lambda _: b'{"learner":' + b"[" * 100_000, "recursion|Expecting"),
    ],
)
def test_a_model_that_is_not_whole_is_refused(
    trained: TrainedBooster, change: Callable[[str], bytes], message: str
) -> None:
    check_xgboost_json(trained.text.encode(), COLUMNS)
    with pytest.raises(BundleError, match=message):
        read_xgboost({"xgboost.json": change(trained.text)}, COLUMNS)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_an_altered_number_anywhere_is_refused_or_harmless(trained: TrainedBooster, data: st.DataObject) -> None:
    """XGBoost would follow some of them out of its memory, and end this process."""
    model = json.loads(trained.text)
    trees = model["learner"]["gradient_booster"]["model"]["trees"]
    tree = data.draw(st.sampled_from(trees))
    name = data.draw(st.sampled_from([key for key, value in tree.items() if isinstance(value, list) and value]))
    place = data.draw(st.integers(0, len(tree[name]) - 1))
    tree[name][place] = data.draw(st.one_of(st.integers(-(2**40), 2**40), st.floats(), st.none(), st.just("0")))
    try:
        predictor = read_xgboost({"xgboost.json": json.dumps(model).encode()}, COLUMNS)
    except BundleError:
        return
    predictor.predict(sample(50, 3).matrix)
