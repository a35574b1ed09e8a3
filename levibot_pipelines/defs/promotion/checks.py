"""The promotion gates as blocking checks: a failed one stops the run before the champion."""

from collections.abc import Iterator

import dagster as dg

from levibot_core.validation.gates import GATE_NAMES
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
        yield dg.AssetCheckResult(
            check_name=gate["gate"],
            asset_key=_CHALLENGER,
            passed=bool(gate["passed"]),
            severity=dg.AssetCheckSeverity.ERROR,
            description=f"{gate['found']} (required: {gate['required']})",
            metadata={"found": gate["found"], "required": gate["required"]},
        )
