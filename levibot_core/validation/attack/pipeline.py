"""The pipeline under attack: every stage of a training and its backtest, from the platform's own code, replaceable.

A stage is a pure function of the settings and of what earlier stages gave. The defaults call the functions that a
lifecycle run calls; only the search for parameters is shorter, and nothing is written. Mistakes to plant in it are in
`levibot_core.validation.mutations`, the attack is in `.guard`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import polars as pl

from levibot_core.backtest.engine import BacktestParameters, BacktestResult, run_backtest
from levibot_core.config import TrainingProfile
from levibot_core.drift.psi import psi_table
from levibot_core.features.compute import compute_features
from levibot_core.features.registry import FeatureSet, load_registry
from levibot_core.labels.direction import direction_labels
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.base_rate import fit_base_rate
from levibot_core.models.calibration import Calibrator
from levibot_core.models.calibration_fitting import fit_calibrator_of
from levibot_core.models.design import LabelledMatrix, design_matrix, label_vector
from levibot_core.models.lightgbm_model import LightGBMTrainer
from levibot_core.models.predictors import matrix_columns, read_booster
from levibot_core.models.scaling import RobustScaler, fit_robust_scaler
from levibot_core.models.trainer import TrainedBooster
from levibot_core.schemas import FEATURES, TRAINING_ROWS
from levibot_core.stores.training_rows import newest_revisions
from levibot_core.validation.perturbation import MarketTables
from levibot_core.validation.split import SplitPlan, SplitResult, split_at, split_boundaries

# Cheap ones of several kinds: own bars, the leading market, funding. The platform's whole set is attacked beside.
_FEATURES = ("log_return_12", "sma_gap_20", "leader_return_3", "funding_rate_last")
_SMALL_PROFILE = TrainingProfile(
    name="attack", trials=1, max_rounds=12, early_stopping_rounds=3, max_bin=31, drift_rows=1000
)
# A weak model seldom leaves the platform's band: with this one there are positions to attack.
_NARROW_BAND = BacktestParameters(long_threshold=0.52, short_threshold=0.48)
# Longer than the horizon, so that an embargo which the purge covers is told from one that adds to it.
_PLAN = SplitPlan(train=0.50, validation=0.18, calibration=0.15, test=0.17, embargo_ms=90 * 60_000)
_SMALL_TREES = {"num_leaves": 7, "min_data_in_leaf": 20}


def _small_feature_set() -> FeatureSet:
    whole = load_registry("v1")
    return FeatureSet(whole.version, tuple(spec for spec in whole.features if spec.name in _FEATURES))


@dataclass(frozen=True)
class PipelineSettings:
    """What the stages are told."""

    symbols: tuple[str, ...] = ("BTC/USDT", "ETH/USDT")
    timeframe: Timeframe = field(default_factory=lambda: Timeframe.parse("5m"))
    horizon_bars: int = 12
    feature_set: FeatureSet = field(default_factory=_small_feature_set)
    plan: SplitPlan = _PLAN
    profile: TrainingProfile = _SMALL_PROFILE
    parameters: tuple[Mapping[str, float], ...] = (
        {**_SMALL_TREES, "learning_rate": 0.1},
        {**_SMALL_TREES, "learning_rate": 0.3},
    )
    """Sets of LightGBM parameters; the one with the lowest validation log loss is taken."""
    backtest: BacktestParameters = _NARROW_BAND
    seed: int = 7


class Scorer(Protocol):
    """What the pipeline asks of a predictor."""

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Score per row: float64 (n, f + 1) in, float64 (n,) out."""
        ...


@dataclass(frozen=True)
class FittedModel:
    """A scaler and the booster trained on what it scaled."""

    features: tuple[str, ...]
    symbols: tuple[str, ...]
    scaler: RobustScaler
    booster: TrainedBooster
    predictor: Scorer

    def score(self, rows: pl.DataFrame) -> np.ndarray:
        """Uncalibrated probability of a rise per row, float64 (n,)."""
        if rows.is_empty():
            return np.empty(0)
        return self.predictor.predict(scaled_matrix(rows, self.features, self.symbols, self.scaler))


def scaled_matrix(
    rows: pl.DataFrame, features: tuple[str, ...], symbols: tuple[str, ...], scaler: RobustScaler
) -> np.ndarray:
    """The design matrix with its features scaled, float64 (n, f + 1); the symbol code stays as it is."""
    matrix = design_matrix(rows, features, symbols)
    return np.column_stack([scaler.apply(matrix[:, :-1]), matrix[:, -1]])


def feature_names(rows: pl.DataFrame) -> tuple[str, ...]:
    """The columns of features or training rows that hold features, in order."""
    return tuple(name for name in rows.columns if name not in TRAINING_ROWS.polars_schema)


def compute_stage(settings: PipelineSettings, market: MarketTables) -> pl.DataFrame:
    """symbol, ts, known_at and the features."""
    return compute_features(
        market.candles, market.funding, settings.feature_set, settings.timeframe, fear_greed=market.fear_greed
    )


def boundaries_stage(settings: PipelineSettings, rows: pl.DataFrame) -> Mapping[str, int]:
    """Each part's first decision time."""
    return split_boundaries(rows, settings.plan)


def split_stage(settings: PipelineSettings, rows: pl.DataFrame, boundaries: Mapping[str, int]) -> SplitResult:
    """The parts, purged and with the embargo between them."""
    return split_at(rows, boundaries, settings.plan.embargo_ms)


