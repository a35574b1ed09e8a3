import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from optuna.distributions import FloatDistribution, IntDistribution

from levibot_core.config import TrainingProfile
from levibot_core.errors import HomeNotWritableError
from levibot_core.models.lightgbm_model import LabelledMatrix, TrainedBooster
from levibot_core.models.tuning import TrialCallback, TuningResult, search_space, tune

FEATURES = ("signal", "noise")
TRIALS = 14


def sample(rows: int, seed: int) -> LabelledMatrix:
    generator = np.random.default_rng(seed)
    matrix = generator.normal(size=(rows, 3))
    matrix[:, -1] = generator.integers(0, 2, rows)
    chance = 1.0 / (1.0 + np.exp(-0.3 * matrix[:, 0]))
    return LabelledMatrix(matrix, (generator.random(rows) < chance).astype(np.float64))


TRAIN, VALIDATION = sample(1500, 0), sample(600, 1)


@pytest.fixture(scope="module")
def tuned_profile() -> TrainingProfile:
    """Enough trials that the sampler learns and the pruner prunes."""
    return TrainingProfile(
        name="tiny", trials=TRIALS, max_rounds=40, early_stopping_rounds=40, max_bin=31, drift_rows=100
    )


def search(
    profile: TrainingProfile,
    journal: Path,
    on_trial: TrialCallback | None = None,
    validation: LabelledMatrix = VALIDATION,
) -> tuple[TuningResult, TrainedBooster]:
    return tune(TRAIN, validation, FEATURES, profile, 5, 1, journal, "study", on_trial)


def without_times(result: TuningResult) -> pl.DataFrame:
    return result.trials.drop("seconds")


@pytest.fixture(scope="module")
def uninterrupted(
    tuned_profile: TrainingProfile, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TuningResult, TrainedBooster]:
    return search(tuned_profile, tmp_path_factory.mktemp("trials") / "study.journal")


def test_the_best_trial_is_found_and_trained(uninterrupted: tuple[TuningResult, TrainedBooster]) -> None:
    result, booster = uninterrupted
    assert result.trials["trial"].to_list() == list(range(1, TRIALS + 1))
    assert result.best_value == result.trials["value"].min() == booster.validation_loss
    best = result.trials.filter(pl.col("value") == result.best_value).row(0, named=True)
    assert best["rounds"] == result.best_rounds == booster.rounds
    assert {name: best[name] for name in result.best_parameters} == result.best_parameters
    assert result.resumed == 0
    assert result.pruned == result.trials["value"].null_count() > 0
    assert (result.trials.filter(pl.col("state") == "pruned")["rounds"] < 40).all()


def test_progress_is_told_after_every_trial(tuned_profile: TrainingProfile, tmp_path: Path) -> None:
    told: list[tuple[int, int, float | None, float]] = []
    result, _ = search(tuned_profile, tmp_path / "new folder" / "study.journal", lambda *report: told.append(report))
    assert [(done, total) for done, total, _, _ in told] == [(done, TRIALS) for done in range(1, TRIALS + 1)]
    assert [value for _, _, value, _ in told] == result.trials["value"].to_list()
    assert told[-1][3] == result.best_value
    assert [best for *_, best in told] == sorted((best for *_, best in told), reverse=True)


@pytest.mark.parametrize("interrupted_after", [1, 11])
def test_an_interrupted_search_ends_like_one_that_was_not(
    tuned_profile: TrainingProfile,
    tmp_path: Path,
    uninterrupted: tuple[TuningResult, TrainedBooster],
    interrupted_after: int,
) -> None:
    def interrupt(done: int, *_: object) -> None:
        if done == interrupted_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(tuned_profile, tmp_path / "study.journal", interrupt)
    result, booster = search(tuned_profile, tmp_path / "study.journal")
    assert result.resumed == interrupted_after
    assert without_times(result).equals(without_times(uninterrupted[0]))
    assert booster == uninterrupted[1]


def test_a_search_killed_inside_a_trial_ends_like_one_that_was_not(
    tuned_profile: TrainingProfile, tmp_path: Path, uninterrupted: tuple[TuningResult, TrainedBooster]
) -> None:
    journal = tmp_path / "study.journal"
    script = f"""
        import importlib.util, os, signal, sys
        from pathlib import Path
        spec = importlib.util.spec_from_file_location("search", {str(Path(__file__))!r})
        search = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(search)
        from levibot_core.config import TrainingProfile
        from levibot_core.models import lightgbm_model, study

        train, finished = lightgbm_model.BoosterTrainer.train, []
        def die_in_third_trial(self, parameters, on_round=None):
            def report(round_number, loss):
                on_round(round_number, loss)
                if len(finished) == 3 and round_number == 20:
                    with open({str(journal)!r}, "ab") as torn:
                        torn.write(b'{{"op_code": 4, "wor')
                    study._KernelLock(Path({str(journal)!r}).with_name(".study.journal.lock")).acquire()
                    os.kill(os.getpid(), signal.SIGKILL)
            return train(self, parameters, report)
        lightgbm_model.BoosterTrainer.train = die_in_third_trial
        profile = TrainingProfile.model_validate_json({tuned_profile.model_dump_json()!r})
        search.search(profile, Path({str(journal)!r}), lambda *report: finished.append(report))
    """
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert not journal.read_bytes().endswith(b"\n")

    result, booster = search(tuned_profile, journal)
    assert result.resumed == 3
    assert without_times(result).equals(without_times(uninterrupted[0]))
    assert booster == uninterrupted[1]


def test_a_finished_search_is_not_done_again_and_more_trials_continue_it(
    tuned_profile: TrainingProfile, tmp_path: Path, uninterrupted: tuple[TuningResult, TrainedBooster]
) -> None:
    journal = tmp_path / "study.journal"
    few = tuned_profile.model_copy(update={"trials": 2})
    search(few, journal)

    def fail(*_: object) -> None:
        raise AssertionError("no trial was left to do")

    again, _ = search(few, journal, fail)
    assert (again.resumed, again.trials.height) == (2, 2)
    more, _ = search(tuned_profile, journal)
    assert more.resumed == 2
    assert without_times(more).equals(without_times(uninterrupted[0]))


def test_other_rows_begin_another_study(tuned_profile: TrainingProfile, tmp_path: Path) -> None:
    few = tuned_profile.model_copy(update={"trials": 1})
    first, _ = search(few, tmp_path / "study.journal")
    other, _ = search(few, tmp_path / "study.journal", validation=sample(600, 2))
    assert other.resumed == 0
    assert other.study_name != first.study_name
    assert other.study_name.startswith("study-")


def test_a_journal_that_cannot_be_written_is_an_error_in_words(tuned_profile: TrainingProfile, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeNotWritableError):
        search(tuned_profile, tmp_path / "file" / "study.journal")


@pytest.mark.parametrize("rows", [50, 1500, 100_000])
def test_leaves_fit_the_number_of_rows(rows: int) -> None:
    leaf = search_space(rows)["min_data_in_leaf"]
    assert isinstance(leaf, IntDistribution)
    assert 1 <= leaf.low < leaf.high <= 5000
    assert all(isinstance(found, IntDistribution | FloatDistribution) for found in search_space(rows).values())
