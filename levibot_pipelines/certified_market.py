"""One market of a certificate, from its source to the verdict of the gates: the stages of a lifecycle, one by one.

Which stages are left out, and why, is said in `levibot_pipelines.certification`.
"""

from typing import Any

from levibot_core.config import Settings
from levibot_core.errors import DataQualityError, RegistryError
from levibot_core.features.refresh import refresh_features
from levibot_core.market.ingest import Slice, ingest_candles, ingest_funding
from levibot_core.market.quality import QualityRules, assess_candles
from levibot_core.market.simulator import ANCHOR_MS
from levibot_core.models.card import build_card
from levibot_core.registry.champions import promote
from levibot_core.validation.certificate import Market, MarketOutcome
from levibot_core.validation.gates import LossComparison
from levibot_core.validation.leak_report import LeakCheck, LeakReport
from levibot_core.validation.split import chronological_split
from levibot_pipelines.card_inputs import Measured, Subject, card_inputs, last_rebuild, load_subject, measure_one_row
from levibot_pipelines.ensemble import make_ensemble
from levibot_pipelines.judgement import judge
from levibot_pipelines.rebuilding import rebuild_version
from levibot_pipelines.registration import ensure_base_rate, register_best
from levibot_pipelines.registry import CHAMPION
from levibot_pipelines.training import train_family
from levibot_pipelines.training_snapshot import build_snapshot
from levibot_pipelines.workspace import Workspace

_RUN = "certificate"
_NOT_ATTACKED = LeakReport((LeakCheck("leak_attack", True, "left out of a certificate, which examines forecasts"),))


def run_market(settings: Settings, market: Market) -> MarketOutcome:
    """Everything from ingestion to promotion in the home of the settings.

    Raises:
        LevibotError: a stage failed, which is no verdict.
    """
    workspace = Workspace.open(settings)
    _ingest(workspace)
    snapshot = build_snapshot(workspace)
    rows = workspace.snapshots.load(snapshot.snapshot_id)
    split = chronological_split(rows.rows)
    ensure_base_rate(workspace, snapshot, split.train)
    candidates = [
        train_family(workspace, family, snapshot.snapshot_id, _RUN, _silently).reference for family in settings.families
    ]
    ensemble = make_ensemble(workspace, candidates, _RUN).reference
    chosen, model = register_best(workspace.registry, ensemble, rows, settings.threads)
    rebuild_version(workspace, model.version)
    subject = load_subject(workspace, model.version)
    card = _card(workspace, subject)
    judgement = judge(workspace, subject, card, workspace.registry.by_alias(CHAMPION))
    if all(gate.passed for gate in judgement.gates):
        promote(workspace.registry, model.version, _RUN, "passed every promotion gate")
    champion = workspace.registry.by_alias(CHAMPION)
    if champion is None or judgement.against_champion is None:
        raise RegistryError(f"Expected a champion of {settings.model_name}, the base rate at least, was none.")
    return MarketOutcome(
        market=market,
        family=chosen.reference.family,
        promoted=champion.version == model.version,
        refused_by=tuple(gate.gate for gate in judgement.gates if not gate.passed),
        against_champion=judgement.against_champion,
        against_base_rate=LossComparison.model_validate(card["against_base_rate"]),
        test_rows=subject.split.test.height,
        seconds=0.0,
    )


def _ingest(workspace: Workspace) -> None:
    """Candles, funding and the index into the lake, the quality rules, and the features of every bar."""
    settings, source, lake, timeframe = workspace.settings, workspace.source, workspace.lake, workspace.timeframe
    until_ms = min(source.latest_close_ms(symbol, settings.market, timeframe) for symbol in settings.symbols)
    if settings.until is not None:
        until_ms = min(until_ms, int(settings.until.timestamp() * 1000))
    slices = [Slice(symbol, ANCHOR_MS, until_ms) for symbol in settings.symbols]
    candles = workspace.candles(source.identity)
    ingest_candles(source, lake, candles, settings.market, timeframe, slices, until_ms, _silently)
    ingest_funding(source, lake, workspace.funding(source.identity), slices, until_ms, _silently)
    lake.append(workspace.fear_greed(source.identity), source.fear_greed(0, until_ms), until_ms)
    lake.set_current_source(source.identity)
    found = assess_candles(
        lake.read(candles), timeframe, source.known_halts(), until_ms, QualityRules.for_source(source.identity.kind)
    )
    if found.errors:
        problems = "; ".join(error.message for error in found.errors[:3])
        raise DataQualityError(f"Expected candles of a certificate that pass the quality rules, but {problems}.")
    tables = workspace.feature_tables(source.identity)
    refresh_features(lake, tables, workspace.feature_set, timeframe, slices, _silently)


def _card(workspace: Workspace, subject: Subject) -> dict[str, Any]:
    """What the gates are shown, without what they do not look at."""
    measured = Measured(_NOT_ATTACKED, measure_one_row(subject), None)
    return build_card(card_inputs(subject, measured, last_rebuild(workspace, subject.registered.version)))


def _silently(_: str) -> None:
    """Nobody watches a single market."""
