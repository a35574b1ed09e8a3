import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.testing import CliRunner

from levibot_core.config import load_settings
from levibot_core.errors import AuditLogError, RegistryError
from levibot_core.registry.champions import champions, changes, promote, roll_back
from levibot_core.stores.audit_log import AuditLog
from levibot_core.stores.paths import Home
from levibot_pipelines.cli.main import app
from levibot_pipelines.registration import ensure_base_rate
from levibot_pipelines.registry import CHALLENGER, CHAMPION, PREVIOUS, ModelRegistry
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
    registry.point(CHALLENGER, version)

    replaced = promote(registry, version, actor="ada", reason="all gates passed")

    assert replaced is not None
    assert replaced.version == 1
    assert {
        alias: found.version for alias in (CHAMPION, CHALLENGER, PREVIOUS) if (found := registry.by_alias(alias))
    } == {
        CHAMPION: 2,
        CHALLENGER: 2,
        PREVIOUS: 1,
    }
    assert [(change.from_version, change.to_version, change.actor) for change in changes(registry)] == [
        (None, 1, "levibot"),
        (1, 2, "ada"),
    ]
    assert AuditLog(workspace.home.audit_log).verify().intact


def test_rolling_back_returns_to_who_was_champion_before_and_never_to_what_was_rolled_back(
    workspace: Workspace, registry: ModelRegistry
) -> None:
    ensure_base_rate(workspace)
    bundle = workspace.home.models / "base_rate"
    for name in ("second", "third"):
        run_id = registry.start_run(name, {})
        promote(registry, registry.register(run_id, bundle, name, {"family": "base_rate"}), "ada", "better")

    first_step = roll_back(registry, "bob", "it loses money")
    assert [version.version for version in first_step] == [3, 2]
    assert _aliases(registry) == {CHAMPION: 2, PREVIOUS: 1}
    assert registry.version(3).tags["state"] == "rolled_back"

    assert [version.version for version in roll_back(registry, "bob", "so does this one")] == [2, 1]
    assert _aliases(registry) == {CHAMPION: 1}
    with pytest.raises(RegistryError, match="before version 1"):
        roll_back(registry, "bob", "and this one")

    promote(registry, 3, "ada", "it was not the model's fault")
    assert champions(registry) == [1, 3]
    assert [change.event for change in changes(registry)] == ["promotion"] * 3 + ["rollback"] * 2 + ["promotion"]


def test_a_promotion_that_was_recorded_and_never_made_is_not_returned_to(
    workspace: Workspace, registry: ModelRegistry
) -> None:
    ensure_base_rate(workspace)
    for name in ("second", "third", "fourth"):
        registry.register(
            registry.start_run(name, {}), workspace.home.models / "base_rate", name, {"family": "base_rate"}
        )
    promote(registry, 2, "ada", "better")
    # A process killed between the record and the alias.
    killed = {"model": registry.model_name, "from": 2, "to": 3, "reason": "better"}
    AuditLog(workspace.home.audit_log).append("promotion", "ada", killed)
    assert champions(registry) == [1, 2]

    promote(registry, 4, "ada", "better")
    assert [version.version for version in roll_back(registry, "bob", "it loses money")] == [4, 2]
    assert [version.version for version in roll_back(registry, "bob", "so does this one")] == [2, 1]


def test_a_champion_made_by_hand_is_in_the_line(workspace: Workspace, registry: ModelRegistry) -> None:
    ensure_base_rate(workspace)
    run_id = registry.start_run("second", {})
    second = registry.register(run_id, workspace.home.models / "base_rate", "second", {"family": "base_rate"})
    registry.point(CHAMPION, second)  # As people do in MLflow's pages.

    assert champions(registry) == [1, 2]
    assert [version.version for version in roll_back(registry, "bob", "nobody asked for it")] == [2, 1]


def test_a_change_that_cannot_be_recorded_is_not_made(workspace: Workspace, registry: ModelRegistry) -> None:
    ensure_base_rate(workspace)
    run_id = registry.start_run("second", {})
    second = registry.register(run_id, workspace.home.models / "base_rate", "second", {"family": "base_rate"})
    with workspace.home.audit_log.open("ab") as log:
        log.write(b"not a record\n")

    with pytest.raises(AuditLogError):
        promote(registry, second, "ada", "better")

    assert _aliases(registry) == {CHAMPION: 1}


def test_a_person_promotes_and_rolls_back_by_command(
    workspace: Workspace, registry: ModelRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_base_rate(workspace)
    run_id = registry.start_run("second", {})
    registry.register(run_id, workspace.home.models / "base_rate", "second", {"family": "base_rate"})
    monkeypatch.setenv("LEVIBOT_HOME", str(workspace.home.root))

    def shown(*arguments: str) -> Any:
        answer = CliRunner().invoke(app, [*arguments, "--json"])
        return json.loads(answer.stdout) if answer.exit_code == 0 else answer.exception

    refused = shown("models", "promote", "2", "--reason", "it looks good")
    assert isinstance(refused, RegistryError)
    assert "never judged" in str(refused)
    forced = shown("models", "promote", "2", "--reason", "a drill", "--force", "--actor", "ada")
    assert forced == {"champion": 2, "replaced": 1, "forced": True}
    rolled_back = shown("models", "rollback", "--reason", "the [/drill] ends", "--actor", "ada")
    assert (rolled_back["champion"], rolled_back["replaced"]) == (1, 2)
    assert rolled_back["was_rollback_candidate"] is None
    newest = shown("models", "history")[0]
    assert (newest["event"], newest["actor"], newest["to"]) == ("rollback", "ada", 1)
    verified = shown("audit", "verify")
    assert (verified["intact"], verified["records"]) == (True, 3)
    assert shown("audit", "show", "--last", "1")[0]["hash"] == verified["head"]
    for arguments, expected in (
        (["models", "history"], "rollback"),
        (["audit", "show"], "rollback"),
        (["audit", "verify"], verified["head"]),
    ):
        answer = CliRunner().invoke(app, arguments)
        assert answer.exit_code == 0
        assert expected in answer.stdout

    log = workspace.home.audit_log
    log.write_bytes(log.read_bytes().replace(b"a drill", b"a dream"))
    assert CliRunner().invoke(app, ["audit", "verify"]).exit_code == 1


def _aliases(registry: ModelRegistry) -> dict[str, int]:
    return {alias: found.version for alias in (CHAMPION, PREVIOUS) if (found := registry.by_alias(alias))}


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
