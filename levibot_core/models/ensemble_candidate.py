"""From calibrated members to an ensemble that can be judged, and the verdict whether it is worth having.

Stacking and the vote are both fitted on out-of-fold forecasts, the better one on the calibration part is the ensemble,
and the untouched test part says whether it beats its best member. Both attempts count as trials for ever. Where the
forecasts come from is in `.ensemble_folds`, how weights are found in `.ensemble_fitting`.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from levibot_core.models.bundle import ModelBundle
from levibot_core.models.candidate import Candidate
from levibot_core.models.design import label_vector
from levibot_core.models.ensemble import EnsembleMethod, EnsembleRecipe
from levibot_core.models.ensemble_bundle import EnsemblePredictor, ensemble_files, ensemble_identity
from levibot_core.models.ensemble_fitting import choose_final, fit_stacking, sharpe_vote
from levibot_core.models.ensemble_folds import FOLDS, MOST_TRAINING_ROWS, Member, forecast_out_of_fold
from levibot_core.models.metrics import BANDWIDTH_PER_OVERLAP, log_losses, mean_with_interval
from levibot_core.models.predictors import ENSEMBLE
from levibot_core.models.row_forecasts import predict_rows
from levibot_core.models.trial_returns import daily_returns, policy_rows, profit_weighted_log_loss, sharpe_per_day
from levibot_core.models.tuning import FIGURES, TuningResult
from levibot_core.stores.trial_ledger import LEDGER_SCHEMA, TrialLedger
from levibot_core.validation.split import SplitResult


class LossInterval(BaseModel):
    """A mean log loss, or a difference of two, in nats per row, with its 95 % interval."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float
    lower_95: float
    upper_95: float


class MemberVerdict(BaseModel):
    """One member: its weight in the recipe, and its log loss on the untouched rows."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str
    weight: float = Field(ge=0)
    log_loss: LossInterval


class EnsembleVerdict(BaseModel):
    """Whether an ensemble is worth having, on rows that nothing was fitted or chosen on."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    taken: bool
    method: EnsembleMethod
    rows: int = Field(description="Test rows that every member forecasts")
    members: tuple[MemberVerdict, ...]
    log_loss: LossInterval = Field(description="Of the ensemble")
    best_member: str = Field(description="The one with the lowest log loss on these rows")
    against_best: LossInterval = Field(description="Ensemble less best member; below 0 is better")
    reason: str


def fit_ensemble(members: Mapping[str, Member], split: SplitResult, threads: int, ledger: TrialLedger) -> Candidate:
    """Weigh the members on out-of-fold rows, and choose between stacking and the vote on the calibration part.

    Both attempts are in the ledger afterwards, as trials of the family `ensemble`. The test part is not looked at.

    Args:
        members: Name to member, at least one; all trained and calibrated on this split.
        split: The parts.
        threads: They do not change the result.
        ledger: Where trials are kept.

    Raises:
        DataQualityError: there are too few rows for the folds, or rows of one class only.
        MissingFeatureError: a feature is absent, or NaN or infinite in some row.
        BundleError: the members do not belong together, or a family cannot be trained with given parameters.
        HomeNotWritableError: the ledger cannot be written.
    """
    bundles = {name: member.bundle for name, member in members.items()}
    identity = ensemble_identity(list(bundles.values()))
    started = time.perf_counter()
    found = forecast_out_of_fold(pl.concat([split.train, split.validation]), members, threads)
    recipes = (
        fit_stacking(found.probabilities, found.labels, identity.horizon_bars),
        sharpe_vote(found.returns),
    )
    trials, days = _attempts(recipes, bundles, split, time.perf_counter() - started)
    best = min(range(len(recipes)), key=lambda place: float(trials["log_loss"][place]))
    tuning = TuningResult(
        study_name=f"{identity.model_name}-{ENSEMBLE}-{_digest(bundles)}",
        best_parameters=_parameters(recipes[best]),
        best_rounds=1,
        best_value=float(trials["log_loss"][best]),
        trials=trials,
        resumed=0,
        importances={},
    )
    profile = next(iter(members.values())).candidate.profile
    candidate = Candidate(identity, ENSEMBLE, profile, ensemble_files(recipes[best], bundles), tuning)
    ledger.append(_ledger_rows(candidate, days))
    return candidate


