"""The champion, and who wants to take its place."""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from levibot_core.models.predictors import BASE_RATE
from levibot_core.validation.sequential import DECISIVE
from levibot_serving.console.report_files import ReportFiles
from levibot_serving.console.report_formats import ComparisonReport, ModelCard, Verdict
from levibot_serving.deps import Services
from levibot_serving.predictor import horizon_minutes, utc
from levibot_serving.served import REAL_MARKETS, ServedModel


@dataclass(frozen=True, slots=True)
class CardFigures:
    """What a card says of rows that nothing was fitted or chosen on.

    Attributes:
        gain: Nats a row better than the base rate; below 0 is worse.
        gain_95: Its 95 % interval, or None where the card has none.
        auc: 0.5 is chance.
        ece: Calibration error.
        rows: How many.
    """

    gain: float
    gain_95: tuple[float, float] | None
    auc: float
    ece: float
    rows: int


@dataclass(frozen=True, slots=True)
class Champion:
    """The model that answers."""

    name: str
    version: int
    family: str
    timeframe: str
    horizon_minutes: int
    symbols: tuple[str, ...]
    snapshot_id: str
    source_kind: str
    simulated: bool
    calibration: str
    trained_at: datetime
    serving_since: datetime
    from_cache: bool
    tradable: bool
    reasons: tuple[str, ...]
    figures: CardFigures | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the sequential test says of a contender so far.

    Attributes:
        better: E-value that it forecasts better, the highest that it ever was: that one decides.
        worse: E-value that it is worse, the highest that it ever was.
        decisive: The e-value that decides.
        progress: How far `better` has come, 0 to 1, in logarithms: wealth grows by factors.
        blocks: Compared blocks of one horizon each.
        days: Market time they span.
        days_left: Days until either is known, if it goes on like this; None where that is not in sight.
        gain: Nats a block better than the reference; None before the first block.
        gain_95: Its confidence sequence.
    """

    better: float
    worse: float
    decisive: float
    progress: float
    blocks: int
    days: float
    days_left: float | None
    gain: float | None
    gain_95: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Contender:
    """The challenger, or else the newest candidate that is not champion.

    Attributes:
        version: Of the registered model.
        in_shadow: Whether it is the challenger: scored beside the champion, and compared with it on new bars.
        state: What was decided last, in words.
        family: Kind of model; None without a card.
        failed_gates: Promotion gates it did not pass.
        failed_trading_gates: Gates it did not pass before it may be traded.
        figures: From its card.
        evidence: None where nothing was compared yet.
        compared_at_ms: When the comparison was looked at last, UTC milliseconds.
    """

    version: int
    in_shadow: bool
    state: str
    family: str | None = None
    failed_gates: tuple[str, ...] = ()
    failed_trading_gates: tuple[str, ...] = ()
    figures: CardFigures | None = None
    evidence: Evidence | None = None
    compared_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ModelsPanel:
    """Champion and contender, and words where there is none.

    Attributes:
        watched: The champion against the one before it; None where nothing was compared yet.
        watched_version: The one before it.
        problems: Reports that are there but cannot be read.
    """

    champion: Champion | None
    no_champion: str
    registry_problem: str | None
    contender: Contender | None
    watched: Evidence | None
    watched_version: int | None
    problems: tuple[str, ...]


def models_panel(services: Services, reports: ReportFiles) -> ModelsPanel:
    """Gather the panel."""
    served, status = services.models.served, services.models.status
    shadow, watch = reports.shadow(), reports.champion_watch()
    version = None if served is None else served.version
    watching = watch.content if watch.content and watch.content.contender == version else None
    return ModelsPanel(
        champion=None if served is None else _champion(served, reports),
        no_champion=status.problem or "No model is loaded yet.",
        registry_problem=None if served is None else status.problem,
        contender=_compared(shadow.content, shadow.written_at_ms, version, reports)
        or _scored(services.operations.shadow.challenger, version, reports)
        or _candidate(version, reports),
        watched=None if watching is None else _evidence(watching, "worse"),
        watched_version=None if watching is None else watching.reference,
        problems=tuple(report.problem for report in (shadow, watch) if report.problem is not None),
    )


def _champion(served: ServedModel, reports: ReportFiles) -> Champion:
    manifest = served.bundle.manifest
    card = None if manifest.family == BASE_RATE else reports.model_card(served.version).content
    return Champion(
        name=served.record.name,
        version=served.version,
        family=manifest.family,
        timeframe=manifest.timeframe,
        horizon_minutes=horizon_minutes(manifest),
        symbols=manifest.symbols,
        snapshot_id=served.snapshot_id,
        source_kind=served.source_kind,
        simulated=served.source_kind not in REAL_MARKETS and manifest.family != BASE_RATE,
        calibration=manifest.calibration,
        trained_at=manifest.created_at,
        serving_since=utc(served.loaded_at_ms),
        from_cache=served.from_cache,
        tradable=served.tradable,
        reasons=served.reasons,
        figures=None if card is None else _figures(card),
    )


def _compared(
    report: ComparisonReport | None, written_at_ms: int | None, champion: int | None, reports: ReportFiles
) -> Contender | None:
    """The challenger of the newest comparison, unless it became champion or was compared with another one."""
    if report is None or report.contender is None or report.contender == champion:
        return None
    if champion is not None and report.reference != champion:
        return None
    card = reports.model_card(report.contender).content
    return Contender(
        version=report.contender,
        in_shadow=True,
        state=report.action,
        family=None if card is None else card.model.family,
        failed_gates=_failed(card, "gates"),
        failed_trading_gates=_failed(card, "trading_gates"),
        figures=None if card is None else _figures(card),
        evidence=_evidence(report, "better"),
        compared_at_ms=written_at_ms,
    )


def _scored(challenger: ServedModel | None, champion: int | None, reports: ReportFiles) -> Contender | None:
    """The challenger that this process scores beside the champion, where no comparison of the two is there yet."""
    if challenger is None or challenger.version == champion:
        return None
    card = reports.model_card(challenger.version).content
    return Contender(
        version=challenger.version,
        in_shadow=True,
        state="scored beside the champion, and not compared with it yet",
        family=challenger.bundle.manifest.family,
        failed_gates=_failed(card, "gates"),
        failed_trading_gates=_failed(card, "trading_gates"),
        figures=None if card is None else _figures(card),
    )


def _candidate(champion: int | None, reports: ReportFiles) -> Contender | None:
    """The newest version with a card, if it is newer than the champion."""
    newest = next(iter(reports.carded_versions()), None)
    if newest is None or (champion is not None and newest <= champion):
        return None
    card = reports.model_card(newest).content
    if card is None:
        return None
    failed = _failed(card, "gates")
    if card.judgement is None:
        state = "not judged yet"
    elif failed:
        state = f"refused by {len(failed)} of {len(card.judgement.gates)} promotion gates"
    else:
        state = f"passed all {len(card.judgement.gates)} promotion gates"
    return Contender(
        version=newest,
        in_shadow=False,
        state=state,
        family=card.model.family,
        failed_gates=failed,
        failed_trading_gates=_failed(card, "trading_gates"),
        figures=_figures(card),
    )


def _failed(card: ModelCard | None, kind: Literal["gates", "trading_gates"]) -> tuple[str, ...]:
    if card is None or card.judgement is None:
        return ()
    gates = card.judgement.gates if kind == "gates" else card.judgement.trading_gates
    return tuple(f"{gate.gate.replace('_', ' ')}: {gate.found}" for gate in gates if not gate.passed)


def _figures(card: ModelCard) -> CardFigures:
    test, against = card.metrics.test, card.against_base_rate
    return CardFigures(
        gain=card.base_rate.log_loss.get("test", math.nan) - test.log_loss if against is None else -against.mean,
        gain_95=None if against is None else (-against.upper_95, -against.lower_95),
        auc=test.auc,
        ece=test.ece,
        rows=int(test.rows),
    )


def _evidence(report: ComparisonReport, towards: Literal["better", "worse"]) -> Evidence | None:
    verdict = report.verdict
    if verdict is None:
        return None
    decisive = DECISIVE if report.decisive is None else report.decisive
    reached = verdict.log_loss.better_peak if towards == "better" else verdict.worse_peak
    return Evidence(
        better=verdict.log_loss.better_peak,
        worse=verdict.worse_peak,
        decisive=decisive,
        progress=_progress(reached, decisive),
        blocks=verdict.blocks,
        days=verdict.days,
        days_left=_days_left(verdict),
        gain=verdict.log_loss.mean,
        gain_95=(verdict.log_loss.lower_95, verdict.log_loss.upper_95),
    )


def _progress(e_value: float, decisive: float) -> float:
    if decisive <= 1.0:
        return 1.0
    return min(1.0, max(0.0, math.log(max(e_value, 1e-300)) / math.log(decisive)))


def _days_left(verdict: Verdict) -> float | None:
    if verdict.expected_days is None:
        return None
    return max(0.0, verdict.expected_days - verdict.days)
