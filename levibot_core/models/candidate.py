"""The two steps from a split to a model that can be judged: train (and tune), then calibrate (and score).

Each step's result can be saved to a folder and picked up by another process. Whether the model may replace the
champion is decided in `levibot_core.validation.gates`; registering it is the work of `levibot_pipelines`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from levibot_core.config import TrainingProfile
from levibot_core.errors import BundleError
from levibot_core.labels.uniqueness import sample_weights
from levibot_core.models.base_rate import fit_base_rate
from levibot_core.models.boosters import booster_family
from levibot_core.models.bundle import BundleIdentity, ModelBundle
from levibot_core.models.calibration import CalibrationMethod, IdentityCalibrator
from levibot_core.models.calibration_fitting import fit_calibrator_of
from levibot_core.models.design import LabelledMatrix, design_matrix, expect_something_to_learn, label_vector
from levibot_core.models.ensemble_bundle import EnsemblePredictor
from levibot_core.models.families import FAMILIES
from levibot_core.models.metrics import ReliabilityCurve, classification_metrics, log_losses, reliability_curve
from levibot_core.models.predictors import ENSEMBLE, SYMBOL_CODE, matrix_columns, text_of
from levibot_core.models.row_forecasts import forecast_rows, input_of_rows, split_with_windows
from levibot_core.models.tft.window_predictor import WindowPredictor
from levibot_core.models.trial_records import record_trials
from levibot_core.models.trial_returns import policy_rows
from levibot_core.models.tuning import Search, TrialCallback, TuningResult, tune
from levibot_core.stores.files import sha256_of, write_atomically, write_bytes_atomically, write_json_atomically
from levibot_core.stores.trial_ledger import TrialLedger
from levibot_core.validation.split import SplitResult

TRIALS, TUNING = "trials.parquet", "tuning.json"
BUNDLE, REPORT = "bundle", "calibration.json"
SCORED_PARTS = ("validation", "calibration", "test")
WEIGHED_ROWS = 512
"""Test rows on which a network's weights are averaged, at most."""
FEWEST_ROWS = 100
"""Rows to train on, at least."""


class _TuningRecord(BaseModel):
    """Content of `tuning.json`, written last: with it the folder is whole."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identity: BundleIdentity
    family: str
    profile: TrainingProfile
    study_name: str
    best_parameters: dict[str, int | float]
    best_rounds: int
    best_value: float
    resumed: int
    importances: dict[str, float]
    files: dict[str, str] = Field(description="Name of every other file to its SHA-256")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tuned and trained model, before calibration; `predictor_files` are those of its family, name to content."""

    identity: BundleIdentity
    family: str
    profile: TrainingProfile
    predictor_files: Mapping[str, bytes]
    tuning: TuningResult

    def save(self, folder: Path) -> None:
        """Write the predictor's files, `trials.parquet` and, last, `tuning.json` into the folder.

        Raises:
            HomeNotWritableError: the operating system refused.
        """
        for name, content in self.predictor_files.items():
            write_bytes_atomically(folder / name, content)
        write_atomically(folder / TRIALS, lambda path: self.tuning.trials.write_parquet(path))
        record = _TuningRecord(
            identity=self.identity,
            family=self.family,
            profile=self.profile,
            study_name=self.tuning.study_name,
            best_parameters=dict(self.tuning.best_parameters),
            best_rounds=self.tuning.best_rounds,
            best_value=self.tuning.best_value,
            resumed=self.tuning.resumed,
            importances=dict(self.tuning.importances),
            files={name: sha256_of(folder / name) for name in (*self.predictor_files, TRIALS)},
        )
        write_json_atomically(folder / TUNING, record.model_dump(mode="json"))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            BundleError: a file is missing or altered.
        """
        try:
            record = _TuningRecord.model_validate_json((folder / TUNING).read_bytes())
            altered = [name for name, expected in record.files.items() if sha256_of(folder / name) != expected]
        except (OSError, ValidationError) as error:
            raise BundleError(f"Expected a trained candidate in {folder}, but {error}. Train it again.") from error
        if altered:
            raise BundleError(f"Expected {', '.join(altered)} in {folder} as trained, was altered. Train it again.")
        tuning = TuningResult(
            study_name=record.study_name,
            best_parameters=record.best_parameters,
            best_rounds=record.best_rounds,
            best_value=record.best_value,
            trials=pl.read_parquet(folder / TRIALS),
            resumed=record.resumed,
            importances=record.importances,
        )
        files = {name: (folder / name).read_bytes() for name in record.files if name != TRIALS}
        return cls(record.identity, record.family, record.profile, files, tuning)


class FeatureGain(BaseModel):
    """How much of the total gain of all splits a column brought; of a transformer, its mean selection weight."""

    model_config = ConfigDict(frozen=True)

    feature: str
    gain_share: float


class CalibrationReport(BaseModel):
    """Everything measured on a calibrated candidate. Losses are in nats per row."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    method: CalibrationMethod
    validation_loss: dict[CalibrationMethod, float] = Field(description="Cross-fitted, per method; `none` is raw")
    metrics: dict[str, dict[str, float]] = Field(description="Part to score name to score, calibrated")
    base_rate: float = Field(description="Laplace's base rate of the train part")
    base_rate_log_loss: dict[str, float] = Field(description="Part to the log loss of always saying `base_rate`")
    reliability: ReliabilityCurve = Field(description="On the test part")
    importance: tuple[FeatureGain, ...] = Field(description="Every column of the design matrix, highest gain first")


