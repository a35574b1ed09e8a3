"""Collect what a model card shows: from the snapshot, the stage results and two measurements made here and now.

Laying the card out is `levibot_core.models.card`'s work.
"""

from levibot_core.models.bundle import ModelBundle
from levibot_core.models.candidate import BUNDLE, Candidate, load_report
from levibot_core.models.card import (
    CardInputs,
    LatencySummary,
    Provenance,
    library_versions,
    part_summaries,
    tuning_summary,
)
from levibot_core.models.latency import TIMED_CALLS, WARM_UP_CALLS, measure_latency
from levibot_core.stores.snapshots import Snapshot
from levibot_core.stores.training_rows import read_inputs
from levibot_core.validation.attack.trained import TrainedModel
from levibot_core.validation.leak_report import LeakReport
from levibot_core.validation.leakage import check_leakage
from levibot_core.validation.split import SplitResult, chronological_split
from levibot_pipelines.provenance import code_version
from levibot_pipelines.references import ModelReference
from levibot_pipelines.workspace import Workspace


def collect_card_inputs(workspace: Workspace, model: ModelReference) -> CardInputs:
    """Everything on the card of a registered candidate; attacks the training and times predictions on the way."""
    snapshot = workspace.snapshots.load(model.snapshot_id)
    manifest = snapshot.manifest
    split = chronological_split(snapshot.rows)
    bundle = ModelBundle.load(model.folder / BUNDLE)
    trained = Candidate.load(model.folder)
    report = load_report(model.folder)
    return CardInputs(
        manifest=bundle.manifest,
        version=model.version,
        parts=part_summaries(split),
        report=report,
        leakage=_attack(workspace, snapshot, split, TrainedModel(bundle, report.base_rate)),
        latency=_latency(bundle, snapshot),
        tuning=tuning_summary(trained.tuning, trained.profile.name),
        provenance=Provenance(
            source_key=manifest.source.key,
            venue=manifest.source.venue,
            source_description=manifest.source.description,
            snapshot_checksum=manifest.checksum,
            features_sha256=manifest.features_sha256,
            code_version=code_version(),
            libraries=library_versions(),
        ),
    )


def _attack(workspace: Workspace, snapshot: Snapshot, split: SplitResult, trained: TrainedModel) -> LeakReport:
    manifest = snapshot.manifest
    as_of_ms = int(manifest.as_of.timestamp() * 1000)
    inputs = read_inputs(
        workspace.lake,
        source_key=manifest.source.key,
        market=manifest.market,
        timeframe=manifest.timeframe,
        symbols=manifest.symbols,
        as_of_ms=as_of_ms,
    )
    return check_leakage(
        inputs.candles,
        inputs.funding,
        workspace.feature_set,
        workspace.timeframe,
        manifest.horizon_bars,
        split,
        workspace.settings.seed,
        trained=trained,
        fear_greed=inputs.fear_greed,
    )


def _latency(bundle: ModelBundle, snapshot: Snapshot) -> LatencySummary:
    row = snapshot.rows.row(-1, named=True)
    symbol, values = row["symbol"], {name: row[name] for name in bundle.manifest.features}
    percentiles = measure_latency(lambda: bundle.predict(bundle.matrix_row(symbol, values)))
    return LatencySummary(warm_up=WARM_UP_CALLS, timed=TIMED_CALLS, **percentiles)
