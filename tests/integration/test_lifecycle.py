"""The whole lifecycle through the command, as a person runs it: killed in the middle, again, and once more."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from levibot_core.config import load_settings
from levibot_core.stores.paths import Home
from levibot_core.stores.trial_ledger import TrialLedger
from levibot_pipelines.registry import CHAMPION, ModelRegistry
from levibot_pipelines.runner import run_job
from levibot_pipelines.workspace import Workspace
from levibot_serving.console.report_files import ReportFiles
from levibot_serving.console.report_pages import page_names

_ROOT = Path(__file__).resolve().parents[2]
_COMMAND = [sys.executable, "-m", "levibot_pipelines.cli"]


def _environment(home: Path) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("LEVIBOT_")},
        "LEVIBOT_HOME": str(home),
        "LEVIBOT_SOURCE": "simulated",
        "LEVIBOT_DAYS": "20",
        # A strong edge, so that twenty days are enough to see it beyond chance.
        "LEVIBOT_SIMULATED_EDGE": "0.5",
        "LEVIBOT_THREADS": "1",
        # A sixth of the features: what is tested is how the stages go together, twice, not what they compute.
        "LEVIBOT_FEATURE_SET": "v1",
        # One family: several, and what is made of them, are run in test_training.py, test_transformer.py and
        # test_ensemble.py.
        "LEVIBOT_FAMILIES": "lightgbm",
    }


def _levibot(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_COMMAND, *arguments], cwd=_ROOT, env=_environment(home), capture_output=True, text=True, check=False
    )


def _json(answer: subprocess.CompletedProcess[str]) -> Any:
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return json.loads(answer.stdout)


@dataclass(frozen=True)
class Story:
    """What three demos in one home came to; the first was killed while it tuned."""

    home: Home
    killed_with: int
    left_open: Mapping[str, int]
    first: dict[str, Any]
    first_tuning: dict[str, Any]
    rows_after_first: int
    second: dict[str, Any]


def _kill_while_tuning(home: Path) -> int:
    with (home / "killed.log").open("wb") as log:
        process = subprocess.Popen([*_COMMAND, "demo"], cwd=_ROOT, env=_environment(home), stdout=log, stderr=log)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if "trial 3/20" in (home / "killed.log").read_text("utf-8", errors="replace"):
            process.send_signal(signal.SIGKILL)
        time.sleep(0.02)
    process.kill()
    return process.wait()


def _open_runs(home: Home) -> dict[str, int]:
    import sqlite3

    with sqlite3.connect(home.mlflow / "mlflow.db") as mlflow:
        open_in_mlflow = mlflow.execute("select count(*) from runs where status = 'RUNNING'").fetchone()[0]
    mlflow.close()
    with sqlite3.connect(home.dagster / "history" / "runs.db") as dagster:
        open_in_dagster = dagster.execute("select count(*) from runs where status = 'STARTED'").fetchone()[0]
    dagster.close()
    return {"mlflow": open_in_mlflow, "dagster": open_in_dagster}


def _lake_rows(home: Home) -> int:
    candles = pl.concat([pl.read_parquet(path) for path in home.lake.glob("candles/**/part.parquet")])
    assert candles.select("symbol", "ts", "revision").is_unique().all()
    return candles.height


def _lightgbm_tuning(home: Home) -> dict[str, Any]:
    reference = json.loads((home.dagster / "references" / "training" / "lightgbm.json").read_text("utf-8"))
    tuning: dict[str, Any] = json.loads((Path(reference["folder"]) / "tuning.json").read_text("utf-8"))
    return tuning


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A home in a folder with spaces in its name."""
    home = Home.at(tmp_path_factory.mktemp("life cycle") / "my home").create()
    killed_with = _kill_while_tuning(home.root)
    left_open = _open_runs(home)
    first = _json(_levibot(home.root, "demo", "--json"))
    tuning, rows = _lightgbm_tuning(home), _lake_rows(home)
    return Story(home, killed_with, left_open, first, tuning, rows, _json(_levibot(home.root, "demo", "--json")))


