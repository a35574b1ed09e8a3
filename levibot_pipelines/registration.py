"""Put models into a home's registry: the base rate as its first version, and candidates with their provenance.

What a bundle is belongs to `levibot_core.models`; how MLflow stores it, to `levibot_pipelines.registry`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import polars as pl

from levibot_core.backtest.metrics import BacktestSummary
from levibot_core.errors import SnapshotError
from levibot_core.labels.definition import label_definition
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.base_rate import base_rate_bundle
from levibot_core.models.block_bootstrap import BlockBootstrap
from levibot_core.models.bundle import BundleIdentity, BundleManifest, ModelBundle
from levibot_core.models.candidate import BUNDLE, CalibratedCandidate, Candidate, calibrate_candidate, load_report
from levibot_core.models.metric_intervals import ReliabilityBand, reliability_band
from levibot_core.models.plots import importance_png, reliability_png
from levibot_core.models.predictors import BASE_RATE, TFT
from levibot_core.models.row_forecasts import predict_rows, split_with_windows
from levibot_core.models.uncertainty_fitting import UncertainModel
from levibot_core.registry.champions import promote
from levibot_core.stores.files import write_bytes_atomically
from levibot_core.stores.snapshot_manifest import SnapshotManifest
from levibot_core.stores.snapshots import Snapshot
from levibot_core.validation.split import SplitResult, chronological_split
from levibot_pipelines.provenance import code_version
from levibot_pipelines.references import BacktestReference, CandidateReference, EnsembleReference, ModelReference
from levibot_pipelines.registry import CHAMPION, ModelRegistry
from levibot_pipelines.uncertainty import fit_and_log_uncertainty
from levibot_pipelines.workspace import Workspace

NO_SNAPSHOT = NO_SOURCE = "none"
ENSEMBLE_TAG, VERDICT_TAG = "ensemble", "ensemble_verdict"
_PLOTS = ("reliability", "importance")


def bundle_identity(workspace: Workspace, snapshot: SnapshotManifest | None) -> BundleIdentity:
    """What a bundle trained on a snapshot (or on nothing yet) says about itself.

    Raises:
        SnapshotError: the snapshot's labels are not those of the settings.
    """
    settings = workspace.settings
    if snapshot is not None and snapshot.label != label_definition(settings.label_bars, settings.triple_barrier):
        raise SnapshotError(
            f"Expected labels of the model {settings.model_name} in snapshot {snapshot.snapshot_id}, was "
            f"{snapshot.label!r}. Materialise feature_store/training_snapshot with these settings first."
        )
    return BundleIdentity(
        model_name=settings.model_name,
        timeframe=settings.timeframe,
        horizon_bars=settings.label_bars,
        symbols=snapshot.symbols if snapshot else settings.symbols,
        feature_set=workspace.feature_set.version,
        features=workspace.feature_set.names,
        snapshot_id=snapshot.snapshot_id if snapshot else NO_SNAPSHOT,
        source_kind=snapshot.source.kind if snapshot else NO_SOURCE,
        created_at=datetime.now(UTC),
        seed=settings.seed,
        triple_barrier=settings.triple_barrier,
        sample_weights=settings.sample_weights,
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
    workspace: Workspace, snapshot: SnapshotManifest | None = None, train: pl.DataFrame | None = None
) -> int | None:
    """Make the base rate the champion of a home that has none; return its version, or None when there was one.

    Args:
        workspace: The home.
        snapshot: Where `train` comes from; None in a home without data.
        train: Training rows with symbol, features and label. Without them the base rate is 0.5.
    """
    registry = workspace.registry
    if registry.by_alias(CHAMPION) is not None:
        return None
    version = next((found.version for found in registry.versions() if found.family == BASE_RATE), None)
    if version is None:
        labels = None if train is None else train["label"].to_numpy()
        bundle = base_rate_bundle(bundle_identity(workspace, snapshot), labels)
        folder = workspace.home.models / BASE_RATE
        bundle.save(folder)
        tags = {"snapshot_id": bundle.manifest.snapshot_id, "family": BASE_RATE}
        with registry.closing(registry.start_run(BASE_RATE, tags, BASE_RATE)) as run_id:
            if snapshot is not None:
                registry.log_snapshot(run_id, snapshot)
            event = "prices rose" if bundle.manifest.triple_barrier is None else "profits were reached first"
            reasons = [f"it is the base rate: it knows how often {event}, and nothing about now"]
            about = f"How often {event} in the training rows."
            version = registry.register(run_id, folder, about, version_tags(bundle.manifest, reasons), train)
    promote(registry, version, actor="levibot", reason="a registry is never empty: the base rate is the first champion")
    return version


@dataclass(frozen=True, slots=True)
class CalibratedFamily:
    """One family's candidate, calibrated and scored, and its plots by name; the chosen one with its optional parts."""

    reference: CandidateReference
    calibrated: CalibratedCandidate
    plots: Mapping[str, bytes]
    uncertainty: UncertainModel | None = None

    @property
    def validation_log_loss(self) -> float:
        """On the validation rows, calibrated, nats."""
        return self.calibrated.report.metrics["validation"]["log_loss"]


