"""The candidate trained again from its recipe, and its model card."""

import dagster as dg

from levibot_pipelines.cards import card_reference, make_card
from levibot_pipelines.defs.shared.metadata import OWNERS
from levibot_pipelines.rebuilding import rebuild_version
from levibot_pipelines.references import CardReference, ModelReference, RebuildReference
from levibot_pipelines.workspace import Workspace


@dg.asset(
    key_prefix="model_cards",
    group_name="model_cards",
    ins={"calibrated_model": dg.AssetIn(["calibration", "calibrated_model"])},
    io_manager_key="references",
    kinds={"python", "mlflow"},
    owners=OWNERS,
)
def rebuild(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace], calibrated_model: ModelReference
) -> dg.MaterializeResult[RebuildReference]:
    """The registered candidate trained again from its recipe: without the same outcome it cannot become champion."""
    report = rebuild_version(workspace, calibrated_model.version)
    for difference in (*report.mismatches, *report.differences):
        context.log.warning(difference)
    return dg.MaterializeResult(
        value=RebuildReference(version=calibrated_model.version, identical=report.identical),
        metadata={
            "identical": report.identical,
            "seconds": report.seconds,
            "rows_from": report.snapshot,
            "mismatches": list(report.mismatches),
            "not_as_it_was": list(report.differences),
            **report.found,
        },
    )


@dg.asset(
    key_prefix="model_cards",
    group_name="model_cards",
    ins={"rebuild": dg.AssetIn(["model_cards", "rebuild"])},
    io_manager_key="references",
    kinds={"python", "html", "mlflow"},
    owners=OWNERS,
)
def model_card(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace], rebuild: RebuildReference
) -> dg.MaterializeResult[CardReference]:
    """What a person has to know before trusting the model: figures, spread, leak check, latency, provenance."""
    context.log.info("attacking the features, timing predictions, training on other folds and seeds")
    card = make_card(workspace, rebuild.version)
    reference = card_reference(workspace, rebuild.version)
    return dg.MaterializeResult(
        value=reference,
        metadata={
            "card": dg.MetadataValue.md(reference.markdown.read_text("utf-8")),
            "html": dg.MetadataValue.path(reference.html),
            "leak_check": "passed" if card["leakage"]["passed"] else "failed",
            "rebuild": "identical" if rebuild.identical else "differs",
            "latency_p95_ms": card["latency"]["p95_ms"],
            "path": dg.MetadataValue.path(reference.json_file),
        },
    )
