import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from levibot_core.config import load_settings
from levibot_core.errors import RegistryError
from levibot_core.stores.paths import Home
from levibot_pipelines.registration import ensure_base_rate
from levibot_pipelines.registry import CHALLENGER, CHAMPION, PREVIOUS, ModelRegistry
from levibot_pipelines.runs import ensure_database
from levibot_pipelines.trial_runs import TrialRun
from levibot_pipelines.workspace import Workspace


@pytest.fixture
def workspace(registry_home: Home) -> Workspace:
    return Workspace(load_settings(home=registry_home.root, source="simulated"), registry_home)


@pytest.fixture
def registry(workspace: Workspace) -> ModelRegistry:
    return workspace.registry


def test_a_new_home_gets_the_base_rate_as_its_first_champion(workspace: Workspace, registry: ModelRegistry) -> None:
    assert ensure_base_rate(workspace) == 1

    champion = registry.by_alias(CHAMPION)
    assert champion is not None
    assert (champion.version, champion.family, champion.tradable) == (1, "base_rate", False)
    assert champion.reasons
    bundle = registry.load_bundle(1)
    matrix = bundle.matrix_row("BTC/USDT", dict.fromkeys(bundle.manifest.features, 0.0))
    assert bundle.predict(matrix) == pytest.approx([0.5])


def test_a_home_with_a_champion_keeps_it(workspace: Workspace) -> None:
    ensure_base_rate(workspace)

    assert ensure_base_rate(workspace) is None
    assert len(workspace.registry.versions()) == 1


def test_a_base_rate_that_was_registered_but_not_promoted_is_promoted_next_time(workspace: Workspace) -> None:
    ensure_base_rate(workspace)
    workspace.registry.client.delete_registered_model_alias(workspace.settings.model_name, CHAMPION)

    assert ensure_base_rate(workspace) == 1
    assert len(workspace.registry.versions()) == 1


@pytest.fixture
def train_rows(workspace: Workspace) -> pl.DataFrame:
    """Three training rows, two of them rises."""
    names = workspace.feature_set.names
    return pl.DataFrame({"symbol": ["ETH/USDT"] * 3, "label": [1, 1, 0], **{name: [0.1, 0.2, 0.3] for name in names}})


def test_the_registered_model_loads_through_mlflow_itself(
    workspace: Workspace, registry: ModelRegistry, train_rows: pl.DataFrame
) -> None:
    import mlflow

    ensure_base_rate(workspace, train=train_rows)
    with registry._fluent():
        model = mlflow.pyfunc.load_model(f"models:/{workspace.settings.model_name}@champion")

    assert list(model.predict(train_rows.drop("label").to_pandas())) == pytest.approx([0.6] * 3)
    assert model.metadata.signature.outputs.input_names() == ["prob_up"]
    assert model.input_example["symbol"].tolist() == ["ETH/USDT"] * 3
    assert model.input_example[workspace.feature_set.names[0]].tolist() == [0.1, 0.2, 0.3]
    registered = registry.client.get_registered_model(workspace.settings.model_name)
    assert registered.tags["symbols"] == "BTC/USDT, ETH/USDT, SOL/USDT"
    assert "champion" in registered.description


def test_using_a_registry_leaves_no_address_behind(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////elsewhere.db")
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)

    ensure_base_rate(workspace)

    assert os.environ["MLFLOW_TRACKING_URI"] == "sqlite:////elsewhere.db"
    assert "MLFLOW_REGISTRY_URI" not in os.environ
    assert mlflow.get_registry_uri() == "sqlite:////elsewhere.db"


