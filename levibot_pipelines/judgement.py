"""Collect what the promotion gates look at: from the model card, the registry and the untouched test rows.

The verdicts themselves are `levibot_core.validation.gates`' work.
"""

import json

from levibot_core.errors import SnapshotError
from levibot_core.models.base_rate import fit_base_rate
from levibot_core.models.bundle import ModelBundle
from levibot_core.validation.comparison import compare_with_base_rate, compare_with_model
from levibot_core.validation.gates import GateFacts
from levibot_core.validation.split import chronological_split
from levibot_pipelines.provenance import code_version
from levibot_pipelines.references import CardReference, ModelReference
from levibot_pipelines.registry import CHAMPION
from levibot_pipelines.workspace import Workspace


def collect_gate_facts(workspace: Workspace, model: ModelReference, card: CardReference) -> GateFacts:
    """Everything the gates need to know about a candidate, measured against the champion of this moment."""
    snapshot = workspace.snapshots.load(model.snapshot_id)
    split = chronological_split(snapshot.rows)
    candidate = ModelBundle.load(model.folder / "bundle")
    champion = workspace.registry.by_alias(CHAMPION)
    written = json.loads(card.json_file.read_text("utf-8"))
    return GateFacts(
        leak_check_passed=written["leakage"]["passed"],
        leak_check_failures=tuple(check["detail"] for check in written["leakage"]["checks"] if not check["passed"]),
        calibration_error=written["metrics"]["test"]["ece"],
        latency_p95_ms=written["latency"]["p95_ms"],
        against_champion=compare_with_model(
            candidate,
            workspace.registry.load_bundle(champion.version),
            split.test,
            f"the champion, version {champion.version}",
        )
        if champion
        else None,
        against_base_rate=compare_with_base_rate(candidate, fit_base_rate(split.train["label"].to_numpy()), split.test),
        snapshot_verified=_verified(workspace, model.snapshot_id),
        code_version=code_version(),
        source_kind=snapshot.manifest.source.kind,
        champion_source_kind=champion.tags.get("source_kind") if champion else None,
    )


def _verified(workspace: Workspace, snapshot_id: str) -> bool:
    try:
        workspace.snapshots.verify(snapshot_id)
    except SnapshotError:
        return False
    return True