def calibrate_family(registry: ModelRegistry, candidate: CandidateReference, split: SplitResult) -> CalibratedFamily:
    """Calibrate a candidate, and leave what was measured in its folder and its MLflow run."""
    trained = Candidate.load(candidate.folder)
    calibrated = calibrate_candidate(trained, split)
    calibrated.save(candidate.folder)
    test = split_with_windows(trained.identity, split).test
    report = calibrated.report
    title = f"Reliability of {candidate.family} on the test rows"
    gains = {item.feature: item.gain_share for item in report.importance}
    what = "Mean selection weight" if candidate.family == TFT else "Share of total gain"
    plots = {
        "reliability": reliability_png(
            report.reliability, calibrated.test_probabilities, report.base_rate, title, _band(calibrated, test)
        ),
        "importance": importance_png(gains, f"What {candidate.family} looks at", what=what),
    }
    for name, png in plots.items():
        write_bytes_atomically(candidate.folder / f"{name}.png", png)
    registry.log(
        candidate.run_id,
        params={"calibration": report.method},
        metrics={f"{part}_{name}": value for part, scores in report.metrics.items() for name, value in scores.items()},
        files={f"plots/{name}.png": png for name, png in plots.items()},
    )
    return CalibratedFamily(candidate, calibrated, plots)


def calibrated_family(candidate: CandidateReference, split: SplitResult) -> CalibratedFamily:
    """What `calibrate_family` left in the folder of a candidate.

    Raises:
        BundleError: its bundle or its report is missing or altered.
    """
    bundle, report = ModelBundle.load(candidate.folder / BUNDLE), load_report(candidate.folder)
    test = split_with_windows(bundle.manifest, split)
    calibrated = CalibratedCandidate(bundle, report, predict_rows(bundle, test.test, test.history))
    plots = {name: (candidate.folder / f"{name}.png").read_bytes() for name in _PLOTS}
    return CalibratedFamily(candidate, calibrated, plots)


def register_best(
    registry: ModelRegistry, ensemble: EnsembleReference, snapshot: Snapshot, threads: int
) -> tuple[CalibratedFamily, ModelReference]:
    """Register the ensemble if it is taken, else the family of the lowest validation log loss; and keep the reason.

    Raises:
        BundleError: what was calibrated is missing or altered.
    """
    split = chronological_split(snapshot.rows)
    families = [calibrated_family(member, split) for member in ensemble.members]
    if not ensemble.taken or ensemble.candidate is None:
        chosen, model = register_lowest_loss(registry, families, split, snapshot.candles, threads)
    else:
        together = calibrated_family(ensemble.candidate, split)
        registry.log(together.reference.run_id, tags={"registered": "yes"})
        for family in families:
            registry.log(family.reference.run_id, tags={"registered": "no"})
        chosen, model = register(registry, together, split, snapshot.candles, threads)
    kept = {ENSEMBLE_TAG: ensemble.reason}
    if ensemble.verdict is not None:
        kept[VERDICT_TAG] = ensemble.verdict
    registry.annotate(model.version, kept)
    for family in families:
        registry.log(family.reference.run_id, tags={ENSEMBLE_TAG: ensemble.reason})
    return chosen, model