def test_promotion_moves_previous_then_champion_and_leaves_an_audit_trail(
    workspace: Workspace, registry: ModelRegistry
) -> None:
    ensure_base_rate(workspace)
    run_id = registry.start_run("candidate", {})
    version = registry.register(run_id, workspace.home.models / "base_rate", "another", {"family": "base_rate"})
    registry.set_challenger(version)

    replaced = registry.promote(version, actor="ada", reason="all gates passed")

    assert replaced is not None
    assert replaced.version == 1
    assert {
        alias: found.version for alias in (CHAMPION, CHALLENGER, PREVIOUS) if (found := registry.by_alias(alias))
    } == {
        CHAMPION: 2,
        CHALLENGER: 2,
        PREVIOUS: 1,
    }
    records = [json.loads(line) for line in _audit_log(workspace.home).read_text().splitlines()]
    assert [(record["from"], record["to"], record["actor"]) for record in records] == [
        (None, 1, "levibot"),
        (1, 2, "ada"),
    ]


def test_an_unknown_version_is_named_with_those_there_are(workspace: Workspace, registry: ModelRegistry) -> None:
    ensure_base_rate(workspace)

    with pytest.raises(RegistryError, match=r"levibot-5m-h12 \(1\), was 7"):
        registry.version(7)


def test_a_failing_block_marks_its_run_as_failed(registry: ModelRegistry) -> None:
    with pytest.raises(ZeroDivisionError), registry.closing(registry.start_run("doomed", {})) as run_id:
        raise ZeroDivisionError

    assert registry.client.get_run(run_id).info.status == "FAILED"


def test_runs_of_dead_processes_are_closed_and_those_of_living_ones_left(registry: ModelRegistry) -> None:
    mine = registry.start_run("mine", {})
    abandoned = registry.start_run("abandoned", {})
    # No process has this id: it is above the kernel's limit.
    registry.client.set_tag(abandoned, "levibot.owner_pid", str(2**31 - 1))

    assert registry.close_abandoned_runs() == 1
    assert registry.client.get_run(abandoned).info.status == "KILLED"
    assert registry.client.get_run(mine).info.status == "RUNNING"


def test_trials_stand_below_their_training_in_the_experiment_of_their_family(registry: ModelRegistry) -> None:
    parent = registry.start_run("xgboost", {}, "xgboost")
    trials = [
        TrialRun(f"trial {number}", 1_000, 3_000, {"max_depth": "4"}, {"validation_log_loss": 0.69}, {"state": state})
        for number, state in enumerate(["complete", "pruned"], start=1)
    ]
    registry.log_trials(parent, trials)

    experiment = registry.client.get_experiment_by_name(f"{registry.model_name}/xgboost")
    below = registry.client.search_runs(
        [experiment.experiment_id], f"tags.mlflow.parentRunId = '{parent}' and metrics.validation_log_loss < 0.7"
    )
    assert sorted(run.info.run_name for run in below) == ["trial 1", "trial 2"]
    found = registry.client.get_run(below[0].info.run_id)
    assert (found.info.status, found.info.start_time, found.info.end_time) == ("FINISHED", 1_000, 3_000)
    assert found.data.params == {"max_depth": "4"}
    assert found.data.metrics == {"validation_log_loss": 0.69}
    assert [point.value for point in registry.client.get_metric_history(found.info.run_id, "validation_log_loss")] == [
        0.69
    ]
    assert registry.client.list_artifacts(found.info.run_id) == []
    # They are closed already, and their training is still open.
    registry.client.set_tag(parent, "levibot.owner_pid", str(2**31 - 1))
    assert registry.close_abandoned_runs() == 1


def _audit_log(home: Home) -> Path:
    return home.logs / "promotions.jsonl"


def test_a_process_killed_while_it_makes_the_database_leaves_no_half_of_one(tmp_path: Path) -> None:
    database = tmp_path / "mlflow" / "mlflow.db"
    script = (
        "import sys; from pathlib import Path; from levibot_pipelines.runs import ensure_database;"
        "ensure_database(Path(sys.argv[1]))"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(database)], stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("mlflow/.unfinished-*/mlflow.db")):
        assert process.poll() is None, "it ended before its database was begun"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()

    assert not database.exists()
    ensure_database(database)
    assert database.stat().st_size > 0
