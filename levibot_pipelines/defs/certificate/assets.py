"""The false-promotion certificate as an asset: the platform on markets whose truth is known."""

import dagster as dg
from pydantic import Field

from levibot_core.validation.certificate import FIRST_SEED, MarketOutcome
from levibot_core.validation.certificate_plots import certificate_png
from levibot_pipelines.certificate_reports import certificate_metadata, nightly_folder, shares
from levibot_pipelines.certification import certify
from levibot_pipelines.defs.shared.metadata import OWNERS, plot, table
from levibot_pipelines.workspace import Workspace


class CertificateConfig(dg.Config):
    """How much is tried."""

    markets: int = Field(20, ge=1, description="Markets without an edge; planted ones come on top")
    seed: int = Field(FIRST_SEED, ge=0, description="Of the first market; the others have the numbers after it")


@dg.asset(key_prefix="certificate", group_name="certificate", kinds={"python", "lightgbm", "html"}, owners=OWNERS)
def report(
    context: dg.AssetExecutionContext, config: CertificateConfig, workspace: dg.ResourceParam[Workspace]
) -> dg.MaterializeResult[None]:
    """How often the platform promotes a model that knows nothing, measured; finished markets of the same code count."""

    def tell(finished: int, total: int, outcome: MarketOutcome | None) -> None:
        what = "finished before" if outcome is None else f"{outcome.market.name}: {outcome.verdict}"
        context.log.info(f"{finished} of {total} markets, {what}")

    files = certify(workspace.settings, config.markets, config.seed, nightly_folder(workspace.home), tell)
    return dg.MaterializeResult(
        metadata={
            **certificate_metadata(files.certificate),
            "promoted": table(shares(files.certificate)),
            "plot": plot(certificate_png(files.certificate)),
            "page": dg.MetadataValue.path(files.html),
            "json": dg.MetadataValue.path(files.json_file),
        }
    )