@dataclass(frozen=True, slots=True)
class CalibratedCandidate:
    """A model that can be judged and served, what was measured on it, and its test forecasts, (n,) in row order."""

    bundle: ModelBundle
    report: CalibrationReport
    test_probabilities: np.ndarray

    def save(self, folder: Path) -> None:
        """Write `bundle/` and, last, `calibration.json` into the folder, for `ModelBundle.load` and `load_report`.

        Raises:
            HomeNotWritableError: the operating system refused.
        """
        self.bundle.save(folder / BUNDLE)
        write_json_atomically(folder / REPORT, self.report.model_dump(mode="json"))


def load_report(folder: Path) -> CalibrationReport:
    """Read the report of a calibrated candidate that was saved to that folder.

    Raises:
        BundleError: it is missing or cannot be read.
    """
    try:
        return CalibrationReport.model_validate_json((folder / REPORT).read_bytes())
    except (OSError, ValidationError) as error:
        raise BundleError(
            f"Expected the report of a candidate in {folder}, but {error}. Calibrate it again."
        ) from error


@dataclass(frozen=True, slots=True)
class TrialStore:
    """Where trials are kept: studies in `location` (a folder of journals, or a database's address), and the ledger."""

    location: Path | str
    ledger: TrialLedger

    def record(self, model_name: str) -> int:
        """Add to the ledger what it lacks of a model's trials; return how many. Raises as `record_trials`."""
        return record_trials(self.location, self.ledger, model_name)


def train_candidate(
    split: SplitResult,
    identity: BundleIdentity,
    family: str,
    profile: TrainingProfile,
    threads: int,
    store: TrialStore,
    on_trial: TrialCallback | None = None,
    weights: np.ndarray | None = None,
) -> Candidate:
    """Tune and train a boosted model on the train part, stopped and ranked by the validation part.

    Every trial that finished is in the ledger afterwards, also when the training fails or is interrupted; what a
    killed one had finished is added by the next.

    Args:
        split: The parts; calibration and test rows are not looked at.
        identity: Features, symbols and seed to train with, and what the model will say about itself.
        family: A boosted family, `lightgbm` or `xgboost`.
        profile: How much work to do.
        threads: Threads to use; they do not change the result.
        store: Where the trials are kept, so that an interrupted training goes on, and none is forgotten.
        on_trial: Told the progress after each trial.
        weights: How much each row of the train part counts, float64 (n,); as the identity says when None.

    Raises:
        DataQualityError: a part has no rows, or rows of one class only; too few rows to train on; features that do
            not vary; or weights that do not fit.
        MissingFeatureError: a feature is absent, or NaN or infinite in some row.
        UnknownSymbolError: a row's symbol is not among the identity's.
        HomeNotWritableError: the journal or the ledger cannot be written.
        ConfigurationError: there is no such family, or the studies' database does not answer.
    """
    booster = booster_family(family)
    labels = {part: label_vector(split.parts[part], part) for part in ("train", "validation")}
    matrices = {part: design_matrix(split.parts[part], identity.features, identity.symbols) for part in labels}
    expect_something_to_learn(matrices["train"], identity.features, FEWEST_ROWS)
    if weights is None:
        weights = sample_weights(split.train, identity.sample_weights)
    search = Search(
        family=booster,
        train=LabelledMatrix(matrices["train"], labels["train"], weights),
        validation=LabelledMatrix(matrices["validation"], labels["validation"]),
        policy=policy_rows(split.validation, split.train, identity.triple_barrier),
        features=identity.features,
        profile=profile,
        seed=identity.seed,
        study=f"{identity.model_name}-{family}",
        about={"model_name": identity.model_name, "snapshot_id": identity.snapshot_id},
    )
    try:
        tuning, trained = tune(search, threads, store.location, on_trial)
    finally:
        store.record(identity.model_name)
    return Candidate(identity, family, profile, {booster.file: trained.text.encode()}, tuning)


