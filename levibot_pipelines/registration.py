"""Put models into a home's registry: the base rate as its first version, and candidates with their provenance.

What a bundle is belongs to `levibot_core.models`; how MLflow stores it, to `levibot_pipelines.registry`.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from levibot_core.backtest.metrics import BacktestSummary
from levibot_core.models.base_rate import base_rate_bundle
from levibot_core.models.bundle import BundleIdentity, BundleManifest
from levibot_core.models.candidate import BUNDLE, CalibratedCandidate, Candidate
from levibot_core.stores.snapshot_manifest import SnapshotManifest
from levibot_pipelines.provenance import code_version
from levibot_pipelines.references import BacktestReference, ModelReference
from levibot_pipelines.registry import CHAMPION, ModelRegistry
from levibot_pipelines.workspace import Workspace

NO_SNAPSHOT = NO_SOURCE = "none"


def bundle_identity(workspace: Workspace, snapshot: SnapshotManifest | None) -> BundleIdentity:
    """What a bundle trained on a snapshot (or on nothing yet) says about itself."""
    settings = workspace.settings
    return BundleIdentity(
        model_name=settings.model_name,
        timeframe=settings.timeframe,
        horizon_bars=settings.horizon_bars,
        symbols=snapshot.symbols if snapshot else settings.symbols,
        feature_set=workspace.feature_set.version,
        features=workspace.feature_set.names,
        snapshot_id=snapshot.snapshot_id if snapshot else NO_SNAPSHOT,
        source_kind=snapshot.source.kind if snapshot else NO_SOURCE,
        created_at=datetime.now(UTC),
        seed=settings.seed,
    )


def version_tags(manifest: BundleManifest, reasons: list[str]) -> dict[str, str]:
    """The tags that every registered version carries."""
    return {
        "family": manifest.family,
        "snapshot_id": manifest.snapshot_id,
        "source_kind": manifest.source_kind,
        "feature_set": manifest.feature_set,
        "code_version": code_version(),
        **trading_tags(reasons),
    }


def trading_tags(reasons: list[str]) -> dict[str, str]:
    """Tags that say whether engines may act on a version; any reason against it makes it not tradable."""
    return {"tradable": "false" if reasons else "true", "reasons": json.dumps(reasons)}


def ensure_base_rate(
    workspace: Workspace, snapshot: SnapshotManifest | None = None, labels: np.ndarray | None = None
) -> int | None:
    """Make the base rate the champion of a home that has none; return its version, or None when there was one.

    Args:
        workspace: The home.
        snapshot: Where `labels` come from; None in a home without data.
        labels: 1 for a rise, else 0, shape (n,). Without them the base rate is 0.5.
    """
    registry = workspace.registry
    if registry.by_alias(CHAMPION) is not None:
        return None
    version = next((found.version for found in registry.versions() if found.family == "base_rate"), None)
    if version is None:
        bundle = base_rate_bundle(bundle_identity(workspace, snapshot), labels)
        folder = workspace.home.models / "base_rate"
        bundle.save(folder)
        with registry.closing(registry.start_run("base_rate", {"snapshot_id": bundle.manifest.snapshot_id})) as run_id:
            reasons = ["it is the base rate: it knows how often prices rose, and nothing about now"]
            version = registry.register(
                run_id, folder, "How often prices rose in the training rows.", version_tags(bundle.manifest, reasons)
            )
    registry.promote(version, actor="levibot", reason="a registry is never empty: the base rate is the first champion")
    return version


def log_training(
    registry: ModelRegistry, run_id: str, trained: Candidate, snapshot: SnapshotManifest, history_png: bytes
) -> None:
    """Log what a training was given and found: parameters, provenance, trials and their plot."""
    tuning = trained.tuning
    registry.log(
        run_id,
        params={
            **tuning.best_parameters,
            "rounds": tuning.best_rounds,
            "profile": trained.profile.name,
            "seed": trained.identity.seed,
            "snapshot_id": snapshot.snapshot_id,
            "feature_set": snapshot.feature_set,
            "horizon_bars": snapshot.horizon_bars,
        },
        metrics={"validation_log_loss_uncalibrated": tuning.best_value, "trials": tuning.trials.height},
        tags={"code_version": code_version(), "source_kind": snapshot.source.kind},
        files={"plots/tuning_history.png": history_png, "snapshot.json": snapshot.model_dump_json(indent=2)},
    )


def register_candidate(
    registry: ModelRegistry, run_id: str, folder: Path, calibrated: CalibratedCandidate, plots: Mapping[str, bytes]
) -> int:
    """Log a calibrated candidate's figures and plots, and register its bundle; return the version.

    It is not tradable until it was backtested and judged.
    """
    report = calibrated.report
    registry.log(
        run_id,
        params={"calibration": report.method},
        metrics={f"{part}_{name}": value for part, scores in report.metrics.items() for name, value in scores.items()},
        files={f"plots/{name}.png": png for name, png in plots.items()},
    )
    reasons = ["it was not judged yet"]
    test = report.metrics["test"]
    metrics = {
        "log_loss": test["log_loss"],
        "base_rate_log_loss": report.base_rate_log_loss["test"],
        **{name: test[name] for name in ("auc", "pr_auc", "accuracy", "brier", "ece")},
    }
    return registry.register(
        run_id,
        folder / BUNDLE,
        f"Candidate trained on {calibrated.bundle.manifest.snapshot_id}.",
        {**version_tags(calibrated.bundle.manifest, reasons), "metrics": json_tag(rounded(metrics))},
    )


def json_tag(value: Any) -> str:
    """A value as a compact tag."""
    return json.dumps(value, separators=(",", ":"), default=str)


def rounded(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Metrics that are defined, at six significant digits: tags are for reading, the exact figures are on the card."""
    return {name: float(f"{value:.6g}") for name, value in metrics.items() if value is not None}


def reasons_of_provenance(manifest: BundleManifest) -> tuple[str, ...]:
    """Why a model may not be traded whatever it earned: it never saw a real market."""
    if manifest.source_kind in ("exchange", "recorded"):
        return ()
    return (f"it was trained on a market of kind {manifest.source_kind!r}, which is never tradable",)


def log_backtest(
    registry: ModelRegistry, model: ModelReference, summary: BacktestSummary, backtest: BacktestReference
) -> None:
    """Log a backtest to the model's run, and let it decide whether the version is tradable."""
    strategy = summary.strategy.model_dump()
    figures = {name: value for name, value in strategy.items() if isinstance(value, int | float)}
    registry.log(
        model.run_id,
        metrics={f"backtest_{name}": float(value) for name, value in figures.items()},
        files={
            "backtest/report.html": backtest.html.read_text("utf-8"),
            "backtest/report.json": backtest.json_file.read_text("utf-8"),
        },
    )
    known = dict(registry.version(model.version).metrics)
    shown = {
        "net_return": summary.strategy.total_return,
        "buy_and_hold_return": summary.buy_and_hold.total_return,
        "sharpe": summary.strategy.sharpe,
        "trades": summary.strategy.trades,
    }
    registry.annotate(
        model.version,
        {"metrics": json_tag({**known, **rounded(shown)}), **trading_tags(list(backtest.reasons_against_trading))},
    )
