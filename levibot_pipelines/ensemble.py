"""The ensemble of a snapshot's candidates: made, judged against its best member, and kept with what was found.

The work itself is `levibot_core.models.ensemble_candidate`'s; the asset is in `levibot_pipelines.defs.calibration`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from levibot_core.errors import DataQualityError
from levibot_core.models.candidate import Candidate
from levibot_core.models.ensemble_candidate import EnsembleVerdict, fit_ensemble, judge_ensemble
from levibot_core.models.ensemble_folds import Member
from levibot_core.models.ensemble_plots import ensemble_png
from levibot_core.models.predictors import ENSEMBLE
from levibot_core.models.retraining import training_of
from levibot_core.stores.snapshots import Snapshot
from levibot_core.validation.split import SplitResult, chronological_split
from levibot_pipelines.provenance import code_version
from levibot_pipelines.rebuilding import log_member_recipes, log_recipe
from levibot_pipelines.references import CandidateReference, EnsembleReference
from levibot_pipelines.registration import ENSEMBLE_TAG, CalibratedFamily, calibrate_family
from levibot_pipelines.workspace import Workspace


@dataclass(frozen=True, slots=True)
class EnsembleOutcome:
    """Where the ensemble is, whether it is taken, and its plots by name; no verdict where none could be made."""

    reference: EnsembleReference
    members: Sequence[CalibratedFamily]
    verdict: EnsembleVerdict | None
    plots: Mapping[str, bytes]

    @property
    def figures(self) -> dict[str, float]:
        """The figures worth comparing between runs; none without a verdict."""
        return {} if self.verdict is None else verdict_figures(self.verdict)


def make_ensemble(
    workspace: Workspace, candidates: Sequence[CandidateReference], dagster_run_id: str
) -> EnsembleOutcome:
    """Calibrate every family, combine them, and say whether that is worth more than the best of them.

    An ensemble that cannot be made, as there are too few rows or only one member, is no error: the reason is kept.

    Args:
        workspace: The home.
        candidates: Of one snapshot, at least one.
        dagster_run_id: Whose work this is.

    Raises:
        LevibotError: a candidate cannot be read or calibrated.
    """
    snapshot = workspace.snapshots.load(candidates[0].snapshot_id)
    split = chronological_split(snapshot.rows)
    trained = [candidate for candidate in candidates if candidate.left_out is None]
    families = [calibrate_family(workspace.registry, candidate, split) for candidate in trained]
    combined = [family for family in families if _may_be_combined(workspace, family.reference.family)]
    if len(combined) < 2:
        return _without(families, "there is one family alone, and nothing to combine it with")
    registry, snapshot_id = workspace.registry, snapshot.manifest.snapshot_id
    tags = {"snapshot_id": snapshot_id, "dagster/run_id": dagster_run_id, "family": ENSEMBLE}
    with registry.closing(registry.start_run(f"{ENSEMBLE} {snapshot_id}", tags, ENSEMBLE)) as run_id:
        registry.log_snapshot(run_id, snapshot.manifest)
        try:
            return _fitted(workspace, run_id, families, combined, snapshot, split)
        except DataQualityError as error:
            registry.log(run_id, tags={ENSEMBLE_TAG: f"no ensemble could be made: {error}"})
            return _without(families, f"no ensemble could be made: {error}")


def verdict_figures(verdict: EnsembleVerdict) -> dict[str, float]:
    """Weights and log losses of an ensemble and its members, by name."""
    return {
        "ensemble_test_log_loss": verdict.log_loss.value,
        "ensemble_against_best_member": verdict.against_best.value,
        "ensemble_against_best_member_upper_95": verdict.against_best.upper_95,
        **{f"weight_{member.name}": member.weight for member in verdict.members},
        **{f"{member.name}_test_log_loss": member.log_loss.value for member in verdict.members},
    }


def _may_be_combined(workspace: Workspace, family: str) -> bool:
    """Every member is trained on three more folds: in the profile `fast`, only of families whose training is cheap."""
    return workspace.profile.name != "fast" or training_of(family).cheap


def _fitted(
    workspace: Workspace,
    run_id: str,
    families: Sequence[CalibratedFamily],
    combined: Sequence[CalibratedFamily],
    snapshot: Snapshot,
    split: SplitResult,
) -> EnsembleOutcome:
    registry = workspace.registry
    members = {
        family.reference.family: Member(Candidate.load(family.reference.folder), family.calibrated.bundle)
        for family in combined
    }
    candidate = fit_ensemble(members, split, workspace.settings.threads, workspace.trial_store.ledger)
    snapshot_id, folder = snapshot.manifest.snapshot_id, workspace.home.models / run_id
    candidate.save(folder)
    reference = CandidateReference(run_id=run_id, snapshot_id=snapshot_id, family=ENSEMBLE, folder=folder)
    found = calibrate_family(registry, reference, split)
    verdict = judge_ensemble(found.calibrated.bundle, split)
    log_recipe(workspace, run_id, candidate, snapshot.manifest)
    log_member_recipes(registry, run_id, {family.reference.family: family.reference.run_id for family in combined})
    plots = {**found.plots, "ensemble": ensemble_png(verdict)}
    registry.log(
        run_id,
        params={"family": ENSEMBLE, "method": verdict.method, "profile": candidate.profile.name},
        metrics=verdict_figures(verdict),
        tags={ENSEMBLE_TAG: verdict.reason, "code_version": code_version()},
        files={"plots/ensemble.png": plots["ensemble"], "ensemble.json": verdict.model_dump_json(indent=2)},
    )
    outcome = EnsembleReference(
        members=tuple(family.reference for family in families),
        candidate=reference,
        taken=verdict.taken,
        reason=verdict.reason,
        verdict=verdict.model_dump_json(),
    )
    return EnsembleOutcome(outcome, families, verdict, plots)


def _without(families: Sequence[CalibratedFamily], reason: str) -> EnsembleOutcome:
    reference = EnsembleReference(
        members=tuple(family.reference for family in families), candidate=None, taken=False, reason=reason
    )
    return EnsembleOutcome(reference, families, None, {})
