"""The search for the parameters of a boosted family: a study that can be killed and goes on where it was.

It sees training and validation rows only. Families are in `.boosters`, their trainers in `.lightgbm_model` and
`.xgboost_model`; how a study survives in `.study`; what a trial would have earned in `.trial_returns`.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import polars as pl
from optuna.trial import FrozenTrial

from levibot_core.config import TrainingProfile
from levibot_core.models.boosters import BoosterFamily, clipped
from levibot_core.models.design import LabelledMatrix
from levibot_core.models.pruning import ROUNDS_PER_POINT, MedianRule
from levibot_core.models.study import ResumableStudy, outcome_of
from levibot_core.models.trainer import TrainedBooster, Trainer
from levibot_core.models.trial_returns import PolicyRows, daily_returns, profit_weighted_log_loss, sharpe_per_day

# A trial may not be given up in this share of the rounds, nor before this many are over.
_UNPRUNED_SHARE = 0.25
_MOST_UNPRUNED_ROUNDS = 50
_FIGURES: Mapping[str, pl.DataType] = {
    "trial": pl.Int64(),
    "number": pl.Int64(),
    "state": pl.String(),
    "log_loss": pl.Float64(),
    "profit_weighted_log_loss": pl.Float64(),
    "sharpe_per_day": pl.Float64(),
    "rounds": pl.Int64(),
    "seconds": pl.Float64(),
    "finished_at": pl.Datetime("ms", "UTC"),
    "returns": pl.List(pl.Float64()),
}
FIGURES = tuple(_FIGURES)
"""Columns of `TuningResult.trials` that are no parameters."""

# Told after each finished trial: how many are done, how many there will be, this one's validation log loss (None when
# it was pruned) and that of the best so far.
TrialCallback = Callable[[int, int, float | None, float], None]


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched for, and on which rows.

    Attributes:
        family: What is trained.
        train: Rows the trees are grown on.
        validation: Rows that stop, prune and rank; never calibration or test rows.
        policy: The validation rows again, as a trial's forecasts are acted on.
        features: Feature names in column order, without the symbol code.
        profile: How much work to do.
        seed: Seed of sampler and booster.
        study: Begin of the study's name; the rest is a digest of all of the above.
        about: Kept with the study for those who read it later, such as the snapshot. JSON values.
    """

    family: BoosterFamily
    train: LabelledMatrix
    validation: LabelledMatrix
    policy: PolicyRows
    features: Sequence[str]
    profile: TrainingProfile
    seed: int
    study: str
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trials(self) -> int:
        """Number of trials to finish."""
        return self.profile.trials_of(self.family.name)

    @property
    def study_name(self) -> str:
        """The study's name: a study never mixes trials of different inputs."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation):
            for array in (part.matrix, part.labels, part.weights):
                digest.update(b"-" if array is None else array.tobytes())
        for array in (self.policy.decided_ms, self.policy.forward_returns, self.policy.expected_moves):
            digest.update(array.tobytes())
        settings = self.profile.model_dump(exclude={"name", "trials", "family_trials", "drift_rows"})
        digest.update(f"{self.family.name} {list(self.features)} {settings} {self.seed}".encode())
        return f"{self.study}-{digest.hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class TuningResult:
    """What the search found.

    Attributes:
        study_name: Name of the study.
        best_parameters: Of the best trial (see `ResumableStudy.best`).
        best_rounds: Boosting rounds of that trial.
        best_value: Its validation log loss, in nats, before calibration.
        trials: One row per finished trial, oldest first: `trial` (from 1), `number` (Optuna's, which skips what was
            interrupted), `state` (complete or pruned), `log_loss`, `profit_weighted_log_loss`, `sharpe_per_day` (of
            a pruned trial: as far as it came), `rounds`, `seconds`, `finished_at` (UTC), `returns` (after costs, per
            UTC day of the validation rows) and one column per parameter.
        resumed: Trials that an earlier run had already finished.
        importances: How much each parameter says about the log loss, shares, highest first.
    """

    study_name: str
    best_parameters: dict[str, float]
    best_rounds: int
    best_value: float
    trials: pl.DataFrame
    resumed: int
    importances: dict[str, float]

    @property
    def pruned(self) -> int:
        """Trials that were given up early."""
        return int((self.trials["state"] == "pruned").sum())

    @property
    def best_trial(self) -> dict[str, Any]:
        """The row of `trials` that was the best."""
        completed = self.trials.filter((pl.col("state") == "complete") & (pl.col("log_loss") == self.best_value))
        return completed.sort("sharpe_per_day", "number", descending=[True, False]).row(0, named=True)


def tune(
    search: Search, threads: int, location: Path | str, on_trial: TrialCallback | None = None
) -> tuple[TuningResult, TrainedBooster]:
    """Search until the profile's number of trials has finished, then train the best one.

    An interrupted search continues, and ends with the same trials as one that was not interrupted.

    Args:
        search: What to search for.
        threads: Threads of the booster; they do not change the result.
        location: Folder with one journal per study, or the address of a database that several workers share.
        on_trial: Told the progress.

    Raises:
        HomeNotWritableError: the journal cannot be written.
        ConfigurationError: the database does not answer.
    """
    days = [day.isoformat() for day in search.policy.days]
    about = {**search.about, "family": search.family.name, "seed": search.seed, "days": days}
    study = ResumableStudy(location, search.study_name, search.seed, about)
    trainer = search.family.trainer(
        search.train, search.validation, search.features, search.profile, search.seed, threads
    )
    space = search.family.space(search.train.labels.size)
    resumed = len(study.finished)
    while (done := len(study.finished)) < search.trials:
        trial = study.ask(space, clipped(search.family.first_trial, space))
        loss = _run_trial(study, trial, trainer, search)
        if on_trial is not None:
            on_trial(done + 1, search.trials, loss, float(study.best().values[0]))
    best = study.best()
    booster = trainer.train(best.params)
    result = TuningResult(
        study_name=study.name,
        best_parameters=dict(best.params),
        best_rounds=booster.rounds,
        best_value=booster.validation_loss,
        trials=trials_frame(study.finished),
        resumed=resumed,
        importances=study.parameter_importances(),
    )
    return result, booster


def trials_frame(finished: Sequence[FrozenTrial]) -> pl.DataFrame:
    """Finished trials as `TuningResult.trials`."""
    rows = []
    for place, trial in enumerate(finished, start=1):
        outcome = outcome_of(trial)
        # Optuna's times are local and do not say so.
        ended = trial.datetime_complete.astimezone(UTC) if trial.datetime_complete else None
        figures = {name: outcome[name] for name in FIGURES if name in outcome}
        own = {"trial": place, "number": trial.number, "state": trial.state.name.lower(), "finished_at": ended}
        rows.append({**own, **figures, **{name: float(value) for name, value in trial.params.items()}})
    parameters = dict.fromkeys((name for row in rows for name in row if name not in _FIGURES), pl.Float64())
    return pl.DataFrame(rows, schema={**_FIGURES, **parameters})


def _run_trial(study: ResumableStudy, trial: optuna.Trial, trainer: Trainer, search: Search) -> float | None:
    """Train one trial and record it; return its validation log loss, or None when it was pruned."""
    warm_up = min(int(search.profile.max_rounds * _UNPRUNED_SHARE), _MOST_UNPRUNED_ROUNDS)
    rule = MedianRule([outcome_of(other)["curve"] for other in study.completed], warm_up)
    curve: list[float] = []
    lowest = float("inf")

    def keep_going(round_number: int, loss: float) -> bool:
        nonlocal lowest
        lowest = min(lowest, loss)
        if round_number % ROUNDS_PER_POINT:
            return True
        curve.append(lowest)
        return rule.keeps(curve)

    started = time.perf_counter()
    booster = trainer.train(trial.params, keep_going)
    figures = _figures(booster, search)
    outcome = {**figures, "rounds": booster.rounds, "seconds": time.perf_counter() - started, "curve": curve}
    if booster.given_up:
        study.tell(trial, None, outcome)
        return None
    study.tell(trial, (booster.validation_loss, figures["sharpe_per_day"]), outcome)
    return booster.validation_loss


def _figures(booster: TrainedBooster, search: Search) -> dict[str, Any]:
    """What a trial is judged by."""
    probabilities = booster.validation_probabilities
    returns = daily_returns(probabilities, search.policy)
    return {
        "log_loss": booster.validation_loss,
        "profit_weighted_log_loss": profit_weighted_log_loss(
            probabilities, search.validation.labels, search.policy.forward_returns
        ),
        "sharpe_per_day": sharpe_per_day(returns),
        "returns": np.asarray(returns).tolist(),
    }