def test_a_killed_run_leaves_open_runs_and_the_next_one_closes_them(story: Story) -> None:
    assert story.killed_with == -signal.SIGKILL
    assert story.left_open == {"mlflow": 1, "dagster": 1}
    assert _open_runs(story.home) == {"mlflow": 0, "dagster": 0}


def test_the_killed_study_is_resumed_and_every_trial_is_in_the_ledger_once(story: Story) -> None:
    trials = TrialLedger(story.home.trial_ledger).read(story.first["champion"]["name"])
    of_the_killed = trials.filter(pl.col("study") == story.first_tuning["study_name"])

    assert story.first_tuning["resumed"] >= 2
    assert of_the_killed.height == 20
    assert of_the_killed["trial"].max() >= 20  # The trial that was killed has a number, and no result.


def test_a_family_that_is_left_out_is_not_trained_and_the_others_are_judged_without_it(story: Story) -> None:
    trials = TrialLedger(story.home.trial_ledger).read(story.first["champion"]["name"])
    reference = json.loads((story.home.dagster / "references" / "training" / "tft.json").read_text("utf-8"))

    assert trials["family"].unique().to_list() == ["lightgbm"]
    assert reference["left_out"] == "LEVIBOT_FAMILIES names lightgbm alone"


def test_a_market_with_an_edge_sees_a_promotion_that_is_never_tradable(story: Story) -> None:
    champion = story.first["champion"]

    assert story.first["verdict"] == "promoted"
    assert all(gate["passed"] for gate in story.first["gates"])
    assert (champion["version"], champion["tradable"]) == (2, False)
    assert champion["family"] == "lightgbm"
    assert any("simulated" in reason for reason in champion["reasons"])
    assert story.first["prediction"]["tradable"] is False
    assert story.first["prediction"]["model_version"] == 2


def test_the_summary_names_files_that_are_there(story: Story) -> None:
    assert [path for path in story.first["files"].values() if not Path(path).exists()] == []


def test_the_console_can_read_every_report_that_the_lifecycle_left(story: Story) -> None:
    reports = ReportFiles(story.home)
    versions, backtests = reports.carded_versions(), reports.backtest_names()
    found = [
        reports.drift(),
        *(reports.model_card(version) for version in versions),
        *(reports.backtest(name) for name in backtests),
    ]
    assert versions
    assert sorted(backtests) == sorted(f"v{version}" for version in versions)
    assert [report.problem for report in found if report.content is None] == []
    assert page_names(story.home, "drift") == {"latest"}
    assert page_names(story.home, "backtests") == page_names(story.home, "model_cards") == set(backtests)


def test_a_second_demo_adds_no_duplicates_and_refuses_a_model_that_is_no_better(story: Story) -> None:
    failed = {gate["gate"] for gate in story.second["gates"] if not gate["passed"]}

    # Bars that closed in between are new; none is there twice (checked while counting).
    assert 0 <= _lake_rows(story.home) - story.rows_after_first <= 3 * 3
    assert story.second["verdict"] == "refused"
    assert failed == {"beats_champion"}
    assert story.second["champion"]["version"] == 2
    assert story.second["challenger"]["version"] == 3


def test_commands_show_what_happened_as_json_and_as_tables(
    story: Story, monkeypatch: pytest.MonkeyPatch, run_levibot: Callable[..., tuple[int, str, str]]
) -> None:
    for name, value in _environment(story.home.root).items():
        monkeypatch.setenv(name, value)

    def shown(*arguments: str) -> str:
        code, result, messages = run_levibot(*arguments)
        assert code == 0, messages
        return result

    status, models = json.loads(shown("status", "--json")), json.loads(shown("models", "list", "--json"))
    backtest = json.loads(shown("backtest", "show", "2", "--json"))

    assert {"source", "champion", "challenger", "rows"} <= set(status)
    assert [(model["version"], model["aliases"]) for model in models] == [
        (3, ["challenger"]),
        (2, ["champion"]),
        (1, ["previous"]),
    ]
    assert backtest["metrics"]["strategy"]["trades"] == len(backtest["trades"])
    assert backtest["funding"]["counted"]
    for arguments in (
        ["status"],
        ["models", "list"],
        ["backtest", "list"],
        ["drift"],
        ["quality"],
        ["features", "list"],
    ):
        assert shown(*arguments).strip()


