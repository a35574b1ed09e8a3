"""Mistakes in what is fitted: statistics, models and calibrators that see rows of a later part."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from levibot_core.drift.psi import psi_table
from levibot_core.models.base_rate import fit_base_rate
from levibot_core.models.calibration import Calibrator
from levibot_core.models.calibration_fitting import fit_isotonic, fit_platt
from levibot_core.models.design import design_matrix, label_vector
from levibot_core.models.metrics import log_losses
from levibot_core.models.scaling import RobustScaler, fit_robust_scaler
from levibot_core.validation.attack.pipeline import (
    FittedModel,
    Pipeline,
    PipelineSettings,
    base_rate_stage,
    boosters,
    calibrate_stage,
    calibrator_of,
    drift_stage,
    feature_names,
    fit_stage,
    fitted_model,
    labelled,
    scale_stage,
)
from levibot_core.validation.mutations.mutation import Mutation
from levibot_core.validation.split import SplitResult

_STATISTICS, _MODEL, _CALIBRATION = (
    "statistics_ignore_later_rows",
    "model_ignores_later_rows",
    "calibration_ignores_later_rows",
)


def _all_rows(split: SplitResult) -> pl.DataFrame:
    return pl.concat(list(split.parts.values()))


def _scaler_of_all_rows(settings: PipelineSettings, split: SplitResult) -> RobustScaler:
    rows = _all_rows(split)
    return fit_robust_scaler(design_matrix(rows, feature_names(rows), settings.symbols)[:, :-1])


def _base_rate_of_all_rows(_: PipelineSettings, split: SplitResult) -> float:
    return fit_base_rate(_all_rows(split)["label"].to_numpy())


def _drift_bins_of_all_rows(_: PipelineSettings, split: SplitResult) -> pl.DataFrame:
    return psi_table(_all_rows(split), split.train, feature_names(split.train))


def _stopped_by_test(settings: PipelineSettings, split: SplitResult, scaler: RobustScaler) -> FittedModel:
    return fit_stage(settings, replace(split, validation=split.test), scaler)


def _chosen_by_test(settings: PipelineSettings, split: SplitResult, scaler: RobustScaler) -> FittedModel:
    """Every set of parameters stopped by the validation part, and the best one picked by the test part."""
    names = feature_names(split.train)
    train, validation = (labelled(settings, split.parts[part], part, names, scaler) for part in ("train", "validation"))
    test = labelled(settings, split.test, "test", names, scaler)
    models = [
        fitted_model(settings, names, scaler, booster) for booster in boosters(settings, names, train, validation)
    ]
    return min(models, key=lambda model: float(np.square(model.predictor.predict(test.matrix) - test.labels).mean()))


def _selected_on_all_rows(settings: PipelineSettings, split: SplitResult, scaler: RobustScaler) -> FittedModel:
    """Features weighted by how they go with the labels of all rows."""
    rows, names = _all_rows(split), feature_names(split.train)
    together = np.corrcoef(rows.select("label", *names).to_numpy().astype(np.float64), rowvar=False)[0, 1:]
    weights = tuple((np.asarray(scaler.spreads) / (np.abs(together) + 1e-3)).tolist())
    return fit_stage(settings, split, RobustScaler(scaler.centers, weights))


def _calibrated_on_test(_: PipelineSettings, split: SplitResult, model: FittedModel) -> Calibrator:
    return calibrator_of(split.test, model)


def _method_chosen_on_test(_: PipelineSettings, split: SplitResult, model: FittedModel) -> Calibrator:
    scores, labels = model.score(split.calibration), label_vector(split.calibration, "calibration")
    tested, truth = model.score(split.test), label_vector(split.test, "test")
    candidates: tuple[Calibrator, ...] = (fit_platt(scores, labels), fit_isotonic(scores, labels))
    return min(
        candidates,
        key=lambda calibrator: float(log_losses(calibrator.apply(tested), truth).mean()),
    )


def _scaled(pipeline: Pipeline, wrong: bool) -> Pipeline:
    return replace(pipeline, scale=_scaler_of_all_rows if wrong else scale_stage)


def _base_rated(pipeline: Pipeline, wrong: bool) -> Pipeline:
    return replace(pipeline, base_rate=_base_rate_of_all_rows if wrong else base_rate_stage)


def _drift_binned(pipeline: Pipeline, wrong: bool) -> Pipeline:
    return replace(pipeline, drift=_drift_bins_of_all_rows if wrong else drift_stage)


def _fitted(
    wrong_fit: Callable[[PipelineSettings, SplitResult, RobustScaler], FittedModel],
) -> Callable[[Pipeline, bool], Pipeline]:
    return lambda pipeline, wrong: replace(pipeline, fit=wrong_fit if wrong else fit_stage)


def _calibrated(
    wrong_calibration: Callable[[PipelineSettings, SplitResult, FittedModel], Calibrator],
) -> Callable[[Pipeline, bool], Pipeline]:
    return lambda pipeline, wrong: replace(pipeline, calibrate=wrong_calibration if wrong else calibrate_stage)


MUTATIONS: Sequence[Mutation] = (
    Mutation("scaler_of_all_rows", "statistics", "a scaler fitted on every part", (_STATISTICS,), _scaled),
    Mutation("base_rate_of_all_rows", "statistics", "the share of rises of every part", (_STATISTICS,), _base_rated),
    Mutation("drift_bins_of_all_rows", "statistics", "drift bins cut on every part", (_STATISTICS,), _drift_binned),
    Mutation("stopped_by_test_rows", "model", "early stopping on the test part", (_MODEL,), _fitted(_stopped_by_test)),
    Mutation(
        "parameters_chosen_on_test_rows",
        "model",
        "parameters chosen on the test part",
        (_MODEL,),
        _fitted(_chosen_by_test),
    ),
    Mutation(
        "features_weighed_on_all_rows",
        "model",
        "features weighted by their correlation with the labels of every part",
        (_MODEL,),
        _fitted(_selected_on_all_rows),
    ),
    Mutation(
        "calibrated_on_test_rows",
        "calibration",
        "a calibrator fitted on the test part",
        (_CALIBRATION,),
        _calibrated(_calibrated_on_test),
    ),
    Mutation(
        "method_chosen_on_test_rows",
        "calibration",
        "the calibration method chosen on the test part",
        (_CALIBRATION,),
        _calibrated(_method_chosen_on_test),
    ),
)
