"""Recipes of registered versions, and rebuilding a version from its recipe: what is logged where.

Training again and comparing is the work of `levibot_core.models.rebuild`.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl

from levibot_core.errors import RegistryError
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.candidate import Candidate
from levibot_core.models.ensemble_bundle import MEMBER_PREFIX, members_of
from levibot_core.models.ensemble_rebuild import MemberRecipes, rebuild_ensemble
from levibot_core.models.predictors import BASE_RATE, ENSEMBLE
from levibot_core.models.rebuild import RebuildReport, Scope, rebuild, rebuild_base_rate
from levibot_core.models.recipe import RECIPE, TRIAL_TABLE, Recipe, read_recipe, trials_digest
from levibot_core.stores.files import append_json_line
from levibot_core.stores.snapshot_manifest import SnapshotManifest
from levibot_pipelines.provenance import current_environment
from levibot_pipelines.registration import NO_SNAPSHOT, json_tag
from levibot_pipelines.registry import ModelRegistry, RegisteredVersion
from levibot_pipelines.workspace import Workspace

REBUILD_TAG = "rebuild"
_FOLDER = "recipe"
_DIGITS = 12


def log_recipe(workspace: Workspace, run_id: str, trained: Candidate, snapshot: SnapshotManifest) -> Recipe:
    """Keep everything a training was given with its run, so that whoever has the run can do it again."""
    tuning = trained.tuning
    recipe = Recipe(
        identity=trained.identity,
        family=trained.family,
        parameters=dict(tuning.best_parameters),
        rounds=tuning.best_rounds,
        profile=trained.profile,
        threads=workspace.settings.threads,
        snapshot=snapshot,
        environment=current_environment(),
        study_name=tuning.study_name,
        validation_log_loss=tuning.best_value,
        resumed=tuning.resumed,
        trials=tuning.trials.height,
        trials_digest=trials_digest(tuning.trials),
    )
    table = io.BytesIO()
    tuning.trials.write_parquet(table)
    files: dict[str, bytes | str] = {RECIPE: recipe.text(), TRIAL_TABLE: table.getvalue()}
    workspace.registry.log(run_id, files={f"{_FOLDER}/{name}": content for name, content in files.items()})
    return recipe


def logged_recipe(workspace: Workspace, version: RegisteredVersion) -> tuple[Recipe, pl.DataFrame]:
    """The recipe of a registered version and its table of finished trials.

    Raises:
        RegistryError: its run holds none.
        BundleError: the recipe cannot be read.
    """
    files = workspace.registry.logged_files(version.run_id, _FOLDER)
    if not {RECIPE, TRIAL_TABLE} <= set(files):
        raise RegistryError(
            f"Expected {RECIPE} and {TRIAL_TABLE} in the run of version {version.version}, was without: it was trained "
            "by an earlier version of the platform. Train the model again."
        )
    return read_recipe(files[RECIPE]), pl.read_parquet(io.BytesIO(files[TRIAL_TABLE]))


def log_member_recipes(registry: ModelRegistry, run_id: str, members: Mapping[str, str]) -> None:
    """Keep the recipes of an ensemble's members with its own run; `members` is name to the run of a member."""
    kept: dict[str, bytes | str] = {}
    for name, member_run in members.items():
        files = registry.logged_files(member_run, _FOLDER)
        kept |= {f"{_FOLDER}/{MEMBER_PREFIX}{name}.{file}": content for file, content in files.items()}
    registry.log(run_id, files=kept)


def logged_member_recipes(workspace: Workspace, version: RegisteredVersion, bundle: ModelBundle) -> MemberRecipes:
    """The recipes and trials of the members of a registered ensemble.

    Raises:
        RegistryError: its run lacks some.
        BundleError: a recipe cannot be read.
    """
    files = workspace.registry.logged_files(version.run_id, _FOLDER)
    try:
        return {
            name: (
                read_recipe(files[f"{MEMBER_PREFIX}{name}.{RECIPE}"]),
                pl.read_parquet(io.BytesIO(files[f"{MEMBER_PREFIX}{name}.{TRIAL_TABLE}"])),
            )
            for name in members_of(bundle)
        }
    except KeyError as error:
        raise RegistryError(
            f"Expected recipe and trials of every member in the run of version {version.version}, was without {error}. "
            "Train the model again."
        ) from error


def rebuild_version(workspace: Workspace, version: int, scope: Scope = "winner") -> RebuildReport:
    """Make a registered version again in a clean folder; tag the version with the outcome and log it for good.

    Raises:
        RegistryError: there is no such version, or it has no recipe.
        BundleError, SnapshotError, ConfigurationError: it cannot be tried; see `levibot_core.models.rebuild`.
    """
    registry = workspace.registry
    found = registry.version(version)
    bundle = registry.load_bundle(version)
    if bundle.manifest.family == BASE_RATE:
        snapshot_id = bundle.manifest.snapshot_id
        report = rebuild_base_rate(
            bundle, None if snapshot_id == NO_SNAPSHOT else workspace.snapshots.load(snapshot_id)
        )
    else:
        recipe, trials = logged_recipe(workspace, found)
        stores, now = (workspace.snapshots, workspace.lake), current_environment()
        with TemporaryDirectory(dir=workspace.home.root, prefix=".rebuild-") as folder:
            if bundle.manifest.family == ENSEMBLE:
                members = logged_member_recipes(workspace, found, bundle)
                report = rebuild_ensemble(bundle, recipe, trials, members, *stores, now, Path(folder), scope)
            else:
                report = rebuild(bundle, recipe, trials, *stores, now, Path(folder), scope)
    report = report.model_copy(update={"version": version})
    _keep(workspace, report)
    return report


def rebuild_log(workspace: Workspace) -> Path:
    """Every rebuild ever tried in this home, one JSON record a line; only ever added to."""
    return workspace.home.logs / "rebuilds.jsonl"


def _keep(workspace: Workspace, report: RebuildReport) -> None:
    """The log first, the tag that the promotion gate looks at last."""
    record = {"model": workspace.settings.model_name, **report.model_dump(mode="json")}
    append_json_line(rebuild_log(workspace), record)
    shown = {
        "identical": report.identical,
        "seconds": round(report.seconds, 2),
        "scope": report.scope,
        "at": report.at.isoformat(timespec="seconds"),
        "found": {name: digest[:_DIGITS] for name, digest in report.found.items()},
        "mismatches": [mismatch[:200] for mismatch in report.mismatches[:5]],
    }
    workspace.registry.annotate(report.version or 0, {REBUILD_TAG: json_tag(shown)})
