"""Whether the certificate speaks against the platform."""

import dagster as dg

from levibot_core.validation.certificate_plots import certificate_png
from levibot_core.validation.certificate_verdict import judge_certificate
from levibot_pipelines.certificate_reports import certificate_metadata, read_nightly, shares
from levibot_pipelines.defs.shared.metadata import plot, table
from levibot_pipelines.workspace import Workspace


@dg.asset_check(
    asset=dg.AssetKey(["certificate", "report"]),
    blocking=True,
    description="No more markets without an edge were promoted than a share of 5 % explains: 3 of 20.",
)
def few_false_promotions(workspace: dg.ResourceParam[Workspace]) -> dg.AssetCheckResult:
    """Judge the newest certificate."""
    certificate = read_nightly(workspace.home)
    verdict = judge_certificate(certificate)
    return dg.AssetCheckResult(
        passed=not verdict.refuted,
        severity=dg.AssetCheckSeverity.ERROR,
        description=f"{verdict.found} (required: {verdict.required})",
        metadata={
            **certificate_metadata(certificate),
            "promoted": table(shares(certificate)),
            "plot": plot(certificate_png(certificate)),
        },
    )