def judge_ensemble(bundle: ModelBundle, split: SplitResult) -> EnsembleVerdict:
    """Compare an ensemble with its members on the test part; see `choose_final`.

    Raises:
        DataQualityError: the test part has rows of one class only, or none that every member forecasts.
        MissingFeatureError: a feature is absent, or NaN or infinite in some row.
        TypeError: the bundle is no ensemble.
    """
    predictor, overlap = bundle.predictor, bundle.manifest.horizon_bars
    if not isinstance(predictor, EnsemblePredictor):
        raise TypeError(f"Expected an ensemble, was a bundle of the family {bundle.manifest.family!r}.")
    recipe = predictor.recipe
    kept, said = _said(dict(zip(recipe.members, predictor.members, strict=True)), split.test, split)
    labels, times = label_vector(kept, "test"), kept["known_at"].dt.epoch("ms").to_numpy()
    choice = choose_final(said, recipe, labels, overlap, times)

    def loss(probabilities: np.ndarray) -> LossInterval:
        mean = mean_with_interval(log_losses(probabilities, labels), times, BANDWIDTH_PER_OVERLAP * overlap)
        return LossInterval(value=mean.mean, lower_95=mean.lower_95, upper_95=mean.upper_95)

    difference = choice.against_best
    return EnsembleVerdict(
        taken=choice.takes_ensemble,
        method=recipe.method,
        rows=kept.height,
        members=tuple(
            MemberVerdict(name=name, weight=weight, log_loss=loss(said[name]))
            for name, weight in zip(recipe.members, recipe.weights, strict=True)
        ),
        log_loss=loss(recipe.apply(np.array(list(said.values())))),
        best_member=choice.best_member,
        against_best=LossInterval(value=difference.mean, lower_95=difference.lower_95, upper_95=difference.upper_95),
        reason=choice.reason,
    )


def _said(
    members: Mapping[str, ModelBundle], rows: pl.DataFrame, split: SplitResult
) -> tuple[pl.DataFrame, dict[str, np.ndarray]]:
    """The rows that every member forecasts, and what each says of them, (n,)."""
    said = {name: predict_rows(member, rows, split.history) for name, member in members.items()}
    whole = np.isfinite(np.array(list(said.values()))).all(axis=0)
    return rows.filter(pl.Series(whole)), {name: probability[whole] for name, probability in said.items()}


def _attempts(
    recipes: tuple[EnsembleRecipe, ...], bundles: Mapping[str, ModelBundle], split: SplitResult, seconds: float
) -> tuple[pl.DataFrame, list[object]]:
    """One row per recipe, as `TuningResult.trials` has them, judged on the calibration part; and their days."""
    kept, said = _said(bundles, split.calibration, split)
    barriers = next(iter(bundles.values())).manifest.triple_barrier
    labels, acted_on = label_vector(kept, "calibration"), policy_rows(kept, split.train, barriers)
    moves = kept["forward_return"].cast(pl.Float64).to_numpy()
    rows = []
    for place, recipe in enumerate(recipes):
        probabilities = recipe.apply(np.array([said[name] for name in recipe.members]))
        returns = daily_returns(probabilities, acted_on)
        rows.append(
            {
                "trial": place + 1,
                "number": place,
                "state": "complete",
                "log_loss": float(log_losses(probabilities, labels).mean()),
                "profit_weighted_log_loss": profit_weighted_log_loss(probabilities, labels, moves),
                "sharpe_per_day": sharpe_per_day(returns),
                "rounds": 1,
                "seconds": seconds / len(recipes),
                "finished_at": datetime.now(UTC),
                "returns": returns.tolist(),
                **_parameters(recipe),
            }
        )
    frame = pl.DataFrame(rows).with_columns(pl.col("finished_at").cast(LEDGER_SCHEMA["finished_at"]))
    return frame, list(acted_on.days)


def _parameters(recipe: EnsembleRecipe) -> dict[str, float]:
    weights = zip(recipe.members, recipe.weights, strict=True)
    return {
        "stacking": float(recipe.method == "stacking"),
        "intercept": recipe.intercept,
        **{f"weight_{name}": weight for name, weight in weights},
    }


def _digest(bundles: Mapping[str, ModelBundle]) -> str:
    """Two ensembles of the same members, found in the same way, are one study."""
    files = {name: dict(sorted(bundle.manifest.files.items())) for name, bundle in bundles.items()}
    content = json.dumps([files, FOLDS, MOST_TRAINING_ROWS])
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _ledger_rows(candidate: Candidate, days: list[object]) -> pl.DataFrame:
    identity, trials = candidate.identity, candidate.tuning.trials
    names = [name for name in trials.columns if name not in FIGURES]
    parameters = [json.dumps(dict(zip(names, row, strict=True))) for row in trials.select(names).rows()]
    return trials.with_columns(
        model_name=pl.lit(identity.model_name),
        family=pl.lit(ENSEMBLE),
        study=pl.lit(candidate.tuning.study_name),
        trial="number",
        snapshot_id=pl.lit(identity.snapshot_id),
        seed=pl.lit(identity.seed, pl.Int64()),
        parameters=pl.Series(parameters, dtype=pl.String()),
        days=pl.lit(pl.Series("days", [days], LEDGER_SCHEMA["days"])).first(),
    ).select(LEDGER_SCHEMA.names())
