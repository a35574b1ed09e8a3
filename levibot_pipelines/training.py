"""Train one family on a snapshot, with everything it found in its MLflow run.

The training itself is the work of `levibot_core.models.candidate` and `levibot_core.models.tft.candidate`; the assets
are in `levibot_pipelines.defs.training`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from levibot_core.models.base_rate import fit_base_rate
from levibot_core.models.bundle import BundleIdentity
from levibot_core.models.candidate import Candidate, train_candidate
from levibot_core.models.metrics import log_losses
from levibot_core.models.predictors import TFT
from levibot_core.models.tft.candidate import missing_libraries, train_transformer_candidate
from levibot_core.models.tft.plots import loss_curve_png
from levibot_core.models.tuning import FIGURES, TuningResult
from levibot_core.models.tuning_plots import tuning_plots
from levibot_core.stores.snapshot_manifest import SnapshotManifest
from levibot_core.validation.split import SplitResult, chronological_split
from levibot_pipelines.provenance import code_version
from levibot_pipelines.rebuilding import log_recipe
from levibot_pipelines.references import CandidateReference
from levibot_pipelines.registration import bundle_identity
from levibot_pipelines.registry import ModelRegistry
from levibot_pipelines.trial_runs import TrialRun
from levibot_pipelines.workspace import Workspace

_TRIAL_METRICS = {
    "log_loss": "validation_log_loss",
    "profit_weighted_log_loss": "validation_profit_weighted_log_loss",
    "sharpe_per_day": "validation_sharpe_per_day",
    "rounds": "rounds",
}


@dataclass(frozen=True, slots=True)
class FamilyTraining:
    """One finished training: where it is, what came out, its train rows, and its plots by name."""

    reference: CandidateReference
    candidate: Candidate
    train_rows: int
    plots: Mapping[str, bytes]


def train_family(
    workspace: Workspace, family: str, snapshot_id: str, dagster_run_id: str, say: Callable[[str], None]
) -> FamilyTraining:
    """Tune and train a family in an MLflow run of its own, with one run per trial below it.

    Raises:
        LevibotError: the snapshot cannot be read or learnt from; nothing is registered, and the run is marked failed.
    """
    snapshot = workspace.snapshots.load(snapshot_id)
    split = chronological_split(snapshot.rows)
    registry, identity = workspace.registry, bundle_identity(workspace, snapshot.manifest)
    registry.close_abandoned_runs()
    tags = {"snapshot_id": snapshot_id, "dagster/run_id": dagster_run_id, "family": family}
    with registry.closing(registry.start_run(f"{family} {snapshot_id}", tags, family)) as run_id:
        registry.log_snapshot(run_id, snapshot.manifest)
        train = _transformer if family == TFT else _boosted
        candidate, plots = train(workspace, family, split, identity, say)
        folder = workspace.home.models / run_id
        candidate.save(folder)
        _log(registry, run_id, candidate, snapshot.manifest, plots)
        log_recipe(workspace, run_id, candidate, snapshot.manifest)
    reference = CandidateReference(run_id=run_id, snapshot_id=snapshot_id, family=family, folder=folder)
    return FamilyTraining(reference, candidate, split.train.height, plots)


def why_left_out(workspace: Workspace, family: str) -> str | None:
    """Why a family is not trained in this home, in words; None where it is."""
    if family not in workspace.settings.families:
        return f"LEVIBOT_FAMILIES names {', '.join(workspace.settings.families)} alone"
    if family == TFT and (workspace.settings.triple_barrier or workspace.settings.sample_weights != "none"):
        return (
            "it learns quantiles of the return over the horizon, from rows that all count the same: neither triple "
            "barriers nor sample weights apply to it"
        )
    if family == TFT and (missing := missing_libraries()):
        return (
            f"{', '.join(missing)} cannot be found. `pip install 'levibot-platform[deep]'` installs what it is "
            "trained with; serving it needs none of that"
        )
    return None


def no_candidate(workspace: Workspace, family: str, snapshot_id: str, reason: str) -> CandidateReference:
    """The reference of a family that is not trained."""
    return CandidateReference(
        run_id="", snapshot_id=snapshot_id, family=family, folder=workspace.home.models, left_out=reason
    )


def _boosted(
    workspace: Workspace, family: str, split: SplitResult, identity: BundleIdentity, say: Callable[[str], None]
) -> tuple[Candidate, dict[str, bytes]]:
    candidate = train_candidate(
        split,
        identity,
        family,
        workspace.profile,
        workspace.settings.threads,
        workspace.trial_store,
        on_trial=lambda *progress: say(_trial_line(*progress)),
    )
    return candidate, tuning_plots(candidate.tuning, _base_rate_loss(split), family)


def _transformer(
    workspace: Workspace, family: str, split: SplitResult, identity: BundleIdentity, say: Callable[[str], None]
) -> tuple[Candidate, dict[str, bytes]]:
    say("loading PyTorch")
    candidate, epochs = train_transformer_candidate(
        split,
        identity,
        workspace.profile,
        workspace.settings.threads,
        workspace.trial_store,
        on_epoch=lambda report: say(
            f"epoch {report.epoch}/{report.epochs}: quantile loss {report.validation_loss:.5f}, "
            f"in training {report.train_loss:.5f}"
        ),
    )
    curve = loss_curve_png(epochs, candidate.tuning.best_rounds, f"Training of {family}")
    return candidate, {"loss_curve": curve}


def _log(
    registry: ModelRegistry, run_id: str, trained: Candidate, snapshot: SnapshotManifest, plots: Mapping[str, bytes]
) -> None:
    tuning = trained.tuning
    best = tuning.best_trial
    registry.log(
        run_id,
        params={
            **tuning.best_parameters,
            "family": trained.family,
            "rounds": tuning.best_rounds,
            "profile": trained.profile.name,
            "seed": trained.identity.seed,
            "snapshot_id": snapshot.snapshot_id,
            "feature_set": snapshot.feature_set,
            "horizon_bars": snapshot.horizon_bars,
        },
        metrics={
            "trials": tuning.trials.height,
            "pruned": tuning.pruned,
            **{shown: best[name] for name, shown in _TRIAL_METRICS.items()},
        },
        tags={"code_version": code_version(), "source_kind": snapshot.source.kind},
        files={
            **{f"plots/{name}.png": png for name, png in plots.items()},
            "snapshot.json": snapshot.model_dump_json(indent=2),
            "parameter_importances.json": json.dumps(tuning.importances, indent=2),
        },
    )
    registry.log_trials(run_id, trial_runs(tuning))


def trial_runs(tuning: TuningResult) -> list[TrialRun]:
    """The trials of a search as MLflow shows them."""
    runs = []
    for trial in tuning.trials.iter_rows(named=True):
        ended_ms = int(trial["finished_at"].timestamp() * 1000)
        runs.append(
            TrialRun(
                name=f"trial {trial['trial']}",
                started_ms=ended_ms - int(trial["seconds"] * 1000),
                ended_ms=ended_ms,
                params={name: str(value) for name, value in trial.items() if name not in FIGURES},
                metrics={shown: float(trial[name]) for name, shown in _TRIAL_METRICS.items()},
                tags={"state": trial["state"], "study": tuning.study_name, "trial": str(trial["number"])},
            )
        )
    return runs


def _trial_line(done: int, total: int, value: float | None, best: float) -> str:
    found = "pruned" if value is None else f"log loss {value:.5f}"
    return f"trial {done}/{total}: {found}, best {best:.5f}"


def _base_rate_loss(split: SplitResult) -> float:
    base_rate = fit_base_rate(split.train["label"].to_numpy())
    labels = split.validation["label"].to_numpy()
    return float(log_losses(np.full(labels.size, base_rate), labels).mean())
