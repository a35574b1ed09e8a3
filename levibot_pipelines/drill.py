"""The rollback drill: a bad model made champion by force, and how long it stays.

The model is really bad, really registered and really champion; what brings the one before it back is the nightly
comparison of `.shadow`, and nothing here. Nights are run by the caller, as in operation by a schedule.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from levibot_core.errors import MarketDataUnavailableError, RegistryError
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.calibration import IsotonicCalibrator, logit, sigmoid
from levibot_core.models.families import FAMILIES
from levibot_core.models.predictors import BASE_RATE
from levibot_core.registry.champions import ROLLBACK, ROLLED_BACK, STATE_TAG, changes, promote
from levibot_pipelines.comparison_reports import read_report
from levibot_pipelines.registration import version_tags
from levibot_pipelines.registry import CHAMPION, RegisteredVersion
from levibot_pipelines.shadow import settled_until_ms, trained_until_ms
from levibot_pipelines.workspace import Workspace

ACTOR = "drill"
_CURVE_POINTS = 199
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class BadChampion:
    """The champion of a drill: its version, that of the one it replaced, of the one it copies, and how long it took."""

    version: int
    replaced: int
    copied: int
    register_seconds: float
    promote_seconds: float


@dataclass(frozen=True, slots=True)
class DrillNight:
    """One night: until when there were bars, what was known then, and how long the night's job took."""

    until: datetime
    blocks: int
    days: float
    e_worse: float
    seconds: float
    rolled_back_after_seconds: float | None


def overconfident(bundle: ModelBundle, factor: float) -> ModelBundle:
    """The same model with a calibration that claims too much: the log-odds of every forecast times a factor.

    So forecasts a model whose calibration was forgotten, or fitted on rows that the model had seen. Predictor, features
    and optional parts are the same: nothing but what it forecasts gives it away.
    """
    family = FAMILIES[bundle.manifest.family]
    own = {name: content for name, content in bundle.files.items() if family.owns(name)}
    scores = np.linspace(0.0, 1.0, _CURVE_POINTS)
    curve = sigmoid(factor * logit(bundle.calibrator.apply(scores)))
    calibrator = IsotonicCalibrator(tuple(scores.tolist()), tuple(np.clip(curve, 1e-6, 1.0 - 1e-6).tolist()))
    return ModelBundle.build(bundle.manifest, bundle.manifest.family, own, calibrator, bundle.parts)


def promote_bad_model(workspace: Workspace, factor: float) -> BadChampion:
    """Register an overconfident copy of a trained version, and make it champion by force.

    It is the champion that is copied. Where that is the base rate, as every candidate was refused, it is the newest
    version that was trained: a drill asks whether harm is noticed, not whether there is an edge.

    Raises:
        RegistryError: nothing was trained, or the champion may be traded: a drill is for a home of its own.
        MarketDataUnavailableError: there is less than a day of bars after the copied version was trained.
    """
    registry = workspace.registry
    champion, copied = _expect_trained(workspace)
    first, last = _nights(workspace, copied)
    if last < first:
        raise MarketDataUnavailableError(
            f"Expected at least a day of bars after version {copied.version} was trained, was none before {last}. "
            "Train with an earlier end (`levibot run --until`), and give the drill a later one, with --until as well."
        )
    started = time.perf_counter()
    bad = overconfident(registry.load_bundle(copied.version), factor)
    with TemporaryDirectory(dir=workspace.home.root) as folder:
        bad.save(Path(folder) / "bundle")
        tags = version_tags(bad.manifest, ["it is the bad model of a drill"])
        with registry.closing(registry.start_run("drill", {"drill": "rollback"}, copied.family)) as run_id:
            about = f"Bad model of a drill: version {copied.version} with its log-odds times {factor:g}."
            version = registry.register(run_id, Path(folder) / "bundle", about, tags)
    registered = time.perf_counter()
    promote(registry, version, ACTOR, "a drill: a bad model by force", forced=True)
    promoted = time.perf_counter()
    return BadChampion(version, champion.version, copied.version, registered - started, promoted - registered)


def nights(workspace: Workspace, bad: BadChampion, run_night: Callable[[datetime], None]) -> Iterator[DrillNight]:
    """Run the nights after the champion was trained, until the bad model is rolled back or there are no more bars.

    Args:
        workspace: The home.
        bad: The champion of the drill.
        run_night: Runs the nightly comparison with the bars there were at an instant.
    """
    until, last = _nights(workspace, workspace.registry.version(bad.version))
    rolled_back = False
    while until <= last and not rolled_back:
        began, started = datetime.now(UTC), time.perf_counter()
        run_night(until)
        seconds, verdict = time.perf_counter() - started, read_report(workspace, "champion_watch")[0]["verdict"]
        newest = changes(workspace.registry)[-1]
        rolled_back = newest.event == ROLLBACK and newest.from_version == bad.version
        yield DrillNight(
            until=until,
            blocks=verdict["blocks"],
            days=verdict["days"],
            e_worse=verdict["worse_peak"],
            seconds=seconds,
            rolled_back_after_seconds=(newest.time - began).total_seconds() if rolled_back else None,
        )
        until += _DAY


def _expect_trained(workspace: Workspace) -> tuple[RegisteredVersion, RegisteredVersion]:
    """The champion, and the trained version to copy."""
    versions = workspace.registry.versions()
    champion = next((found for found in versions if CHAMPION in found.aliases), None)
    # Not the bad model of an earlier drill.
    trained = [found for found in versions if found.family != BASE_RATE and found.tags.get(STATE_TAG) != ROLLED_BACK]
    if champion is None or not trained:
        raise RegistryError(
            "Expected a champion and a trained model to drill with, was none. `levibot run` trains one, whatever the "
            "gates make of it."
        )
    if champion.tradable:
        raise RegistryError(
            f"Expected a champion that nobody trades, but version {champion.version} is tradable. A drill makes a bad "
            "model champion: run it in a home of its own (LEVIBOT_HOME)."
        )
    return champion, trained[0] if champion.family == BASE_RATE else champion


def _nights(workspace: Workspace, version: RegisteredVersion) -> tuple[datetime, datetime]:
    """The end of the first whole day after a version was trained, and that of the last day there are bars of."""
    trained, settled = (
        datetime.fromtimestamp(found / 1000, UTC)
        for found in (trained_until_ms(workspace, version), settled_until_ms(workspace))
    )
    return trained + _DAY, settled
