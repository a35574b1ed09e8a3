import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from levibot_core.config import TrainingProfile
from levibot_core.errors import ConfigurationError, HomeNotWritableError
from levibot_core.models.boosters import BOOSTERS, clipped
from levibot_core.models.design import LabelledMatrix
from levibot_core.models.trainer import TrainedBooster
from levibot_core.models.trial_records import record_trials
from levibot_core.models.trial_returns import PolicyRows, sharpe_per_day
from levibot_core.models.tuning import Search, TrialCallback, TuningResult, tune
from levibot_core.stores.trial_ledger import TrialLedger

FEATURES = ("signal", "noise")
TRIALS = 14
BAR_MS, START_MS = 300_000, 1_735_689_600_000


def sample(rows: int, seed: int) -> LabelledMatrix:
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(rows, 3))
    matrix[:, -1] = generator.integers(0, 2, rows)
    chance = 1.0 / (1.0 + np.exp(-0.3 * matrix[:, 0]))
    return LabelledMatrix(matrix, (generator.random(rows) < chance).astype(np.float64))


def policy(validation: LabelledMatrix) -> PolicyRows:
    """Moves so large that acting on a forecast can pay."""
    decided = START_MS + BAR_MS * np.arange(validation.labels.size)
    return PolicyRows(
        symbols=validation.matrix[:, -1].astype(np.int64),
        decided_ms=decided,
        settled_ms=decided + 3 * BAR_MS,
        forward_returns=np.where(validation.labels == 1, 0.05, -0.05),
        expected_moves=np.full(validation.labels.size, 0.05),
    )


TRAIN, VALIDATION = sample(1500, 0), sample(600, 1)


@pytest.fixture(scope="module")
def tuned_profile() -> TrainingProfile:
    """Enough trials that the sampler learns and the rule prunes."""
    return TrainingProfile(
        name="tiny", trials=TRIALS, max_rounds=40, early_stopping_rounds=40, max_bin=31, drift_rows=100
    )


def search(
    profile: TrainingProfile,
    location: Path | str,
    on_trial: TrialCallback | None = None,
    validation: LabelledMatrix = VALIDATION,
    family: str = "lightgbm",
) -> tuple[TuningResult, TrainedBooster]:
    about = {"model_name": "model", "snapshot_id": "snapshot"}
    wanted = Search(
        BOOSTERS[family], TRAIN, validation, policy(validation), FEATURES, profile, 5, f"model-{family}", about
    )
    return tune(wanted, 1, location, on_trial)


def figures(result: TuningResult) -> pl.DataFrame:
    return result.trials.drop("seconds", "finished_at", "number")


@pytest.fixture(scope="module")
def uninterrupted(
    tuned_profile: TrainingProfile, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TuningResult, TrainedBooster]:
    return search(tuned_profile, tmp_path_factory.mktemp("trials"))


def test_the_best_trial_is_found_and_trained(uninterrupted: tuple[TuningResult, TrainedBooster]) -> None:
    result, booster = uninterrupted
    completed = result.trials.filter(pl.col("state") == "complete")
    sound = completed.filter(pl.col("sharpe_per_day") >= 0.0)
    best = result.best_trial
    assert result.trials["trial"].to_list() == list(range(1, TRIALS + 1))
    assert result.best_value == best["log_loss"] == sound["log_loss"].min() == booster.validation_loss
    assert best["rounds"] == result.best_rounds == booster.rounds
    assert {name: best[name] for name in result.best_parameters} == result.best_parameters
    assert result.resumed == 0
    assert result.pruned == TRIALS - completed.height > 0
    assert sum(result.importances.values()) == pytest.approx(1.0)
    assert set(result.importances) == set(result.best_parameters)


def test_every_trial_has_its_figures_and_its_returns(uninterrupted: tuple[TuningResult, TrainedBooster]) -> None:
    trials = uninterrupted[0].trials
    days = len(policy(VALIDATION).days)
    assert trials.null_count().sum_horizontal().item() == 0
    assert trials["returns"].list.len().unique().to_list() == [days]
    assert trials["sharpe_per_day"].to_list() == [sharpe_per_day(np.array(found)) for found in trials["returns"]]
    assert trials["sharpe_per_day"].n_unique() > 1
    # Every row moves as far as any other here, so weighting by the move changes nothing.
    assert trials["profit_weighted_log_loss"].to_numpy() == pytest.approx(trials["log_loss"].to_numpy())


def test_progress_is_told_after_every_trial(tuned_profile: TrainingProfile, tmp_path: Path) -> None:
    told: list[tuple[int, int, float | None, float]] = []
    result, _ = search(tuned_profile, tmp_path / "new folder", lambda *report: told.append(report))
    assert [(done, total) for done, total, _, _ in told] == [(done, TRIALS) for done in range(1, TRIALS + 1)]
    finished = result.trials.with_columns(told=pl.when(pl.col("state") == "complete").then("log_loss"))
    assert [value for _, _, value, _ in told] == finished["told"].to_list()
    assert told[-1][3] == result.best_value