def _band(calibrated: CalibratedCandidate, test: pl.DataFrame) -> ReliabilityBand:
    manifest = calibrated.bundle.manifest
    horizon_ms = manifest.horizon_bars * Timeframe.parse(manifest.timeframe).milliseconds
    bootstrap = BlockBootstrap(test["known_at"].dt.epoch("ms").to_numpy(), horizon_ms, manifest.seed)
    return reliability_band(calibrated.test_probabilities, test["label"].to_numpy(), bootstrap)


def register_lowest_loss(
    registry: ModelRegistry,
    families: Sequence[CalibratedFamily],
    split: SplitResult,
    candles: pl.DataFrame,
    threads: int,
) -> tuple[CalibratedFamily, ModelReference]:
    """Register the family of the lowest validation log loss, of equal ones the first; return it and its version.

    It alone is given a volatility head and an interval, fitted on the split and the snapshot's candles.
    """
    chosen = min(families, key=lambda family: family.validation_log_loss)
    for family in families:
        registry.log(family.reference.run_id, tags={"registered": "yes" if family is chosen else "no"})
    return register(registry, chosen, split, candles, threads)


def register(
    registry: ModelRegistry, chosen: CalibratedFamily, split: SplitResult, candles: pl.DataFrame, threads: int
) -> tuple[CalibratedFamily, ModelReference]:
    """Give a calibrated model its optional parts and register it; not tradable until it was backtested and judged."""
    reference = chosen.reference
    uncertain = fit_and_log_uncertainty(registry, reference.run_id, reference.folder / BUNDLE, split, candles, threads)
    chosen = replace(chosen, calibrated=replace(chosen.calibrated, bundle=uncertain.bundle), uncertainty=uncertain)
    report, manifest = chosen.calibrated.report, uncertain.bundle.manifest
    test = report.metrics["test"]
    metrics = {
        "log_loss": test["log_loss"],
        "base_rate_log_loss": report.base_rate_log_loss["test"],
        **{name: test[name] for name in ("auc", "pr_auc", "accuracy", "brier", "ece")},
    }
    version = registry.register(
        reference.run_id,
        reference.folder / BUNDLE,
        f"{manifest.family} candidate trained on {manifest.snapshot_id}.",
        {**version_tags(manifest, ["it was not judged yet"]), "metrics": json_tag(rounded(metrics))},
        example=split.test,
    )
    return chosen, ModelReference(
        version=version, run_id=reference.run_id, snapshot_id=reference.snapshot_id, folder=reference.folder
    )


def json_tag(value: Any) -> str:
    """A value as a compact tag."""
    return json.dumps(value, separators=(",", ":"), default=str)


def rounded(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """Metrics that are defined, at six significant digits: tags are for reading, the exact figures are on the card."""
    return {name: float(f"{value:.6g}") for name, value in metrics.items() if value is not None}


def reasons_of_provenance(manifest: BundleManifest) -> tuple[str, ...]:
    """Why a model may not be traded whatever it earned: what it saw is no real market, or what it says no direction."""
    reasons = []
    if manifest.source_kind not in ("exchange", "recorded"):
        reasons.append(f"it was trained on a market of kind {manifest.source_kind!r}, which is never tradable")
    if manifest.triple_barrier is not None:
        reasons.append("it forecasts which barrier is touched first, which the policy cannot act on: it stays flat")
    return tuple(reasons)


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
