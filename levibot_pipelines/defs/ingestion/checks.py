"""Blocking quality checks on candles: one Dagster check per rule of `levibot_core.market.quality`."""

import time
from collections.abc import Iterator, Sequence

import dagster as dg

from levibot_core.market.quality import RULES, QualityReport, QualityRules, assess_candles
from levibot_core.stores.files import write_json_atomically
from levibot_pipelines.defs.shared.metadata import table
from levibot_pipelines.defs.shared.partitions import keys_of_run, slices_of
from levibot_pipelines.workspace import Workspace

_CANDLES = dg.AssetKey(["ingestion", "candles"])


@dg.multi_asset_check(
    name="candles_quality",
    specs=[
        dg.AssetCheckSpec(rule, asset=_CANDLES, blocking=True, description=description)
        for rule, description in RULES.items()
    ],
)
def candles_quality(
    context: dg.AssetCheckExecutionContext, workspace: dg.ResourceParam[Workspace]
) -> Iterator[dg.AssetCheckResult]:
    """Judge the candles of the run's months. Known exchange halts are reported, never filled and never blamed."""
    report = assess_selection(workspace, keys_of_run(context.run.tags))
    write_json_atomically(workspace.home.reports / "quality" / "candles.json", report.to_dict())
    findings = report.to_frame()
    for rule in RULES:
        found = findings.filter(findings["rule"] == rule)
        metadata = {"findings": found.height} | ({"where": table(found.head(20))} if found.height else {})
        yield dg.AssetCheckResult(
            check_name=rule,
            asset_key=_CANDLES,
            passed=report.passed(rule),
            severity=dg.AssetCheckSeverity.ERROR,
            description="; ".join(found["message"].head(3)) or "nothing found",
            metadata=metadata,
        )


def assess_selection(workspace: Workspace, partition_keys: Sequence[str]) -> QualityReport:
    """Apply the quality rules to what the lake holds for a selection of partitions; to all of it without one."""
    identity = workspace.ingested_source
    slices = slices_of(partition_keys)
    candles = workspace.lake.read(
        workspace.candles(identity),
        symbols=[part.symbol for part in slices] or workspace.settings.symbols,
        start_ms=min((part.start_ms for part in slices), default=None),
        end_ms=max((part.end_ms for part in slices), default=None),
    )
    rules = QualityRules.for_source(identity.kind)
    halts = workspace.source.known_halts()
    return assess_candles(candles, workspace.timeframe, halts, time.time_ns() // 1_000_000, rules)