def test_a_backtest_made_anew_is_the_same_and_two_versions_meet_on_the_same_bars(
    story: Story, monkeypatch: pytest.MonkeyPatch, run_levibot: Callable[..., tuple[int, str, str]]
) -> None:
    for name, value in _environment(story.home.root).items():
        monkeypatch.setenv(name, value)

    def shown(*arguments: str) -> Any:
        code, result, messages = run_levibot("backtest", *arguments, "--json")
        assert code == 0, messages
        return json.loads(result)

    kept = shown("show", "2")
    anew, last_day = shown("run"), shown("run", "2", "--days", "1")
    duel = shown("compare", "3", "2")

    assert anew["version"] == 2
    assert anew["metrics"] == kept["metrics"]
    assert shown("show", "2")["trades"] == kept["trades"]
    assert [report["name"] for report in shown("list")] == ["v3", "v2", "v2-1d"]
    assert shown("show", "2", "--days", "1")["metrics"] == last_day["metrics"]
    assert shown("show", "3")["analysis"]["champion"]["other"] == "the champion, version 2"
    assert (duel["name"], duel["other"]) == ("version 3", "version 2")
    assert duel["other_account"] == kept["metrics"]["strategy"]
    for arguments, mentioned in ((("run", "9"), "version"), (("run", "2", "--days", "99"), "at most the")):
        code, _, messages = run_levibot("backtest", *arguments)
        assert code == 1
        assert mentioned in messages


def test_monitoring_draws_what_the_lifecycle_left(story: Story, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in _environment(story.home.root).items():
        monkeypatch.setenv(name, value)
    outcome = run_job(Workspace.open(load_settings()), "monitoring", {}, on_progress=lambda _: None)

    assert outcome.failures == {}
    folder = story.home.reports / "monitoring"
    names = ("feature_psi", "feature_staleness", "feature_correlation", "shap_importance", "shap_history", "parity")
    assert [name for name in names if not (folder / f"{name}.png").exists()] == []
    assert json.loads((folder / "feature_staleness.json").read_text("utf-8"))["stale"] == 0
    assert json.loads((folder / "parity.json").read_text("utf-8"))["mismatches"] == 0
    assert pl.read_parquet(folder / "shap_importance.parquet")["version"].unique().sort().to_list() == [2, 3]
    psi, matrix = (pl.read_parquet(folder / f"{name}.parquet") for name in ("feature_psi", "feature_correlation"))
    assert psi["feature"].n_unique() == matrix.height + len(_constant(folder))


def _constant(folder: Path) -> list[str]:
    constant: list[str] = json.loads((folder / "feature_correlation.json").read_text("utf-8"))["constant"]
    return constant


def test_a_corrupt_lake_file_stops_the_run_with_its_name_and_loses_nothing(
    story: Story, monkeypatch: pytest.MonkeyPatch, run_levibot: Callable[..., tuple[int, str, str]]
) -> None:
    for name, value in _environment(story.home.root).items():
        monkeypatch.setenv(name, value)
    victim = sorted(story.home.lake.glob("candles/**/part.parquet"))[-1]
    content = victim.read_bytes()
    victim.write_bytes(content[: len(content) // 2])
    try:
        code, _, messages = run_levibot("demo")
    finally:
        victim.write_bytes(content)

    assert code == 1
    assert victim.name in messages.replace(" ", "")
    assert "Move the file away" in messages
    assert "Traceback" not in messages
    registry = ModelRegistry(story.home, story.first["champion"]["name"])
    champion = registry.by_alias(CHAMPION)
    assert champion is not None
    assert champion.version == 2
