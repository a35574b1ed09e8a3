"""A home to serve from: a registered champion of a known size and online features, written without a pipeline.

The model is what the claims are about: 500 trees of 63 leaves on 50 features, LightGBM, with Venn-Abers bounds and the
band of the return from a volatility head. It knows nothing; how long it takes does not depend on that.
"""

import json
import shutil
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import lightgbm
import numpy as np

from benchmarks.local_servers import python
from benchmarks.market import SYMBOLS
from benchmarks.serving_sign_in import SIGNED_IN_ENVIRONMENT
from levibot_core.features.registry import load_registry, newest_version
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.conformal import INTERVAL, ReturnInterval, interval_text
from levibot_core.models.predictors import LIGHTGBM, matrix_columns
from levibot_core.models.uncertainty import VOLATILITY_FEATURE
from levibot_core.models.venn_abers import fit_venn_abers
from levibot_core.models.volatility import (
    VOLATILITY_BOOSTER,
    VOLATILITY_SETTINGS,
    VolatilitySettings,
    volatility_settings_text,
)
from levibot_core.stores.online import FeatureVector, OnlineStore, open_online_store
from levibot_core.stores.paths import Home

MODEL_NAME = "levibot-5m-h12"
TREES, LEAVES, FEATURES = 500, 63, 50
QUICK_TREES = 50
VOLATILITY_TREES = 100
ROWS = 20_000
SERVED_SYMBOLS = tuple(SYMBOLS)
BAR_MS = 300_000


@dataclass(frozen=True, slots=True)
class ServedHome:
    """A home with a champion.

    Attributes:
        home: The folders.
        booster: The champion's booster, for the peers: they serve the same trees.
        features: Names of the model's features, in order.
    """

    home: Home
    booster: lightgbm.Booster
    features: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """What a server of this home is told."""
        return {
            "LEVIBOT_HOME": str(self.home.root),
            "LEVIBOT_SYMBOLS": ",".join(SERVED_SYMBOLS),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
            **SIGNED_IN_ENVIRONMENT,
        }

    def row(self) -> list[float]:
        """A design row that the peers are asked with: the features of the first symbol and its code."""
        values = vector_of(SERVED_SYMBOLS[0], 0).values
        return [*(values[name] for name in self.features), 0.0]


def build_home(folder: Path, trees: int = TREES) -> ServedHome:
    """Make the home below `folder`: train, register as champion, nothing in the online store yet."""
    home = Home.at(folder).create()
    names = load_registry(newest_version()).names
    wanted = [name for name in names if name != VOLATILITY_FEATURE][: FEATURES - 1]
    features = (*wanted, VOLATILITY_FEATURE)
    booster = _train("binary", trees, LEAVES, features, seed=7)
    served = ServedHome(home, booster, features)
    register(served, champion_bundle(served))
    return served


def another_bundle(served: ServedHome, trees: int = TREES) -> ModelBundle:
    """A model of the same kind that says something else, for promotions."""
    return _bundle(_train("binary", trees, LEAVES, served.features, seed=8), served.features, seed=8)


def champion_bundle(served: ServedHome) -> ModelBundle:
    """The model that `build_home` registered as version 1."""
    return _bundle(served.booster, served.features, seed=7)


