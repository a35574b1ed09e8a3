"""How much the figures of a model move with the stretch of the market it learnt from, and with its seed.

The winning parameters are trained again on purged walk-forward folds, with several seeds each, and scored on the fold
that follows. That measures spread, not skill: the parameters were chosen on rows that some folds are scored on, and
nothing is calibrated. How folds are cut is the caller's choice; a training is in `levibot_core.models.retraining`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from levibot_core.config import TrainingProfile
from levibot_core.errors import DataQualityError
from levibot_core.models.base_rate import fit_base_rate
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.calibration import IdentityCalibrator
from levibot_core.models.metrics import classification_metrics, log_losses
from levibot_core.models.retraining import training_of
from levibot_core.models.row_forecasts import predict_rows, with_windows

# The last part of a fold's training rows stops the training; the same share as of the one chronological split.
STOPPING_SHARE = 0.2


class SpreadRun(BaseModel):
    """One training: a fold, a seed, and what came of it on the fold's test rows, before calibration."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    fold: int = Field(ge=1)
    seed: int
    rows: int = Field(description="Test rows")
    rounds: int
    auc: float
    log_loss: float
    gain: float = Field(description="Log loss of the training rows' base rate less that of the model, nats per row")


class SpreadReport(BaseModel):
    """Every run, fold by fold, and the figures people ask for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    folds: int
    seeds: tuple[int, ...]
    runs: tuple[SpreadRun, ...]

    def summary(self) -> dict[str, dict[str, float]]:
        """Per figure: `mean`, `lowest`, `highest`, `between_folds` and `between_seeds`.

        The two last are standard deviations (over n - 1): of the folds' means, and within a fold, pooled.
        """
        return {name: self._figures(name) for name in ("auc", "log_loss", "gain")}

    def _figures(self, name: str) -> dict[str, float]:
        table = np.array([getattr(run, name) for run in self.runs]).reshape(self.folds, len(self.seeds))
        return {
            "mean": float(table.mean()),
            "lowest": float(table.min()),
            "highest": float(table.max()),
            "between_folds": float(table.mean(axis=1).std(ddof=1)) if self.folds > 1 else 0.0,
            "between_seeds": float(np.sqrt(table.var(axis=1, ddof=1).mean())) if len(self.seeds) > 1 else 0.0,
        }


def cross_validated_spread(
    rows: pl.DataFrame,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    seeds: Sequence[int],
    family: str,
    identity: BundleIdentity,
    parameters: Mapping[str, bool | int | float | str],
    profile: TrainingProfile,
    threads: int,
) -> SpreadReport:
    """Train given parameters on every fold with every seed, and score each model on the rows that follow.

    Args:
        rows: Training rows: symbol, known_at, label, label_end and the identity's features.
        folds: Places of the rows to train on and of those to test on, int64 each, purged of each other.
        seeds: Seeds of the training.
        family: Kind of model.
        identity: Features and symbols.
        parameters: What the family is trained with.
        profile: Limits of a training.
        threads: They do not change the result.

    Raises:
        DataQualityError: there is no fold or no seed, or a part of a fold has rows of one class only.
        BundleError: the family cannot be trained with given parameters.
    """
    if not folds or not seeds:
        raise DataQualityError(f"Expected folds and seeds, was {len(folds)} and {len(seeds)}. Take more days.")
    train_model = training_of(family).train
    runs = []
    for number, (train_places, test_places) in enumerate(folds, start=1):
        fitted, stopping = stopping_rows(rows[train_places])
        test = with_windows(identity, rows[test_places], rows)
        labels = test["label"].to_numpy()
        base_rate = fit_base_rate(fitted["label"].to_numpy())
        constant = float(log_losses(np.full(labels.size, base_rate), labels).mean())
        models = train_model(fitted, stopping, identity, parameters, profile, seeds, threads)
        for seed, trained in zip(seeds, models, strict=True):
            model = ModelBundle.build(identity, family, trained.files, IdentityCalibrator())
            scores = classification_metrics(predict_rows(model, test, rows), labels)
            runs.append(
                SpreadRun(
                    fold=number,
                    seed=seed,
                    rows=test.height,
                    rounds=trained.rounds,
                    auc=scores["auc"],
                    log_loss=scores["log_loss"],
                    gain=constant - scores["log_loss"],
                )
            )
    return SpreadReport(folds=len(folds), seeds=tuple(seeds), runs=tuple(runs))


def stopping_rows(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rows to fit on, and the last ones, which stop the training; purged by `label_end`."""
    times = rows["known_at"].unique().sort()
    first = times[min(round(times.len() * (1.0 - STOPPING_SHARE)), times.len() - 1)]
    return rows.filter(pl.col("label_end") < first), rows.filter(pl.col("known_at") >= first)
