"""The candidate's model card."""

import json

import dagster as dg

from levibot_core.models.card import build_card, card_markdown
from levibot_core.stores.files import write_json_atomically, write_text_atomically
from levibot_pipelines.card_inputs import collect_card_inputs
from levibot_pipelines.defs.shared.metadata import OWNERS
from levibot_pipelines.references import CardReference, ModelReference
from levibot_pipelines.workspace import Workspace


@dg.asset(
    key_prefix="model_cards",
    group_name="model_cards",
    ins={"calibrated_model": dg.AssetIn(["calibration", "calibrated_model"])},
    io_manager_key="references",
    kinds={"python", "markdown", "mlflow"},
    owners=OWNERS,
)
def model_card(
    context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace], calibrated_model: ModelReference
) -> dg.MaterializeResult[CardReference]:
    """What a person has to know before trusting the model: figures, leak check, latency, provenance."""
    context.log.info("attacking the features, timing predictions")
    card = build_card(collect_card_inputs(workspace, calibrated_model))
    markdown = card_markdown(card)
    folder, name = workspace.home.reports / "model_cards", f"v{calibrated_model.version}"
    reference = CardReference(
        version=calibrated_model.version, json_file=folder / f"{name}.json", markdown=folder / f"{name}.md"
    )
    write_json_atomically(reference.json_file, card)
    write_text_atomically(reference.markdown, markdown)
    workspace.registry.log(
        calibrated_model.run_id,
        metrics={f"latency_{key}": value for key, value in card["latency"].items() if key.startswith("p")},
        files={"model_card.json": json.dumps(card, indent=2), "model_card.md": markdown},
    )
    return dg.MaterializeResult(
        value=reference,
        metadata={
            "card": dg.MetadataValue.md(markdown),
            "leak_check": "passed" if card["leakage"]["passed"] else "failed",
            "latency_p95_ms": card["latency"]["p95_ms"],
            "path": dg.MetadataValue.path(reference.json_file),
        },
    )