def register(served: ServedHome, bundle: ModelBundle, *, promote: bool = True) -> int:
    """Register a version as the promotion pipeline lays it down, and make it the champion; returns the version."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    home = served.home
    files = home.mlflow / "models" / f"m-{time.time_ns()}"
    bundle.save(files / "artifacts" / "bundle")
    (files / "MLmodel").write_text("flavors: {}\n")
    client = MlflowClient(home.tracking_uri, home.tracking_uri)
    try:
        client.create_registered_model(MODEL_NAME)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    tags = {"tradable": "true", "reasons": "[]"}
    version = int(client.create_model_version(MODEL_NAME, source=str(files), tags=tags).version)
    if promote:
        promote_version(home, version)
    return version


def promote_version(home: Home, version: int) -> None:
    """Move the alias `champion`, as a promotion or a rollback does."""
    from mlflow import MlflowClient

    client = MlflowClient(home.tracking_uri, home.tracking_uri)
    client.set_registered_model_alias(MODEL_NAME, "champion", str(version))


def vector_of(symbol: str, bar: int, known_at_ms: int | None = None) -> FeatureVector:
    """All features of the newest set at some bar, numbers that tell symbol and bar apart."""
    names = load_registry(newest_version()).names
    values = np.random.default_rng([SERVED_SYMBOLS.index(symbol), bar]).normal(size=len(names))
    by_name = dict(zip(names, values.tolist(), strict=True))
    by_name[VOLATILITY_FEATURE] = 0.001 + abs(by_name[VOLATILITY_FEATURE]) / 1000
    now_ms = time.time_ns() // 1_000_000 if known_at_ms is None else known_at_ms
    return FeatureVector(symbol, now_ms - BAR_MS, now_ms, newest_version(), "recorded", 100.0 + bar, by_name)


def open_store(served: ServedHome, redis_url: str | None = None) -> OnlineStore:
    """The online store of the home, to put vectors into; nothing expires during a benchmark."""
    return open_online_store(served.home, redis_url, 86_400.0)


def save_for_mlflow(served: ServedHome, folder: Path) -> Path:
    """The champion's booster as a model of MLflow's LightGBM flavour, for `mlflow models serve`."""
    text, target = folder / "booster.txt", folder / "mlflow_model"
    text.write_text(served.booster.model_to_string(), "utf-8")
    shutil.rmtree(target, ignore_errors=True)
    program = (
        "import lightgbm, mlflow.lightgbm, sys\n"
        "mlflow.lightgbm.save_model(lightgbm.Booster(model_file=sys.argv[1]), sys.argv[2], pip_requirements=[])\n"
    )
    subprocess.run(python("-W", "ignore", "-c", program, str(text), str(target)), check=True, capture_output=True)  # noqa: S603
    return target


def _train(objective: str, trees: int, leaves: int, features: tuple[str, ...], seed: int) -> lightgbm.Booster:
    generator = np.random.default_rng(seed)
    rows = np.column_stack(
        [generator.normal(size=(ROWS, len(features))), generator.integers(0, len(SERVED_SYMBOLS), ROWS)]
    )
    lean = rows[:, 0] + 0.5 * rows[:, 1] * rows[:, 2] + generator.normal(size=ROWS)
    target = lean > 0.0 if objective == "binary" else -6.0 + 0.1 * lean
    settings = {
        "objective": objective,
        "num_leaves": leaves,
        "min_data_in_leaf": 20,
        "learning_rate": 0.02,
        "num_threads": 1,
        "seed": seed,
        "deterministic": True,
        "verbose": -1,
    }
    columns = list(matrix_columns(features))
    data = lightgbm.Dataset(rows, target, feature_name=columns, categorical_feature=[len(features)])
    return lightgbm.train(settings, data, num_boost_round=trees)


def _bundle(booster: lightgbm.Booster, features: tuple[str, ...], seed: int) -> ModelBundle:
    identity = BundleIdentity(
        model_name=MODEL_NAME,
        timeframe="5m",
        horizon_bars=12,
        symbols=SERVED_SYMBOLS,
        feature_set=newest_version(),
        features=features,
        snapshot_id="20260101T000000Z-0123456789ab",
        source_kind="recorded",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        seed=seed,
    )
    generator = np.random.default_rng(seed)
    scores = generator.uniform(0.2, 0.8, ROWS)
    calibrator = fit_venn_abers(scores, (generator.uniform(size=ROWS) < scores).astype(float))
    volatility = _train("regression", VOLATILITY_TREES, 31, features, seed)
    parts = {
        VOLATILITY_BOOSTER: volatility.model_to_string().encode(),
        VOLATILITY_SETTINGS: volatility_settings_text(VolatilitySettings(12, features, 1.1)).encode(),
        INTERVAL: interval_text(ReturnInterval(0.9, 1.7, 0.005)).encode(),
    }
    files = {"booster.txt": booster.model_to_string().encode()}
    return ModelBundle.build(identity, LIGHTGBM, files, calibrator, parts)


def mlflow_question(served: ServedHome, *, named: bool) -> str:
    """The body of a request to `/invocations`.

    Args:
        served: Whose model is asked.
        named: With the names of the features, the form that MLflow's documentation begins with; else a bare matrix, the
            fastest form it takes, in which a column that moved is not noticed.
    """
    if named:
        return json.dumps({"dataframe_split": {"columns": matrix_columns(served.features), "data": [served.row()]}})
    return json.dumps({"inputs": [served.row()]})
