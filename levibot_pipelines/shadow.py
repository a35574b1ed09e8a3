"""Two registered versions on the same new bars of the lake, night by night, and what the evidence does to the aliases.

Two comparisons go on: the challenger against the champion (in shadow: it is scored, not served), and the champion
against the one before it. What a block is worth is computed in `levibot_core.validation.paired_blocks`, weighed in
`.sequential_verdict`; the aliases are moved by `.champions`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import polars as pl
from filelock import FileLock

from levibot_core.features.registry import load_registry
from levibot_core.models.bundle import BundleManifest, ModelBundle
from levibot_core.models.predictors import BASE_RATE
from levibot_core.registry.champions import ROLLED_BACK, STATE_TAG, champions, changes, promote, roll_back
from levibot_core.stores.comparison_log import ComparisonLog
from levibot_core.stores.training_rows import read_inputs, training_rows
from levibot_core.validation.paired_blocks import (
    LOG_LOSS_BOUND,
    block_ms,
    expect_comparable,
    pair_blocks,
    pnl_bound,
    score_blocks,
)
from levibot_core.validation.sequential import DECISIVE
from levibot_core.validation.sequential_verdict import SequentialVerdict, weigh
from levibot_pipelines.alerts import raise_alert
from levibot_pipelines.candidates import failed_gates, judge_anew
from levibot_pipelines.registration import NO_SNAPSHOT
from levibot_pipelines.registry import CHALLENGER, CHAMPION, RegisteredVersion
from levibot_pipelines.workspace import Workspace

Kind = Literal["shadow", "champion_watch"]
ACTOR: Final = "levibot"
LONGEST_SHADOW_DAYS: Final = 56
"""A challenger without a decision after as many days makes room for the next one that passes its gates."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two versions that are compared: the contender is the challenger in shadow, or the champion that is watched."""

    kind: Kind
    name: str
    contender: RegisteredVersion
    reference: RegisteredVersion


@dataclass(frozen=True, slots=True)
class ComparisonNight:
    """What one look at a comparison came to. `action` says in words what was done, or why nothing was."""

    comparison: Comparison
    blocks: pl.DataFrame
    verdict: SequentialVerdict
    bounds: tuple[float, float]
    added: int
    action: str


def shadow_comparison(workspace: Workspace) -> Comparison | None:
    """The challenger against the champion; None where there is none that was never champion.

    An earlier champion comes back by a rollback: promoted, it would have the one it replaces as the one before it.
    """
    registry = workspace.registry
    champion, challenger = registry.by_alias(CHAMPION), registry.by_alias(CHALLENGER)
    if champion is None or challenger is None or challenger.version in champions(registry):
        return None
    if challenger.tags.get(STATE_TAG) == ROLLED_BACK:
        return None
    return Comparison("shadow", _pair_name(challenger, champion), challenger, champion)


def champion_comparison(workspace: Workspace) -> Comparison | None:
    """The champion against the one before it; None for the first one, which is the base rate.

    Each reign is a comparison of its own: who was rolled back and is made champion again begins anew.
    """
    standing, history = champions(workspace.registry), changes(workspace.registry)
    if len(standing) < 2:
        return None
    previous, champion = (workspace.registry.version(version) for version in standing[-2:])
    since = history[-1].sequence if history else 0
    return Comparison("champion_watch", f"{_pair_name(champion, previous)}.since-{since}", champion, previous)


def look(workspace: Workspace, comparison: Comparison) -> ComparisonNight:
    """What the blocks of a comparison say that were scored so far; nothing is scored, nothing moved."""
    contender = workspace.registry.load_bundle(comparison.contender.version).manifest
    return _night(workspace, comparison, contender, 0)


def look_at_challenger(workspace: Workspace) -> ComparisonNight | None:
    """Score the challenger and the champion on new bars, and promote the challenger when the evidence is there.

    Raises:
        LevibotError: what has to be read cannot be, or a change cannot be recorded; no alias was moved.
    """
    return _act(workspace, shadow_comparison, _promote)


def look_at_champion(workspace: Workspace) -> ComparisonNight | None:
    """Score the champion and the one before it on new bars, and roll back when the champion is worse.

    Raises:
        LevibotError: as `look_at_challenger`.
    """
    return _act(workspace, champion_comparison, _roll_back)


def challenger_in_shadow(workspace: Workspace) -> RegisteredVersion | None:
    """The challenger that may still be promoted by what it shows in shadow, and so keeps its alias."""
    comparison = shadow_comparison(workspace)
    if comparison is None or comparison.reference.family == BASE_RATE or failed_gates(comparison.contender):
        return None
    verdict = look(workspace, comparison).verdict
    over = verdict.is_worse or verdict.days >= LONGEST_SHADOW_DAYS
    return None if over else comparison.contender


def _act(
    workspace: Workspace,
    find: Callable[[Workspace], Comparison | None],
    settle: Callable[[Workspace, ComparisonNight], str],
) -> ComparisonNight | None:
    """One night at a time: who decides has scored, and nobody moves an alias in between."""
    with FileLock(workspace.home.root / "comparison.lock"):
        comparison = find(workspace)
        if comparison is None:
            return None
        contender, added = _score(workspace, comparison)
        night = _night(workspace, comparison, contender, added)
        action = settle(workspace, night)
    return ComparisonNight(comparison, night.blocks, night.verdict, night.bounds, added, action)


def _night(workspace: Workspace, comparison: Comparison, contender: BundleManifest, added: int) -> ComparisonNight:
    blocks, bounds = _log(workspace).read(comparison.name), (LOG_LOSS_BOUND, pnl_bound(contender))
    return ComparisonNight(comparison, blocks, weigh(blocks, *bounds), bounds, added, "nothing to decide yet")


