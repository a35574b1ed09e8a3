"""The gates, the comparisons, the audit log and the regression guard as checks, each with its reasons.

Those on what moves the champion block: a failed promotion gate stops the run before the champion. Whether a candidate
may be traded, and whether one in shadow is worse, are no reasons to stop anything that comes after.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import polars as pl

from levibot_core.registry.champions import changes, history
from levibot_core.stores.audit_log import AuditLog
from levibot_core.validation.gates import GATE_NAMES, TRADING_GATE_NAMES
from levibot_pipelines.comparison_reports import read_report, report_metadata
from levibot_pipelines.defs.shared.metadata import plot, table
from levibot_pipelines.gate_pictures import gate_pictures
from levibot_pipelines.references import ChallengerReference
from levibot_pipelines.registry import CHAMPION
from levibot_pipelines.regression_guard import guard_metadata
from levibot_pipelines.regression_guard import read_report as read_guard_report
from levibot_pipelines.runner import GATES_STEP
from levibot_pipelines.workspace import Workspace

_CHALLENGER = dg.AssetKey(["promotion", "challenger"])
_CHANGES_SHOWN = 10


@dg.multi_asset_check(
    name=GATES_STEP,
    specs=[dg.AssetCheckSpec(gate, asset=_CHALLENGER, blocking=True) for gate in GATE_NAMES],
    ins={"judged": dg.AssetIn(_CHALLENGER)},
)
def promotion_gates(
    workspace: dg.ResourceParam[Workspace], judged: ChallengerReference
) -> Iterator[dg.AssetCheckResult]:
    """Show the verdicts on the candidate."""
    version = workspace.registry.version(judged.version)
    pictures = gate_pictures(workspace, version)
    for gate in version.gates:
        yield _verdict(gate, dg.AssetCheckSeverity.ERROR, pictures.get(gate["gate"]))


@dg.multi_asset_check(
    name="trading_gates",
    specs=[dg.AssetCheckSpec(gate, asset=_CHALLENGER, blocking=False) for gate in TRADING_GATE_NAMES],
    ins={"judged": dg.AssetIn(_CHALLENGER)},
)
def trading_gates(workspace: dg.ResourceParam[Workspace], judged: ChallengerReference) -> Iterator[dg.AssetCheckResult]:
    """Show whether the candidate may be traded. A failed one is a reason against trading, not against promotion."""
    for gate in workspace.registry.version(judged.version).trading_gates:
        yield _verdict(gate, dg.AssetCheckSeverity.WARN)


@dg.asset_check(
    asset=dg.AssetKey(["promotion", "champion"]),
    blocking=True,
    description="The audit log is whole, and its newest change is the one that made this version the champion.",
)
def change_is_recorded(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """Hold the alias against the audit log, whose chain is computed again."""
    found = AuditLog(workspace.home.audit_log).verify()
    problems = list(found.problems) or _unexplained(workspace)
    return dg.AssetCheckResult(
        passed=not problems,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(problems) or f"{found.records} records, each chained to the one before it",
        metadata={
            "records": found.records,
            "newest": found.head,
            **({} if found.problems else {"history": _newest_changes(workspace)}),
        },
    )


@dg.asset_check(
    asset=dg.AssetKey(["promotion", "champion_watch"]),
    blocking=True,
    description="There is no evidence that the champion is worse than the one before it; with it, it is rolled back.",
)
def champion_no_worse(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """Judge the newest look at the champion."""
    return _no_worse(workspace, "champion_watch")


@dg.asset_check(
    asset=dg.AssetKey(["promotion", "shadow"]),
    blocking=True,
    description="There is no evidence that the challenger is worse than the champion; with it, another may follow.",
)
def challenger_no_worse(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """Judge the newest look at the challenger."""
    return _no_worse(workspace, "shadow")


@dg.asset_check(
    asset=dg.AssetKey(["promotion", "regression_guard"]),
    blocking=True,
    description="By the code of now, the champion's Sharpe ratio is at most 10 % below the one it was judged with; "
    "where that is not above 0, every bit is the same.",
)
def no_regression(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """Judge the newest look at the champion's backtest."""
    report, png = read_guard_report(workspace)
    return dg.AssetCheckResult(
        passed=not report["regressed"],
        severity=dg.AssetCheckSeverity.ERROR,
        description=report["found"],
        metadata={**guard_metadata(report), **_picture(png)},
    )


def _no_worse(workspace: Workspace, kind: str) -> dg.AssetCheckResult:
    report, png = read_report(workspace, kind)
    return dg.AssetCheckResult(
        passed=not report.get("worse", False),
        severity=dg.AssetCheckSeverity.ERROR,
        description=report["action"],
        metadata={**report_metadata(report), **_picture(png)},
    )


def _verdict(gate: Mapping[str, Any], severity: dg.AssetCheckSeverity, png: bytes | None = None) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=gate["gate"],
        asset_key=_CHALLENGER,
        passed=bool(gate["passed"]),
        severity=severity,
        description=f"{gate['found']} (required: {gate['required']})",
        metadata={"found": gate["found"], "required": gate["required"], **_picture(png)},
    )


def _unexplained(workspace: Workspace) -> list[str]:
    """Why no record explains the champion; nothing where the newest does."""
    present, recorded = workspace.registry.by_alias(CHAMPION), changes(workspace.registry)[-1:]
    if [change.to_version for change in recorded] == ([present.version] if present else []):
        return []
    return [
        "the alias is not where the newest record put it: somebody moved it past the platform. "
        "`levibot models promote VERSION --reason …` moves it, and says so"
    ]


def _newest_changes(workspace: Workspace) -> dg.MetadataValue[Any]:
    rows = [
        (f"{change.time:%Y-%m-%d %H:%M:%S}", change.event, change.from_version, change.to_version, change.reason)
        for change in history(workspace.registry)[: -_CHANGES_SHOWN - 1 : -1]
    ]
    return table(pl.DataFrame(rows, schema=["time_utc", "what", "from", "to", "reason"], orient="row"))


def _picture(png: bytes | None) -> dict[str, dg.MetadataValue[Any]]:
    return {} if png is None else {"plot": plot(png)}
