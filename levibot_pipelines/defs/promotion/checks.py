"""The gates and the comparisons as checks: a failed promotion gate stops the run before the champion, others warn."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from levibot_core.validation.gates import GATE_NAMES, TRADING_GATE_NAMES
from levibot_pipelines.comparison_reports import read_report, report_metadata
from levibot_pipelines.references import ChallengerReference
from levibot_pipelines.runner import GATES_STEP
from levibot_pipelines.workspace import Workspace

_CHALLENGER = dg.AssetKey(["promotion", "challenger"])


@dg.multi_asset_check(
    name=GATES_STEP,
    specs=[dg.AssetCheckSpec(gate, asset=_CHALLENGER, blocking=True) for gate in GATE_NAMES],
    ins={"judged": dg.AssetIn(_CHALLENGER)},
)
def promotion_gates(
    workspace: dg.ResourceParam[Workspace], judged: ChallengerReference
) -> Iterator[dg.AssetCheckResult]:
    """Show the verdicts on the candidate."""
    for gate in workspace.registry.version(judged.version).gates:
        yield _verdict(gate, dg.AssetCheckSeverity.ERROR)


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
    asset=dg.AssetKey(["promotion", "champion_watch"]),
    blocking=False,
    description="There is no evidence that the champion is worse than the one before it; with it, it is rolled back.",
)
def champion_no_worse(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """Judge the newest look at the champion."""
    return _no_worse(read_report(workspace, "champion_watch"), dg.AssetCheckSeverity.ERROR)


@dg.asset_check(
    asset=dg.AssetKey(["promotion", "shadow"]),
    blocking=False,
    description="There is no evidence that the challenger is worse than the champion; with it, another may follow.",
)
def challenger_no_worse(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """Judge the newest look at the challenger."""
    return _no_worse(read_report(workspace, "shadow"), dg.AssetCheckSeverity.WARN)


def _no_worse(report: dict[str, Any], severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=not report.get("worse", False),
        severity=severity,
        description=report["action"],
        metadata=report_metadata(report),
    )


def _verdict(gate: Mapping[str, Any], severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=gate["gate"],
        asset_key=_CHALLENGER,
        passed=bool(gate["passed"]),
        severity=severity,
        description=f"{gate['found']} (required: {gate['required']})",
        metadata={"found": gate["found"], "required": gate["required"]},
    )
