"""The search for LightGBM parameters: an Optuna study that can be killed and goes on where it was.

It sees training and validation rows only. How one booster is trained is in `levibot_core.models.lightgbm_model`, how
a study survives in `.study`.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
import polars as pl
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from levibot_core.config import TrainingProfile
from levibot_core.models.lightgbm_model import BoosterTrainer, LabelledMatrix, TrainedBooster
from levibot_core.models.study import ResumableStudy

# A trial tells the study how it goes every so many rounds: each report is a flushed write to the journal.
ROUNDS_PER_REPORT = 10
# Slow learners look bad early on: no trial is pruned in this share of the rounds.
_UNPRUNED_SHARE = 0.25
_TRIALS_BEFORE_PRUNING = 5
# Cautious parameters for weak signals; the search starts from here.
_FIRST_TRIAL = {
    "num_leaves": 15,
    "min_data_in_leaf": 1000,
    "learning_rate": 0.03,
    "feature_fraction": 0.3,
    "bagging_fraction": 0.8,
    "lambda_l1": 0.01,
    "lambda_l2": 1.0,
}

# Told after each finished trial: how many are done, how many there will be, this one's validation log loss (None when
# it was pruned) and the best so far.
TrialCallback = Callable[[int, int, float | None, float], None]


@dataclass(frozen=True, slots=True)
class TuningResult:
    """What the search found.

    Attributes:
        study_name: Name of the study in its journal.
        best_parameters: Of the trial with the lowest validation log loss.
        best_rounds: Boosting rounds of that trial.
        best_value: Its validation log loss, in nats, before calibration.
        trials: One row per finished trial, oldest first: `trial` (from 1), `state` (complete or pruned), `value`
            (null when pruned), `rounds`, `seconds` and one column per parameter.
        resumed: Trials that an earlier run had already finished.
    """

    study_name: str
    best_parameters: dict[str, float]
    best_rounds: int
    best_value: float
    trials: pl.DataFrame
    resumed: int

    @property
    def pruned(self) -> int:
        """Trials that were given up early."""
        return int((self.trials["state"] == "pruned").sum())


def tune(
    train: LabelledMatrix,
    validation: LabelledMatrix,
    features: Sequence[str],
    profile: TrainingProfile,
    seed: int,
    threads: int,
    journal: Path,
    study_name: str,
    on_trial: TrialCallback | None = None,
) -> tuple[TuningResult, TrainedBooster]:
    """Search until the profile's number of trials has finished, then train the best one.

    The study's full name ends with a digest of rows, profile and seed: a study never mixes trials of different inputs.
    An interrupted search continues, and ends with the same trials as one that was not interrupted.

    Args:
        train: Rows the trees are grown on.
        validation: Rows that stop, prune and rank; never calibration or test rows.
        features: Feature names in column order, without the symbol code.
        profile: How much work to do.
        seed: Seed of sampler and booster.
        threads: Threads of the booster; they do not change the result.
        journal: File that keeps the study; made when missing.
        study_name: Begin of the study's name.
        on_trial: Told the progress.

    Raises:
        HomeNotWritableError: the journal cannot be written.
    """
    name = f"{study_name}-{_digest(train, validation, features, profile, seed)}"
    study = ResumableStudy(journal, name, seed, _pruner(profile))
    trainer = BoosterTrainer(train, validation, features, profile, seed, threads)
    space = search_space(train.labels.size)
    resumed = len(study.finished)
    for done in range(resumed + 1, profile.trials + 1):
        trial = study.ask(space, _clipped(_FIRST_TRIAL, space))
        value = _run_trial(study, trial, trainer)
        if on_trial is not None:
            on_trial(done, profile.trials, value, float(study.best().value or 0.0))
    best = study.best()
    booster = trainer.train(best.params)
    trials = _trials_frame(study.finished)
    result = TuningResult(name, dict(best.params), booster.rounds, booster.validation_loss, trials, resumed)
    return result, booster


def search_space(rows: int) -> dict[str, BaseDistribution]:
    """Where to search, given the number of training rows; large leaves and strong shrinkage suit weak signals."""
    largest_leaf = max(20, min(5000, rows // 10))
    return {
        "num_leaves": IntDistribution(4, 63, log=True),
        "min_data_in_leaf": IntDistribution(min(200, max(10, rows // 100)), largest_leaf, log=True),
        "learning_rate": FloatDistribution(0.01, 0.2, log=True),
        "feature_fraction": FloatDistribution(0.1, 0.7),
        "bagging_fraction": FloatDistribution(0.5, 1.0),
        "lambda_l1": FloatDistribution(1e-3, 10.0, log=True),
        "lambda_l2": FloatDistribution(1e-3, 100.0, log=True),
    }


def _pruner(profile: TrainingProfile) -> optuna.pruners.BasePruner:
    return optuna.pruners.MedianPruner(
        n_startup_trials=_TRIALS_BEFORE_PRUNING,
        n_warmup_steps=int(profile.max_rounds * _UNPRUNED_SHARE),
        interval_steps=ROUNDS_PER_REPORT,
    )


def _run_trial(study: ResumableStudy, trial: optuna.Trial, trainer: BoosterTrainer) -> float | None:
    """Train one trial and record it; return its validation log loss, or None when it was pruned."""

    def report(round_number: int, loss: float) -> None:
        if round_number % ROUNDS_PER_REPORT == 0:
            trial.report(loss, round_number)
            if trial.should_prune():
                trial.set_user_attr("rounds", round_number)
                raise optuna.TrialPruned

    started = time.perf_counter()
    value: float | None = None
    try:
        booster = trainer.train(trial.params, report)
    except optuna.TrialPruned:
        trial.set_user_attr("seconds", time.perf_counter() - started)
    else:
        value = booster.validation_loss
        trial.set_user_attr("rounds", booster.rounds)
        trial.set_user_attr("seconds", time.perf_counter() - started)
    study.tell(trial, value)
    return value


def _trials_frame(finished: Sequence[FrozenTrial]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "trial": place,
                "state": trial.state.name.lower(),
                "value": trial.value if trial.state is TrialState.COMPLETE else None,
                "rounds": trial.user_attrs["rounds"],
                "seconds": trial.user_attrs["seconds"],
                **{name: float(value) for name, value in trial.params.items()},
            }
            for place, trial in enumerate(finished, start=1)
        ],
        schema_overrides={"value": pl.Float64},
        infer_schema_length=None,
    )


def _clipped(parameters: dict[str, float], space: dict[str, BaseDistribution]) -> dict[str, float]:
    """The parameters, moved into the space where few rows have narrowed it."""
    bounds = {name: space[name] for name in parameters}
    return {
        name: min(max(parameters[name], bound.low), bound.high)
        for name, bound in bounds.items()
        if isinstance(bound, IntDistribution | FloatDistribution)
    }


def _digest(
    train: LabelledMatrix, validation: LabelledMatrix, features: Sequence[str], profile: TrainingProfile, seed: int
) -> str:
    digest = hashlib.sha256()
    for part in (train, validation):
        digest.update(part.matrix.tobytes())
        digest.update(part.labels.tobytes())
    digest.update(f"{list(features)} {profile.model_dump(exclude={'trials', 'drift_rows'})} {seed}".encode())
    return digest.hexdigest()[:12]