def _promote(workspace: Workspace, night: ComparisonNight) -> str:
    challenger, champion = night.comparison.contender, night.comparison.reference
    if not night.verdict.is_better:
        return night.action
    failed = failed_gates(judge_anew(workspace, challenger, champion))
    if failed:
        return f"better, and not promoted: version {challenger.version} did not pass {', '.join(failed)}"
    e_value = night.verdict.log_loss.better_peak
    reason = (
        f"in shadow, its log loss was below that of version {champion.version}: e-value {e_value:.1f} of "
        f"{DECISIVE:g} wanted, {night.verdict.blocks} blocks in {night.verdict.days:.1f} days; every gate passed"
    )
    promote(workspace.registry, challenger.version, ACTOR, reason, evidence=night.verdict.figures())
    return f"promoted: {reason}"


def _roll_back(workspace: Workspace, night: ComparisonNight) -> str:
    if not night.verdict.is_worse:
        return night.action
    reason = (
        f"worse than version {night.comparison.reference.version} before it: e-value {night.verdict.worse_peak:.1f} of "
        f"{DECISIVE:g} wanted, {night.verdict.blocks} blocks in {night.verdict.days:.1f} days"
    )
    leaving, coming = roll_back(workspace.registry, ACTOR, reason, evidence=night.verdict.figures())
    title = f"{workspace.settings.model_name}: version {leaving.version} was rolled back to version {coming.version}"
    raise_alert(workspace.settings, workspace.home, night.comparison.kind, title, reason, dict(night.verdict.figures()))
    return f"rolled back: {reason}"


def _score(workspace: Workspace, comparison: Comparison) -> tuple[BundleManifest, int]:
    """Score the blocks that were settled since the last look; gives the contender's manifest and their number."""
    contender, reference = (
        workspace.registry.load_bundle(version.version) for version in (comparison.contender, comparison.reference)
    )
    expect_comparable(contender.manifest, reference.manifest)
    length = block_ms(contender.manifest)
    first_ms = -(-_scored_until_ms(workspace, comparison) // length) * length
    as_of_ms = settled_until_ms(workspace)
    if first_ms + length > as_of_ms:
        return contender.manifest, 0
    blocks = pair_blocks(*(_scores(workspace, bundle, first_ms, as_of_ms) for bundle in (contender, reference)))
    return contender.manifest, _log(workspace).append(comparison.name, blocks)


def _scored_until_ms(workspace: Workspace, comparison: Comparison) -> int:
    """The instant from which on decisions are new to a comparison: after both trainings, and what was looked at.

    A champion is not watched on the blocks that made it champion, nor on those of an earlier reign.
    """
    log, pair = _log(workspace), _pair_name(comparison.contender, comparison.reference)
    names = [comparison.name]
    if comparison.kind == "champion_watch":
        names = [name for name in log.names if name == pair or name.startswith(f"{pair}.")]
    looked_at = [frame["decided_at"].dt.epoch("ms").max() for name in names if (frame := log.read(name)).height]
    trained = [trained_until_ms(workspace, version) for version in (comparison.contender, comparison.reference)]
    return max([*trained, *(int(newest) + 1 for newest in looked_at)])  # type: ignore[arg-type]


def trained_until_ms(workspace: Workspace, version: RegisteredVersion) -> int:
    """The end of what a version was trained on, UTC milliseconds; 0 where it saw nothing.

    Raises:
        SnapshotNotFoundError: its snapshot is gone.
    """
    snapshot_id = version.tags.get("snapshot_id", NO_SNAPSHOT)
    if snapshot_id == NO_SNAPSHOT:
        return 0
    return int(workspace.snapshots.manifest(snapshot_id).as_of.timestamp() * 1000)


def settled_until_ms(workspace: Workspace) -> int:
    """Until when every symbol's candles are there, UTC milliseconds: what is later for one comes with the next look.

    Raises:
        MarketDataUnavailableError: a symbol has none.
    """
    dataset, until = workspace.candles(workspace.ingested_source), workspace.settings.until
    before_ms = None if until is None else int(until.timestamp() * 1000)
    return min(
        workspace.lake.latest_known_at_ms(dataset, symbol, before_ms=before_ms) for symbol in workspace.settings.symbols
    )


def _scores(workspace: Workspace, bundle: ModelBundle, first_ms: int, as_of_ms: int) -> pl.DataFrame:
    """A model's scores of the blocks decided from an instant on, on rows made as those it was trained on."""
    manifest, settings = bundle.manifest, workspace.settings
    bar_ms = workspace.timeframe.milliseconds
    rows = training_rows(
        read_inputs(
            workspace.lake,
            source_key=workspace.ingested_source.key,
            market=settings.market,
            timeframe=settings.timeframe,
            symbols=settings.symbols,
            as_of_ms=as_of_ms,
        ),
        feature_set=load_registry(manifest.feature_set),
        timeframe=workspace.timeframe,
        label=manifest.label,
        start_ms=first_ms - manifest.window * bar_ms,
        as_of_ms=as_of_ms,
    ).rows
    new = rows.filter(pl.col("ts").dt.epoch("ms") >= first_ms - bar_ms)
    return score_blocks(bundle, new, rows)


def _pair_name(contender: RegisteredVersion, reference: RegisteredVersion) -> str:
    return f"v{contender.version}-against-v{reference.version}"


def _log(workspace: Workspace) -> ComparisonLog:
    return ComparisonLog(workspace.home.comparisons / workspace.settings.model_name)
