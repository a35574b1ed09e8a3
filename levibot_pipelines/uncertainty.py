"""The optional parts of the candidate's bundle: fitted, kept beside it, and logged with what they are worth.

What they are is in `levibot_core.models.uncertainty`, how they are fitted in `.uncertainty_fitting`.
"""

from dataclasses import replace
from pathlib import Path

import polars as pl

from levibot_core.models.bundle import ModelBundle
from levibot_core.models.uncertainty_fitting import UncertainModel, UncertaintyReport, add_novelty, add_uncertainty
from levibot_core.validation.split import SplitResult
from levibot_pipelines.registry import ModelRegistry

FITTED = "fitted"


def fit_and_log_uncertainty(
    registry: ModelRegistry,
    run_id: str,
    bundle_folder: Path,
    split: SplitResult,
    candles: pl.DataFrame,
    threads: int,
) -> UncertainModel:
    """Add the parts to the bundle in that folder, and tell its MLflow run what they are worth, or why there are none.

    Args:
        registry: Where the run is.
        run_id: The run of the candidate.
        bundle_folder: The calibrated bundle; it is replaced.
        split: The rows it was trained and calibrated on.
        candles: Those of the same snapshot.
        threads: Threads to use; they do not change the result.

    Raises:
        BundleError: there is no whole bundle in the folder.
        HomeNotWritableError: the bundle cannot be replaced.
    """
    found = add_uncertainty(ModelBundle.load(bundle_folder), split, candles, threads)
    found = replace(found, bundle=add_novelty(found.bundle, split))
    found.bundle.save(bundle_folder)
    if found.report is None:
        registry.log(run_id, tags={"uncertainty": f"absent: {found.absent}"})
        return found
    registry.log(
        run_id,
        metrics=uncertainty_figures(found.report),
        tags={"uncertainty": FITTED},
        files={"uncertainty/report.json": found.report.model_dump_json(indent=2)},
    )
    return found


def uncertainty_figures(report: UncertaintyReport) -> dict[str, float]:
    """The figures worth comparing between models: QLIKE beside HAR-RV and EWMA, coverage beside its level."""
    return {
        **{f"test_volatility_qlike_{name}": loss for name, loss in report.qlike.items()},
        "volatility_rounds": float(report.rounds),
        "interval_level": report.level,
        "test_interval_coverage": report.coverage["test"].coverage,
        "test_interval_coverage_worst_week": report.coverage["test"].worst_week.coverage,
        "test_kept_interval_coverage": report.kept_coverage,
    }


def uncertainty_metadata(found: UncertainModel | None) -> dict[str, float | str]:
    """The same figures, or why there are none, for the catalogue of assets."""
    if found is None or found.report is None:
        return {"uncertainty": "not fitted" if found is None else f"absent: {found.absent}"}
    return {"uncertainty": FITTED, **uncertainty_figures(found.report)}