def calibrate_candidate(candidate: Candidate, split: SplitResult) -> CalibratedCandidate:
    """Choose and fit a calibrator on the calibration part, and score on all but the train part.

    Raises:
        DataQualityError: a part has no rows, or rows of one class only.
        MissingFeatureError, UnknownSymbolError: as `train_candidate`.
        BundleError: the candidate's predictor is not whole.
    """
    identity, split = candidate.identity, split_with_windows(candidate.identity, split)
    predictor = FAMILIES[candidate.family].read(candidate.predictor_files, matrix_columns(identity.features))
    raw = {part: forecast_rows(predictor.predict, identity, split.parts[part], split.history) for part in SCORED_PARTS}
    labels = {part: label_vector(rows, part) for part, rows in split.parts.items()}
    choice = fit_calibrator_of(split.calibration, raw["calibration"], labels["calibration"])
    # The members of an ensemble are calibrated: a second curve would trust them half as much again.
    calibrator = IdentityCalibrator() if candidate.family == ENSEMBLE else choice.calibrator
    bundle = ModelBundle.build(identity, candidate.family, candidate.predictor_files, calibrator)
    probabilities = {part: bundle.calibrate(scores) for part, scores in raw.items()}
    base_rate = fit_base_rate(labels["train"])
    report = CalibrationReport(
        method=calibrator.method,
        validation_loss=dict(choice.validation_loss),
        metrics={part: classification_metrics(probabilities[part], labels[part]) for part in SCORED_PARTS},
        base_rate=base_rate,
        base_rate_log_loss=_constant_losses(base_rate, labels),
        reliability=reliability_curve(probabilities["test"], labels["test"]),
        importance=_importance(bundle, split),
    )
    return CalibratedCandidate(bundle, report, probabilities["test"])


def _importance(bundle: ModelBundle, split: SplitResult) -> tuple[FeatureGain, ...]:
    """What the trees gained by each column, or how much weight a network gave it on some of the test rows.

    Of an ensemble, that of its members by their weights.
    """
    predictor, manifest = bundle.predictor, bundle.manifest
    if isinstance(predictor, EnsemblePredictor):
        total = sum(predictor.recipe.weights) or 1.0
        found = dict.fromkeys(matrix_columns(manifest.features), 0.0)
        for member, weight in zip(predictor.members, predictor.recipe.weights, strict=True):
            for item in _importance(member, split):
                found[item.feature] += item.gain_share * weight / total
        shares = dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))
    elif isinstance(predictor, WindowPredictor):
        places = np.linspace(0, split.test.height - 1, min(WEIGHED_ROWS, split.test.height)).round().astype(np.int64)
        inputs = input_of_rows(manifest, split.test[np.unique(places).tolist()], split.history)
        weights = dict(zip(manifest.features, predictor.selection_weights(inputs).mean(axis=0).tolist(), strict=True))
        shares = dict(sorted({**weights, SYMBOL_CODE: 0.0}.items(), key=lambda item: (-item[1], item[0])))
    else:
        booster = booster_family(manifest.family)
        shares = booster.importance(text_of(bundle.files, booster.file))
    return tuple(FeatureGain(feature=name, gain_share=share) for name, share in shares.items())


def _constant_losses(probability: float, labels: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {
        part: float(log_losses(np.full(labels[part].size, probability), labels[part]).mean()) for part in SCORED_PARTS
    }