def scale_stage(settings: PipelineSettings, split: SplitResult) -> RobustScaler:
    """The scaler of the train part."""
    names = feature_names(split.train)
    return fit_robust_scaler(design_matrix(split.train, names, settings.symbols)[:, :-1])


def base_rate_stage(_: PipelineSettings, split: SplitResult) -> float:
    """How often prices rose in the train part: the reference that a model has to beat."""
    return fit_base_rate(split.train["label"].to_numpy())


def drift_stage(_: PipelineSettings, split: SplitResult) -> pl.DataFrame:
    """Drift within the train part, by the bins of its first half."""
    half = split.train.height // 2
    ordered = split.train.sort("known_at", "symbol")
    return psi_table(ordered.head(half), ordered.tail(half), feature_names(split.train))


def fit_stage(settings: PipelineSettings, split: SplitResult, scaler: RobustScaler) -> FittedModel:
    """The booster with the lowest validation log loss, grown on the train part and stopped by the validation part."""
    names = feature_names(split.train)
    train, validation = (labelled(settings, split.parts[part], part, names, scaler) for part in ("train", "validation"))
    best = min(boosters(settings, names, train, validation), key=lambda booster: booster.validation_loss)
    return fitted_model(settings, names, scaler, best)


def labelled(
    settings: PipelineSettings, rows: pl.DataFrame, part: str, names: tuple[str, ...], scaler: RobustScaler
) -> LabelledMatrix:
    """The scaled design matrix of a part and its labels."""
    labels = label_vector(rows, part)
    return LabelledMatrix(scaled_matrix(rows, names, settings.symbols, scaler), labels)


def boosters(
    settings: PipelineSettings, names: tuple[str, ...], train: LabelledMatrix, validation: LabelledMatrix
) -> list[TrainedBooster]:
    """One booster per set of parameters."""
    trainer = LightGBMTrainer(train, validation, names, settings.profile, settings.seed, threads=1)
    return [trainer.train(parameters) for parameters in settings.parameters]


def fitted_model(
    settings: PipelineSettings, names: tuple[str, ...], scaler: RobustScaler, booster: TrainedBooster
) -> FittedModel:
    """The model that a booster's text gives."""
    return FittedModel(names, settings.symbols, scaler, booster, read_booster(booster.text, matrix_columns(names)))


def calibrate_stage(_: PipelineSettings, split: SplitResult, model: FittedModel) -> Calibrator:
    """The calibrator chosen and fitted on the calibration part."""
    return calibrator_of(split.calibration, model)


def calibrator_of(rows: pl.DataFrame, model: FittedModel) -> Calibrator:
    """The calibrator chosen and fitted on some rows."""
    return fit_calibrator_of(rows, model.score(rows), label_vector(rows, "calibration")).calibrator


def forecast_stage(_: PipelineSettings, rows: pl.DataFrame, model: FittedModel, calibrator: Calibrator) -> pl.DataFrame:
    """symbol, ts, known_at and prob_up of every row."""
    return rows.select(FEATURES.polars_schema.names()).with_columns(
        prob_up=pl.Series(calibrator.apply(model.score(rows)), dtype=pl.Float64)
    )


def backtest_stage(settings: PipelineSettings, candles: pl.DataFrame, forecasts: pl.DataFrame) -> BacktestResult:
    """The backtest of the forecasts."""
    return run_backtest(candles, forecasts, settings.timeframe, settings.backtest)


@dataclass(frozen=True)
class Pipeline:
    """The stages. Each can be replaced (`dataclasses.replace`), which is how mistakes are planted."""

    settings: PipelineSettings = field(default_factory=PipelineSettings)
    features: Callable[[PipelineSettings, MarketTables], pl.DataFrame] = compute_stage
    labels: Callable[[pl.DataFrame, Timeframe, int], pl.DataFrame] = direction_labels
    boundaries: Callable[[PipelineSettings, pl.DataFrame], Mapping[str, int]] = boundaries_stage
    split: Callable[[PipelineSettings, pl.DataFrame, Mapping[str, int]], SplitResult] = split_stage
    scale: Callable[[PipelineSettings, SplitResult], RobustScaler] = scale_stage
    base_rate: Callable[[PipelineSettings, SplitResult], float] = base_rate_stage
    drift: Callable[[PipelineSettings, SplitResult], pl.DataFrame] = drift_stage
    fit: Callable[[PipelineSettings, SplitResult, RobustScaler], FittedModel] = fit_stage
    calibrate: Callable[[PipelineSettings, SplitResult, FittedModel], Calibrator] = calibrate_stage
    forecast: Callable[[PipelineSettings, pl.DataFrame, FittedModel, Calibrator], pl.DataFrame] = forecast_stage
    backtest: Callable[[PipelineSettings, pl.DataFrame, pl.DataFrame], BacktestResult] = backtest_stage

    def whole_features(self, market: MarketTables) -> pl.DataFrame:
        """The rows of features without NaN: symbol, ts, known_at and the features, by symbol and ts."""
        features = self.features(self.settings, market)
        return features.filter(pl.all_horizontal(pl.col(feature_names(features)).is_finite())).sort(FEATURES.key)

    def training_rows(self, market: MarketTables, features: pl.DataFrame) -> pl.DataFrame:
        """Whole features joined with the labels there are."""
        labels = self.labels(newest_revisions(market.candles), self.settings.timeframe, self.settings.horizon_bars)
        return features.join(labels, on=FEATURES.key, maintain_order="left")
