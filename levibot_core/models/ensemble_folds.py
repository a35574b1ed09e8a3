"""What the members of an ensemble say of rows they were not trained on: the ground its weights are found on.

Every member is trained again on purged walk-forward folds of the train and validation parts, with its winning
parameters and at most its winning rounds, and forecasts the stretch that follows. How weights come out of that is in
`.ensemble_fitting`, the whole way to a model in `.ensemble_candidate`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from levibot_core.market.timeframe import Timeframe
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.candidate import Candidate
from levibot_core.models.design import label_vector
from levibot_core.models.retraining import training_of
from levibot_core.models.row_forecasts import predict_rows
from levibot_core.models.spread import stopping_rows
from levibot_core.models.trial_returns import daily_returns, policy_rows
from levibot_core.validation.purged import PurgedWalkForward

FOLDS = 3
MOST_TRAINING_ROWS = 20_000
"""Per fold. More are thinned, but never beyond rows whose labels no longer overlap, which would tell little more."""


@dataclass(frozen=True, slots=True)
class Member:
    """A tuned candidate and the bundle that it became."""

    candidate: Candidate
    bundle: ModelBundle


@dataclass(frozen=True, slots=True)
class OutOfFold:
    """Forecasts of rows that no forecaster was trained on.

    Attributes:
        labels: 1 for a rise, else 0, float64 (n,).
        probabilities: Name of each member to its forecasts, as its bundle would calibrate them, float64 (n,).
        returns: Name of each member to its daily returns after costs, float64 (days,), fractions, fold after fold.
        dropped: Rows left out, as some member has no whole window there.
    """

    labels: np.ndarray
    probabilities: Mapping[str, np.ndarray]
    returns: Mapping[str, np.ndarray]
    dropped: int


def forecast_out_of_fold(
    rows: pl.DataFrame, members: Mapping[str, Member], threads: int, folds: int = FOLDS
) -> OutOfFold:
    """Train every member again on each fold, and let it forecast the rows that follow.

    Scores are calibrated by the member's own curve: what is weighed is what the finished bundle will say.

    Args:
        rows: Those of the train and validation parts: symbol, ts, known_at, label, label_end, forward_return, features.
        members: Name to member, all of one timeframe and horizon.
        threads: They do not change the result.
        folds: Stretches to forecast; together they are the second half of the decision times.

    Raises:
        DataQualityError: there are too few rows for the folds, or a part of one has rows of one class only.
        MissingFeatureError: a feature is absent, or NaN or infinite in some row.
        BundleError: a member's family cannot be trained with given parameters.
    """
    identity = next(iter(members.values())).bundle.manifest
    horizon_ms = identity.horizon_bars * Timeframe.parse(identity.timeframe).milliseconds
    known, ends = (rows[name].dt.epoch("ms").to_numpy().astype(np.int64) for name in ("known_at", "label_end"))
    splitter = PurgedWalkForward(n_folds=folds, window="expanding", embargo_ms=horizon_ms)
    labels: list[np.ndarray] = []
    probabilities: dict[str, list[np.ndarray]] = {name: [] for name in members}
    returns: dict[str, list[np.ndarray]] = {name: [] for name in members}
    dropped = 0
    for train_places, test_places in splitter.split(known, ends):
        train, test = rows[train_places], rows[test_places]
        said = {name: predict_rows(_trained_on(train, member, threads), test, rows) for name, member in members.items()}
        whole = np.isfinite(np.array(list(said.values()))).all(axis=0)
        dropped += int((~whole).sum())
        kept = test.filter(pl.Series(whole))
        labels.append(label_vector(kept, "out-of-fold"))
        acted_on = policy_rows(kept, train, identity.triple_barrier)
        for name, probability in said.items():
            probabilities[name].append(probability[whole])
            returns[name].append(daily_returns(probability[whole], acted_on))
    return OutOfFold(
        np.concatenate(labels),
        {name: np.concatenate(parts) for name, parts in probabilities.items()},
        {name: np.concatenate(parts) for name, parts in returns.items()},
        dropped,
    )


def thinned(rows: pl.DataFrame, most: int, horizon_bars: int) -> pl.DataFrame:
    """Rows of every so many decision times: about `most`, or more where their labels would no longer overlap.

    Args:
        rows: known_at, any number of rows at one time.
        most: Above it, rows are left out.
        horizon_bars: Bars that a label looks ahead.
    """
    step = min(-(-rows.height // most), horizon_bars)
    times = rows["known_at"].unique().sort()
    return rows if step <= 1 else rows.filter(pl.col("known_at").is_in(times.gather_every(step).to_list()))


def _trained_on(rows: pl.DataFrame, member: Member, threads: int) -> ModelBundle:
    """The member as it would be, had it been trained on these rows; their last ones stop the training."""
    candidate = member.candidate
    identity, tuning = candidate.identity, candidate.tuning
    if identity.window == 1:  # Windows need every bar.
        rows = thinned(rows, MOST_TRAINING_ROWS, identity.horizon_bars)
    fitted, stopping = stopping_rows(rows)
    (trained,) = training_of(candidate.family).train(
        fitted,
        stopping,
        identity,
        tuning.best_parameters,
        candidate.profile.model_copy(update={"max_rounds": tuning.best_rounds}),
        (identity.seed,),
        threads,
    )
    return ModelBundle.build(identity, candidate.family, trained.files, member.bundle.calibrator)
