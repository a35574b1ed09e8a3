"""What a person should see at once: stale features, and served values that differ. Neither check blocks anything."""

import json

import dagster as dg
import polars as pl

from levibot_pipelines import monitored
from levibot_pipelines.defs.shared.metadata import table
from levibot_pipelines.workspace import Workspace


@dg.asset_check(
    asset=dg.AssetKey(["monitoring", "feature_staleness"]),
    blocking=False,
    description="No feature of any symbol is older than five minutes or one bar, whichever is longer.",
)
def fresh(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """Judge the newest staleness report."""
    report = json.loads(monitored.staleness_report(workspace).read_text("utf-8"))
    return dg.AssetCheckResult(
        passed=report["stale"] == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{report['stale']} of {report['values']} values are older than {report['limit_s']:.0f} s",
        metadata={"oldest": table(pl.DataFrame(report["oldest"]))} if report["stale"] else {},
    )


@dg.asset_check(
    asset=dg.AssetKey(["monitoring", "parity"]),
    blocking=False,
    description="Every value in the log of served vectors has the bits of the offline computation.",
)
def no_mismatches(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """Judge the newest parity report."""
    report = json.loads(workspace.home.parity_report.read_text("utf-8"))
    return dg.AssetCheckResult(
        passed=report["mismatches"] == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{report['mismatches']:,} of {report['compared']:,} values differ",
        metadata={"differences": table(pl.DataFrame(report["differences"][:50]))} if report["mismatches"] else {},
    )
