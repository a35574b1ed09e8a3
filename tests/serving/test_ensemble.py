"""An ensemble served over HTTP: the answer of all of them, and what each of them says."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from levibot_core.models.bundle import ModelBundle
from levibot_core.models.calibration import IdentityCalibrator, PlattCalibrator
from levibot_core.models.ensemble import EnsembleRecipe
from levibot_core.models.ensemble_bundle import ensemble_files, ensemble_identity
from levibot_core.models.predictors import ENSEMBLE, LIGHTGBM
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_serving.config import ServingSettings

Serve = Callable[[ServingSettings], AbstractContextManager[httpx.Client]]

# MLflow 3.17 maps its tables with what SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture
def members(lightgbm_bundle: Callable[..., ModelBundle], base_rate: ModelBundle) -> dict[str, ModelBundle]:
    trees = lightgbm_bundle()
    booster = {"booster.txt": trees.files["booster.txt"]}
    return {
        LIGHTGBM: ModelBundle.build(trees.manifest, LIGHTGBM, booster, PlattCalibrator(0.5, 0.0)),
        "base_rate": base_rate,
    }


def test_an_ensemble_is_followed_and_says_what_its_members_say(
    registry: Any,
    settings: ServingSettings,
    members: dict[str, ModelBundle],
    features: SqliteOnlineStore,
    vector: Callable[..., FeatureVector],
    serve: Serve,
    eventually: Callable[..., None],
) -> None:
    recipe = EnsembleRecipe("stacking", tuple(members), (0.9, 0.2), 0.05)
    together = ModelBundle.build(
        ensemble_identity(list(members.values())), ENSEMBLE, ensemble_files(recipe, members), IdentityCalibrator()
    )
    now = vector()
    features.put([now])
    registry.register(together)
    registry.register(members[LIGHTGBM], promote=False)
    with serve(settings) as client:
        eventually(lambda: client.get("/readyz").status_code == 200)
        answer = client.get("/ai/predict", params={"symbol": "BTCUSDT"}).json()
        explained = client.get("/ai/explain", params={"symbol": "BTCUSDT"}).json()
        registry.promote(2)
        eventually(lambda: client.get("/readyz").json().get("version") == 2)
        single = client.get("/ai/predict", params={"symbol": "BTCUSDT"}).json()
    row = together.matrix_row("BTC/USDT", now.values)
    trees, constant = (float(member.predict(row)[0]) for member in members.values())
    assert answer["family"] == "ensemble"
    assert answer["prob_up"] == float(together.predict(row)[0])
    assert answer["components"] == [
        {"name": "lightgbm", "probability": trees, "weight": 0.9},
        {"name": "base_rate", "probability": constant, "weight": 0.2},
    ]
    assert (answer["_prob_lgbm"], answer["_prob_tft"]) == (trees, None)
    whole = explained["base_value"] + sum(item["contribution"] for item in explained["contributions"])
    assert whole + explained["others"] == pytest.approx(explained["log_odds"])
    assert (single["components"], single["_prob_lgbm"]) == ([], trees)
