"""The gates as checks: a failed promotion gate stops the run before the champion, a failed trading gate only warns."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from levibot_core.validation.gates import GATE_NAMES, TRADING_GATE_NAMES
from levibot_pipelines.registry import CHALLENGER
from levibot_pipelines.runner import GATES_STEP
from levibot_pipelines.workspace import Workspace

_CHALLENGER = dg.AssetKey(["promotion", "challenger"])


@dg.multi_asset_check(
    name=GATES_STEP,
    specs=[dg.AssetCheckSpec(gate, asset=_CHALLENGER, blocking=True) for gate in GATE_NAMES],
)
def promotion_gates(workspace: dg.ResourceParam[Workspace]) -> Iterator[dg.AssetCheckResult]:
    """Show the verdicts that the challenger was registered with."""
    version = workspace.registry.by_alias(CHALLENGER)
    for gate in version.gates if version else ():
        yield _verdict(gate, dg.AssetCheckSeverity.ERROR)


@dg.multi_asset_check(
    name="trading_gates",
    specs=[dg.AssetCheckSpec(gate, asset=_CHALLENGER, blocking=False) for gate in TRADING_GATE_NAMES],
)
def trading_gates(workspace: dg.ResourceParam[Workspace]) -> Iterator[dg.AssetCheckResult]:
    """Show whether the challenger may be traded. A failed one is a reason against trading, not against promotion."""
    version = workspace.registry.by_alias(CHALLENGER)
    for gate in version.trading_gates if version else ():
        yield _verdict(gate, dg.AssetCheckSeverity.WARN)


def _verdict(gate: Mapping[str, Any], severity: dg.AssetCheckSeverity) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=gate["gate"],
        asset_key=_CHALLENGER,
        passed=bool(gate["passed"]),
        severity=severity,
        description=f"{gate['found']} (required: {gate['required']})",
        metadata={"found": gate["found"], "required": gate["required"]},
    )
