"""Several workers on one study in a database: a file of SQLite, and a real PostgreSQL server."""

import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import polars as pl
import pytest
from optuna.trial import TrialState

from levibot_core.config import TrainingProfile
from levibot_core.errors import ConfigurationError
from levibot_core.models.boosters import BOOSTERS
from levibot_core.models.design import LabelledMatrix
from levibot_core.models.study import ResumableStudy
from levibot_core.models.trial_records import record_trials
from levibot_core.models.trial_returns import PolicyRows
from levibot_core.models.tuning import Search, TrialCallback, TuningResult, tune
from levibot_core.stores.trial_ledger import TrialLedger

PROFILE = TrainingProfile(name="tiny", trials=5, max_rounds=6, early_stopping_rounds=6, max_bin=31, drift_rows=100)
_WAIT_S = 120.0
_OF_THE_MOMENT = ("seconds", "finished_at")


def wanted(trials: int) -> Search:
    random = np.random.default_rng(0)
    matrix, labels = random.normal(size=(400, 2)), np.arange(400) % 2 * 1.0
    rows = LabelledMatrix(matrix, labels)
    times = 300_000 * np.arange(400)
    policy = PolicyRows(np.zeros(400, np.int64), times, times + 300_000, random.normal(size=400), np.full(400, 0.01))
    profile = PROFILE.model_copy(update={"trials": trials})
    about = {"model_name": "model", "snapshot_id": "snapshot"}
    return Search(BOOSTERS["lightgbm"], rows, rows, policy, ("signal",), profile, 5, "model", about)


def search(url: str, trials: int, on_trial: TrialCallback | None = None) -> TuningResult:
    return tune(wanted(trials), 1, url, on_trial)[0]


def stay_in_the_second_trial(folder: Path, url: str) -> subprocess.Popen[bytes]:
    """Another process that finishes one trial and never ends its second."""
    script = f"""
        import importlib.util, time
        from pathlib import Path
        spec = importlib.util.spec_from_file_location("shared", {str(Path(__file__))!r})
        shared = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(shared)
        from levibot_core.models import trainer

        folder, finished, ends_with = Path({str(folder)!r}), [], trainer.BestRound.ends_with
        def stay(self, round_number, probabilities):
            if finished:
                (folder / "inside").touch()
                time.sleep({_WAIT_S})
            return ends_with(self, round_number, probabilities)
        trainer.BestRound.ends_with = stay
        shared.search({url!r}, 5, lambda *report: finished.append(report))
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env=environment)


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/study.db"
    return str(request.getfixturevalue("postgres_server").new_database())


@pytest.fixture(scope="module")
def ended() -> dict[str, pl.DataFrame]:
    """The trials of the study that lost a worker, by kind of database."""
    return {}


def test_two_processes_share_a_study_and_a_dead_ones_trial_is_done_again(
    tmp_path: Path, url: str, ended: dict[str, pl.DataFrame]
) -> None:
    other = stay_in_the_second_trial(tmp_path, url)
    try:
        deadline = time.monotonic() + _WAIT_S
        while not (tmp_path / "inside").exists():
            assert other.poll() is None, "the other worker ended"
            assert time.monotonic() < deadline, "the other worker never began its second trial"
            time.sleep(0.05)
        with_the_other = search(url, 3)
        assert (with_the_other.resumed, with_the_other.trials.height) == (1, 3)
        study = ResumableStudy(url, with_the_other.study_name)
        # The other's trial is left alone while it lives.
        assert with_the_other.trials["number"].to_list() == [0, 2, 3]
        assert [trial.state for trial in study._study.get_trials()].count(TrialState.RUNNING) == 1
    finally:
        other.kill()
        other.wait()

    alone = search(url, 5)
    assert (alone.resumed, alone.trials["number"].to_list()) == (3, [0, 2, 3, 4, 5])
    assert study._study.get_trials()[1].state is TrialState.FAIL
    assert alone.trials.select(list(alone.best_parameters)).is_unique().all()
    ledger = TrialLedger(tmp_path / "ledger")
    assert [record_trials(url, ledger, "model") for _ in range(2)] == [5, 0]
    assert sorted(ledger.read("model")["trial"]) == [0, 2, 3, 4, 5]
    # Whatever the database, the same happened in the same order, so the same trials were run and the same one is best.
    ended[url.partition(":")[0]] = alone.trials.drop(_OF_THE_MOMENT)
    assert all(trials.equals(alone.trials.drop(_OF_THE_MOMENT)) for trials in ended.values())


def test_one_worker_finds_in_a_database_what_it_finds_in_a_journal(tmp_path: Path, url: str) -> None:
    in_database, in_journal = search(url, 4), tune(wanted(4), 1, tmp_path / "trials")[0]
    assert in_database.trials.drop(_OF_THE_MOMENT).equals(in_journal.trials.drop(_OF_THE_MOMENT))
    assert in_database.best_parameters == in_journal.best_parameters


def test_a_server_that_was_restarted_is_connected_to_again(postgres_server: Any) -> None:
    url = postgres_server.new_database()
    found = search(url, 3, lambda done, *_: postgres_server.restart() if done == 1 else None)
    assert found.trials["number"].to_list() == [0, 1, 2]


def test_workers_that_begin_at_once_find_one_study(url: str) -> None:
    start = Barrier(4)

    def begin() -> int:
        start.wait()
        return int(ResumableStudy(url, "model-a", about={"model_name": "model"})._study._study_id)

    with ThreadPoolExecutor(4) as pool:
        found = [job.result() for job in [pool.submit(begin) for _ in range(4)]]
    assert len(set(found)) == 1


def test_a_server_that_refuses_is_an_error_without_its_password(postgres_server: Any) -> None:
    url = postgres_server.new_database().replace("levibot@/studies", "ada:s3cret@/nothing")
    with pytest.raises(ConfigurationError, match="LEVIBOT_STUDY_URL") as caught:
        search(url, 1)
    assert "s3cret" not in str(caught.value)
