import warnings
from pathlib import Path
from typing import Any

import pytest

from levibot_core.errors import RegistryError
from levibot_core.models.bundle import ModelBundle
from levibot_core.resilience import Dependency, Patience
from levibot_core.stores.paths import Home
from levibot_serving.cache import find_bundle
from levibot_serving.home_registry import HomeRegistry
from levibot_serving.metrics import Metrics
from levibot_serving.registry import GuardedRegistry, MlflowRegistry, ModelRegistry

# MLflow 3.17 maps its tables with what SQLAlchemy 2.1 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture(params=["mlflow", "database"])
def reader(request: pytest.FixtureRequest, home: Home) -> ModelRegistry:
    """Both ways to read the registry of a home."""
    mlflow = MlflowRegistry(home.tracking_uri, 2)
    return mlflow if request.param == "mlflow" else HomeRegistry(home, mlflow)


def test_the_champion_and_its_files_are_found(
    registry: Any, reader: ModelRegistry, base_rate: ModelBundle, tmp_path: Path
) -> None:
    registry.register(base_rate, {"tradable": "false", "snapshot_id": "none"})
    champion = reader.champion("levibot-5m-h12")
    assert champion is not None
    assert (champion.version, champion.aliases) == (1, ("champion",))
    assert champion.tags == {"tradable": "false", "snapshot_id": "none"}

    folder = tmp_path / "download"
    folder.mkdir()
    reader.download(champion, folder)
    assert ModelBundle.load(find_bundle(folder)).manifest == base_rate.manifest


def test_both_readers_say_the_same(registry: Any, home: Home, base_rate: ModelBundle) -> None:
    registry.register(base_rate, {"tradable": "false"})
    mlflow = MlflowRegistry(home.tracking_uri, 2)
    own = HomeRegistry(home, mlflow)
    assert own.champion("levibot-5m-h12") == mlflow.champion("levibot-5m-h12")
    assert own.record_of("levibot-5m-h12", 1) == mlflow.record_of("levibot-5m-h12", 1)
    assert own.challenger("levibot-5m-h12") is None
    for registered in (own, mlflow):
        with pytest.raises(RegistryError):
            registered.record_of("levibot-5m-h12", 2)


def test_a_registry_without_a_champion_answers_none(
    registry: Any, reader: ModelRegistry, base_rate: ModelBundle
) -> None:
    registry.register(base_rate, promote=False)
    assert reader.champion("levibot-5m-h12") is None
    assert reader.champion("levibot-1h-h1") is None


def test_a_missing_database_is_not_created(reader: ModelRegistry, home: Home) -> None:
    with pytest.raises(RegistryError, match="no such file"):
        reader.champion("levibot-5m-h12")
    assert list(home.mlflow.iterdir()) == []


def test_a_database_that_was_moved_away_or_restored_is_noticed(
    registry: Any, reader: ModelRegistry, home: Home, base_rate: ModelBundle, migrated_registry: Path
) -> None:
    registry.register(base_rate)
    assert reader.champion("levibot-5m-h12") is not None
    registry.database.rename(home.mlflow / "elsewhere.db")
    with pytest.raises(RegistryError):
        reader.champion("levibot-5m-h12")
    registry.database.write_bytes(migrated_registry.read_bytes())
    assert reader.champion("levibot-5m-h12") is None


def test_a_registry_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(RegistryError, match=r"http://127\.0\.0\.1:1, was") as caught:
        MlflowRegistry("http://me:hunter2@127.0.0.1:1", 1).champion("levibot-5m-h12")
    assert "hunter2" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")  # MLflow's own, while it logs a model; the reader below runs without it
def test_a_model_logged_by_mlflow_itself_is_read_without_running_its_code(
    registry: Any, home: Home, base_rate: ModelBundle, tmp_path: Path
) -> None:
    import mlflow

    base_rate.save(tmp_path / "bundle")
    code = tmp_path / "model.py"
    code.write_text(
        "import mlflow\n\n\n"
        "class Model(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, context, model_input: list[float]):\n"
        "        return model_input\n\n\n"
        "mlflow.models.set_model(Model())\n"
    )
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(home.tracking_uri)
    try:
        experiment = mlflow.create_experiment("training", artifact_location=(home.mlflow / "artifacts").as_uri())
        with mlflow.start_run(experiment_id=experiment):
            mlflow.pyfunc.log_model(
                name="model",
                python_model=str(code),
                artifacts={"bundle": str(tmp_path / "bundle")},
                pip_requirements=["numpy"],
                registered_model_name="levibot-5m-h12",
            )
    finally:
        mlflow.set_tracking_uri(before)
    registry.promote(1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader = HomeRegistry(home, MlflowRegistry(home.tracking_uri, 2))
        champion = reader.champion("levibot-5m-h12")
        assert champion is not None
        folder = tmp_path / "download"
        folder.mkdir()
        reader.download(champion, folder)
    assert ModelBundle.load(find_bundle(folder)).manifest == base_rate.manifest


def test_a_registry_that_fails_is_left_alone_for_a_while_and_says_why(stub_registry: Any) -> None:
    patience = Patience(attempts=1, open_after=2, open_seconds=60)
    guarded = GuardedRegistry(stub_registry, Dependency("model_registry", (RegistryError,), Metrics(), patience))
    stub_registry.failure = "the registry is away"
    for _ in range(2):
        with pytest.raises(RegistryError, match=r"^the registry is away$"):
            guarded.champion("levibot-5m-h12")
    stub_registry.failure = "it is asked again"
    with pytest.raises(RegistryError, match=r"model registry, which does not answer .* the registry is away"):
        guarded.champion("levibot-5m-h12")