@pytest.mark.parametrize(("interrupted_after", "family"), [(1, "lightgbm"), (11, "lightgbm"), (6, "xgboost")])
def test_an_interrupted_search_ends_like_one_that_was_not(
    tuned_profile: TrainingProfile,
    tmp_path: Path,
    uninterrupted: tuple[TuningResult, TrainedBooster],
    interrupted_after: int,
    family: str,
) -> None:
    whole = uninterrupted if family == "lightgbm" else search(tuned_profile, tmp_path / "whole", family=family)

    def interrupt(done: int, *_: object) -> None:
        if done == interrupted_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(tuned_profile, tmp_path, interrupt, family=family)
    result, booster = search(tuned_profile, tmp_path, family=family)
    assert result.resumed == interrupted_after
    assert figures(result).equals(figures(whole[0]))
    assert booster == whole[1]


def run_killed_in_the_third_trial(profile: TrainingProfile, folder: Path) -> None:
    """Search in a process of its own that dies while it writes to the journal, holding its lock."""
    script = f"""
        import importlib.util, os, signal
        from pathlib import Path
        spec = importlib.util.spec_from_file_location("search", {str(Path(__file__))!r})
        search = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(search)
        from levibot_core.config import TrainingProfile
        from levibot_core.models import study, trainer

        ends_with, finished, folder = trainer.BestRound.ends_with, [], Path({str(folder)!r})
        def die_in_third_trial(self, round_number, probabilities):
            if len(finished) == 3 and round_number == 20:
                journal = next(folder.glob("*.journal"))
                with journal.open("ab") as torn:
                    torn.write(b'{{"op_code": 4, "wor')
                study._KernelLock(journal.with_name(f".{{journal.name}}.lock")).acquire()
                os.kill(os.getpid(), signal.SIGKILL)
            return ends_with(self, round_number, probabilities)
        trainer.BestRound.ends_with = die_in_third_trial
        profile = TrainingProfile.model_validate_json({profile.model_dump_json()!r})
        search.search(profile, folder, lambda *report: finished.append(report))
    """
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not next(folder.glob("*.journal")).read_bytes().endswith(b"\n")


def test_a_search_killed_inside_a_trial_ends_like_one_that_was_not_and_its_trials_are_recorded_once(
    tuned_profile: TrainingProfile, tmp_path: Path, uninterrupted: tuple[TuningResult, TrainedBooster]
) -> None:
    run_killed_in_the_third_trial(tuned_profile, tmp_path)

    # Recorded even if nobody ever resumes the search, and only once if somebody does.
    ledger = TrialLedger(tmp_path / "ledger")
    assert record_trials(tmp_path, ledger, "model") == 3
    result, booster = search(tuned_profile, tmp_path)
    assert result.resumed == 3
    assert figures(result).equals(figures(uninterrupted[0]))
    assert booster == uninterrupted[1]
    assert record_trials(tmp_path, ledger, "model") == TRIALS - 3
    assert record_trials(tmp_path, ledger, "model") == 0
    kept = ledger.read("model")
    assert kept["log_loss"].to_list() == result.trials["log_loss"].to_list()
    assert kept["returns"].to_list() == result.trials["returns"].to_list()
    assert kept["days"].to_list() == [policy(VALIDATION).days] * TRIALS


def test_a_finished_search_is_not_done_again_and_more_trials_continue_it(
    tuned_profile: TrainingProfile, tmp_path: Path, uninterrupted: tuple[TuningResult, TrainedBooster]
) -> None:
    few = tuned_profile.model_copy(update={"family_trials": {"lightgbm": 2}})
    search(few, tmp_path)

    def fail(*_: object) -> None:
        raise AssertionError("no trial was left to do")

    again, _ = search(few, tmp_path, fail)
    assert (again.resumed, again.trials.height) == (2, 2)
    more, _ = search(tuned_profile, tmp_path)
    assert more.resumed == 2
    assert figures(more).equals(figures(uninterrupted[0]))


def test_other_rows_or_another_class_weight_begin_another_study(tuned_profile: TrainingProfile, tmp_path: Path) -> None:
    few = tuned_profile.model_copy(update={"trials": 1})
    balanced = few.model_copy(update={"class_weight": "balanced"})
    found = [
        search(few, tmp_path)[0],
        search(few, tmp_path, validation=sample(600, 2))[0],
        search(balanced, tmp_path)[0],
        search(few, tmp_path, family="xgboost")[0],
    ]
    assert [result.resumed for result in found] == [0, 0, 0, 0]
    assert len({result.study_name for result in found}) == 4
    assert all(result.study_name.startswith("model-") for result in found)


def test_a_journal_that_cannot_be_written_is_an_error_in_words(tuned_profile: TrainingProfile, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeNotWritableError):
        search(tuned_profile, tmp_path / "file")


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/study.db", "postgresql+nodriver://u:pw@h/d"])
def test_a_database_that_does_not_answer_is_an_error_in_words(tuned_profile: TrainingProfile, url: str) -> None:
    with pytest.raises(ConfigurationError, match="LEVIBOT_STUDY_URL") as caught:
        search(tuned_profile, url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("rows", [50, 1500, 100_000])
@pytest.mark.parametrize("family", ["lightgbm", "xgboost"])
def test_leaves_fit_the_number_of_rows(rows: int, family: str) -> None:
    booster = BOOSTERS[family]
    space = booster.space(rows)
    leaf: Any = space["min_data_in_leaf" if family == "lightgbm" else "min_child_weight"]
    assert 0 < leaf.low < leaf.high <= 5000
    assert all(isinstance(found, IntDistribution | FloatDistribution) for found in space.values())
    first = clipped(booster.first_trial, space)
    assert set(first) == set(space)
    assert all(space[name]._contains(value) for name, value in first.items())
