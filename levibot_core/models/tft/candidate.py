"""The transformer as a candidate: one training with fixed parameters, which is one trial of the lifetime ledger.

Its parameters are not searched for: one training takes as long as a hundred of trees. The training itself is in
`.training`; torch is imported when one begins, so that this module can be imported without it.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import polars as pl
from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from levibot_core.config import TrainingProfile
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.bundle import BundleIdentity
from levibot_core.models.candidate import Candidate, TrialStore
from levibot_core.models.metrics import log_losses
from levibot_core.models.predictors import TFT, matrix_columns
from levibot_core.models.retraining import Retrained
from levibot_core.models.row_forecasts import forecast_rows
from levibot_core.models.study import ResumableStudy, outcome_of
from levibot_core.models.tft.features import tft_features
from levibot_core.models.tft.profile import TFTProfile, tft_profile
from levibot_core.models.tft.window_predictor import read_window_predictor
from levibot_core.models.trial_returns import daily_returns, policy_rows, profit_weighted_log_loss, sharpe_per_day
from levibot_core.models.tuning import TuningResult, trials_frame
from levibot_core.validation.split import SplitResult

if TYPE_CHECKING:
    from levibot_core.models.tft.training import EpochReport

TRAINING_LIBRARIES: Final = ("torch", "lightning", "pytorch_forecasting", "onnx", "safetensors")


@dataclass(frozen=True, slots=True)
class TrainedTransformer:
    """One training.

    Attributes:
        files: The predictor, as the files of its family: name to bytes.
        best_epoch: The epoch whose weights were kept, counted from 1.
        epochs: One report per epoch.
        probabilities: Of a rise on the validation rows, before calibration, float64 (n,); NaN without a whole window.
    """

    files: Mapping[str, bytes]
    best_epoch: int
    epochs: "tuple[EpochReport, ...]"
    probabilities: np.ndarray


def missing_libraries() -> tuple[str, ...]:
    """What a training needs and this environment does not have; nothing is imported."""
    return tuple(name for name in TRAINING_LIBRARIES if find_spec(name) is None)


def transformer_identity(identity: BundleIdentity, profile: TFTProfile) -> BundleIdentity:
    """What a transformer says about itself, of a home's identity: the features it takes, and its window.

    Raises:
        ConfigurationError: no feature is a volatility.
    """
    return identity.model_copy(update={"features": tft_features(identity.features), "window": profile.window})


def train_transformer(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    identity: BundleIdentity,
    profile: TFTProfile,
    seed: int,
    threads: int,
    on_epoch: "Callable[[EpochReport], None] | None" = None,
) -> TrainedTransformer:
    """Train one network and forecast the validation rows with what serving will have of it.

    Args:
        train: Rows to train on: symbol, ts, the identity's features, label and forward_return.
        validation: Rows that stop the training, of later times.
        identity: Features, timeframe and horizon.
        profile: Size and amount of work.
        seed: Of the weights and of dropout.
        threads: Threads of torch on the CPU.
        on_epoch: Told the progress.

    Raises:
        ConfigurationError, DataQualityError, MissingFeatureError: as `train_tft`.
        BundleError: ONNX Runtime and torch differ.
    """
    from levibot_core.models.tft.export import tft_files  # Torch and Lightning: eight seconds.
    from levibot_core.models.tft.training import train_tft

    trained = train_tft(
        train,
        validation,
        identity.features,
        profile,
        horizon_bars=identity.horizon_bars,
        bar_ms=Timeframe.parse(identity.timeframe).milliseconds,
        seed=seed,
        threads=threads,
        on_epoch=on_epoch,
    )
    files = tft_files(trained)
    predictor = read_window_predictor(files, matrix_columns(identity.features))
    history = pl.concat([train, validation])
    probabilities = forecast_rows(predictor.predict, identity, validation, history)
    return TrainedTransformer(files, trained.configuration.best_epoch, trained.epochs, probabilities)


def retrain_transformer(
    train: pl.DataFrame,
    validation: pl.DataFrame,
    identity: BundleIdentity,
    parameters: Mapping[str, bool | int | float | str],
    profile: TrainingProfile,
    seeds: Sequence[int],
    threads: int,
) -> tuple[Retrained, ...]:
    """Train networks with given parameters, one per seed; see `levibot_core.models.retraining.TrainWithParameters`.

    Raises:
        ConfigurationError, DataQualityError, MissingFeatureError, BundleError: as `train_transformer`.
    """
    del profile  # What is left of it for a transformer is among the parameters.
    tft = TFTProfile.model_validate(dict(parameters))
    trained = [train_transformer(train, validation, identity, tft, seed, threads) for seed in seeds]
    labels = validation["label"].to_numpy()
    return tuple(Retrained(one.files, one.best_epoch, _log_loss(one.probabilities, labels)) for one in trained)


def train_transformer_candidate(
    split: SplitResult,
    identity: BundleIdentity,
    profile: TrainingProfile,
    threads: int,
    store: TrialStore,
    on_epoch: "Callable[[EpochReport], None] | None" = None,
    parameters: TFTProfile | None = None,
) -> "tuple[Candidate, tuple[EpochReport, ...]]":
    """Train a transformer on the train part, stopped by the validation part; calibration and test are not looked at.

    The trial is in the ledger afterwards. A training that was killed left none, and begins anew.

    Args:
        split: The parts.
        identity: What the home's models say about themselves; the features the network takes are chosen from it.
        profile: The home's profile.
        threads: Threads of torch on the CPU.
        store: Where the trial is kept.
        on_epoch: Told the progress.
        parameters: Size and amount of work; those of the profile when None.

    Returns:
        The candidate, and one report per epoch.

    Raises:
        ConfigurationError, DataQualityError, MissingFeatureError, BundleError: as `train_transformer`.
        HomeNotWritableError: the journal or the ledger cannot be written.
    """
    tft = tft_profile(profile.name) if parameters is None else parameters
    own = transformer_identity(identity, tft)
    rows = policy_rows(split.validation, split.train)
    about = {"model_name": own.model_name, "snapshot_id": own.snapshot_id, "family": TFT, "seed": own.seed}
    about["days"] = [day.isoformat() for day in rows.days]
    study = ResumableStudy(store.location, _study_name(split, own, tft), own.seed, about)
    resumed = len(study.finished)
    trial = None if resumed else study.ask(_space(tft), tft.model_dump())
    started = time.perf_counter()
    trained = train_transformer(split.train, split.validation, own, tft, own.seed, threads, on_epoch)
    if trial is not None:
        outcome = {**_figures(trained, split), "seconds": time.perf_counter() - started}
        study.tell(trial, (outcome["log_loss"], outcome["sharpe_per_day"]), outcome)
    store.record(own.model_name)
    tuning = TuningResult(
        study_name=study.name,
        best_parameters=tft.model_dump(),
        best_rounds=trained.best_epoch,
        best_value=float(outcome_of(study.best())["log_loss"]),
        trials=trials_frame(study.finished),
        resumed=resumed,
        importances={},
    )
    return Candidate(own, TFT, profile, trained.files, tuning), trained.epochs


def _study_name(split: SplitResult, identity: BundleIdentity, profile: TFTProfile) -> str:
    """A name of its own for every other set of rows, features, parameters or seed."""
    digest = hashlib.sha256()
    for rows in (split.train, split.validation):
        for name in ("label", "forward_return", *identity.features):
            digest.update(rows[name].to_numpy().tobytes())
        digest.update(rows["ts"].dt.epoch("ms").to_numpy().tobytes())
    digest.update(f"{identity.symbols} {identity.features} {profile} {identity.seed}".encode())
    return f"{identity.model_name}-{TFT}-{digest.hexdigest()[:12]}"


def _space(profile: TFTProfile) -> dict[str, BaseDistribution]:
    """One value per parameter."""
    return {
        name: IntDistribution(value, value) if isinstance(value, int) else FloatDistribution(value, value)
        for name, value in profile.model_dump().items()
    }


def _figures(trained: TrainedTransformer, split: SplitResult) -> dict[str, Any]:
    """What a trial is judged by; where a window is not whole it would have stayed flat."""
    labels, returns = (split.validation[name].to_numpy() for name in ("label", "forward_return"))
    known = np.isfinite(trained.probabilities)
    policy = policy_rows(split.validation, split.train)
    daily = daily_returns(np.where(known, trained.probabilities, 0.5), policy)
    return {
        "log_loss": _log_loss(trained.probabilities, labels),
        "profit_weighted_log_loss": profit_weighted_log_loss(
            trained.probabilities[known], labels[known], returns[known]
        ),
        "sharpe_per_day": sharpe_per_day(daily),
        "returns": daily.tolist(),
        "rounds": trained.best_epoch,
        "curve": [report.validation_loss for report in trained.epochs],
    }


def _log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over the rows that have a forecast, nats."""
    known = np.isfinite(probabilities)
    return float(log_losses(probabilities[known], labels[known].astype(np.float64)).mean())
