"""The recipe of a model: everything a training was given, kept beside what it found, so that it can be done again.

A recipe is written once, when a candidate is trained, and travels with the registered version. Doing it again is the
work of `levibot_core.models.rebuild`; where recipes are kept, of `levibot_pipelines`.
"""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, Literal

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from levibot_core.config import TrainingProfile
from levibot_core.errors import BundleError
from levibot_core.models.bundle import BundleIdentity
from levibot_core.stores.digest import frame_digest
from levibot_core.stores.snapshot_manifest import SnapshotManifest

RECIPE_FORMAT: Final = "levibot-recipe/1"
RECIPE, TRIAL_TABLE = "recipe.json", "trials.parquet"
# When a trial ran, how long it took, and how many interrupted ones came before are no part of what it found.
_NOT_REPEATABLE = ("seconds", "finished_at", "number")
_LIBRARIES = ("lightgbm", "numpy", "optuna", "polars", "scikit-learn", "scipy")
_WHERE_INSTALLED = ("onnxruntime", "pytorch-forecasting", "torch", "xgboost-cpu")


class Environment(BaseModel):
    """What ran a training: the code, the pinned packages and the versions that were really there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code_version: str = Field(description="Git commit and hash of the sources")
    uncommitted_changes: bool | None = Field(description="None outside a git checkout")
    constraints_sha256: str | None = Field(description="Of constraints.txt; None where it is not installed")
    libraries: dict[str, str] = Field(description="Name to version, Python included")


class Recipe(BaseModel):
    """Content of `recipe.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["levibot-recipe/1"] = RECIPE_FORMAT
    identity: BundleIdentity = Field(description="Seed, features, symbols and what the model says about itself")
    family: str
    parameters: dict[str, bool | int | float | str] = Field(description="Of the winning trial")
    rounds: int = Field(ge=1, description="Rounds (or epochs) at which the winning trial was best")
    profile: TrainingProfile
    threads: int = Field(ge=1)
    snapshot: SnapshotManifest = Field(description="With it the rows can be computed again where their files are gone")
    environment: Environment
    study_name: str
    validation_log_loss: float = Field(description="Of the winning trial, before calibration, nats")
    resumed: int = Field(ge=0, description="Trials that an interrupted run had finished")
    trials: int = Field(ge=1, description="Finished trials of the study")
    trials_digest: str = Field(description="Of the table of finished trials, without their durations")

    def text(self) -> str:
        """The recipe as JSON for people and machines."""
        return self.model_dump_json(indent=2) + "\n"


def read_recipe(content: bytes) -> Recipe:
    """Read what `Recipe.text` wrote.

    Raises:
        BundleError: it is no recipe that this version of the platform understands.
    """
    try:
        return Recipe.model_validate_json(content)
    except ValidationError as error:
        named = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()[:5])
        raise BundleError(f"Expected {RECIPE} to hold a recipe, but {named}. Train the model again.") from error


def trials_digest(trials: pl.DataFrame) -> str:
    """Digest of a table of finished trials, equal for two studies that found the same; times do not count.

    Series that a trial keeps as a list, such as its returns, count to the last bit.
    """
    kept = trials.drop(_NOT_REPEATABLE, strict=False)
    lists = [name for name, dtype in kept.schema.items() if dtype.base_type() is pl.List]
    return frame_digest(kept.with_columns(pl.Series(name, map(json.dumps, kept[name].to_list())) for name in lists))


def check_trials(recipe: Recipe, trials: pl.DataFrame) -> None:
    """Hold a recorded table of trials against the recipe: unaltered, and the winner is one of its rows.

    Raises:
        BundleError: the message says which of the two is not so.
    """
    if (found := trials_digest(trials)) != recipe.trials_digest:
        raise BundleError(
            f"Expected the table of trials to have the digest {recipe.trials_digest[:12]}, was {found[:12]}: altered "
            "after the training. Train the model again."
        )
    if not _contains(trials, recipe.parameters):
        raise BundleError(
            f"Expected the parameters of the recipe among the {trials.height} recorded trials, was none with "
            f"{recipe.parameters}. Train the model again."
        )


def _contains(trials: pl.DataFrame, parameters: Mapping[str, Any]) -> bool:
    if not set(parameters) <= set(trials.columns):
        return False
    same = [pl.col(name) == value for name, value in parameters.items()]
    return not trials.filter(pl.col("state") == "complete", *same).is_empty()


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a training's figures depend on."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _LIBRARIES},
        **{name: found for name in _WHERE_INSTALLED if (found := _version_or_none(name)) is not None},
    }


def environment_differences(then: Environment, now: Environment) -> list[str]:
    """What is not as it was when a model was trained, in words; empty when all is."""
    found = []
    if then.code_version != now.code_version:
        found.append(f"code version: was {then.code_version}, is {now.code_version}")
    if then.uncommitted_changes:
        found.append("code: it was trained from a checkout with uncommitted changes")
    if then.constraints_sha256 != now.constraints_sha256:
        then_pins, now_pins = ((pins or "none")[:12] for pins in (then.constraints_sha256, now.constraints_sha256))
        found.append(f"constraints.txt: had SHA-256 {then_pins}, has {now_pins}")
    for name in sorted(then.libraries.keys() | now.libraries.keys()):
        was, now_is = then.libraries.get(name, "absent"), now.libraries.get(name, "absent")
        if was != now_is:
            found.append(f"{name}: was {was}, is {now_is}")
    return found


def _version_or_none(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
