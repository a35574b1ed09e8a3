"""Model cards of a home: making, keeping, judging and verifying them. Files first, then MLflow.

What is on a card is collected in `levibot_pipelines.card_inputs`, laid out in `levibot_core.models.card`.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from levibot_core.errors import RegistryError, SnapshotError
from levibot_core.models.card import CARD_FORMAT, build_card, judged_card, validate_card
from levibot_core.models.card_pages import BEESWARM, card_html, card_markdown, verdict
from levibot_core.models.card_sections import Judgement
from levibot_core.models.card_verification import Mismatch, VerificationReport, broken_source, compare_cards
from levibot_core.models.shap_plots import beeswarm_png
from levibot_core.models.spread import SpreadReport
from levibot_core.monitoring.importance import importance_of
from levibot_core.monitoring.plots import shap_png
from levibot_core.stores.files import write_bytes_atomically, write_json_atomically, write_text_atomically
from levibot_core.validation.leak_report import LeakCheck, LeakReport
from levibot_pipelines.card_inputs import (
    Measured,
    Subject,
    card_inputs,
    last_rebuild,
    load_subject,
    measure,
    measure_one_row,
)
from levibot_pipelines.judgement import judge
from levibot_pipelines.monitored import importance_history
from levibot_pipelines.references import CardReference
from levibot_pipelines.registry import CHAMPION
from levibot_pipelines.workspace import Workspace

SHAP_BARS = "shap_top_20"


def card_reference(workspace: Workspace, version: int) -> CardReference:
    """Where the card of a version lies, whether it was made or not."""
    folder, name = workspace.home.reports / "model_cards", f"v{version}"
    return CardReference(
        version=version, json_file=folder / f"{name}.json", markdown=folder / f"{name}.md", html=folder / f"{name}.html"
    )


def make_card(workspace: Workspace, version: int) -> dict[str, Any]:
    """Measure a registered version, keep its card and its pictures, and log both to its run."""
    subject = load_subject(workspace, version)
    card = build_card(card_inputs(subject, measure(workspace, subject), last_rebuild(workspace, version)))
    pictures = _draw(workspace, subject)
    for name, png in pictures.items():
        write_bytes_atomically(_picture(workspace, version, name), png)
    workspace.registry.log(
        subject.registered.run_id,
        metrics={f"latency_{name}": value for name, value in card["latency"].items() if name.endswith("_ms")},
        files={f"plots/{name}.png": png for name, png in pictures.items()},
    )
    _keep(workspace, card)
    return card


def judge_card(workspace: Workspace, version: int) -> Judgement:
    """Put a version before the gates, against the champion of this moment, and keep the verdict on its card."""
    subject, card = load_subject(workspace, version), read_card(workspace, version)
    judgement = judge(workspace, subject, card, workspace.registry.by_alias(CHAMPION))
    _keep(workspace, judged_card(card, judgement))
    return judgement


def read_card(workspace: Workspace, version: int) -> dict[str, Any]:
    """The card of a version as it is kept among the reports.

    Raises:
        RegistryError: there is none.
        SchemaError: it does not fit its schema.
    """
    path = card_reference(workspace, version).json_file
    try:
        card: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RegistryError(
            f"Expected the card of version {version} in {path}, but {error}. `levibot models list` names the versions; "
            "materialise model_cards/model_card to make the card of the newest one."
        ) from error
    validate_card(card)
    return card


def verify_card(workspace: Workspace, version: int, deep: bool = False) -> VerificationReport:
    """Compute every number on a card again, from the registered bundle, its recipe and its snapshot.

    Args:
        workspace: The home.
        version: The registered version.
        deep: Attack the training again too, and train on the other folds and seeds.

    Raises:
        RegistryError: there is no such version or card, or it has no recipe.
        SchemaError: the card does not fit its schema.
    """
    card = read_card(workspace, version)
    if card["format"] != CARD_FORMAT:
        raise RegistryError(
            f"Expected a card of format {CARD_FORMAT}, was {card['format']}, which was not made to be verified. "
            "Train the model again."
        )
    try:
        subject = load_subject(workspace, version)
    except SnapshotError as error:
        checksum = card["provenance"]["snapshot_checksum"]
        return broken_source(version, "provenance.snapshot_checksum", checksum, str(error))
    recomputed = build_card(
        card_inputs(subject, _measured(workspace, subject, card, deep), last_rebuild(workspace, version))
    )
    if card["judgement"] is not None:
        recomputed = _judged_again(workspace, subject, card, recomputed)
    report = compare_cards(card, recomputed, deep)
    return report.model_copy(update={"mismatches": (*report.mismatches, *_file_mismatches(subject))})


def _file_mismatches(subject: Subject) -> Iterator[Mismatch]:
    """Files of the bundle that calibrating its predictor again does not give: its figures are not its own then."""
    registered, again = subject.bundle.manifest.files, subject.calibrated.bundle.manifest.files
    for name in sorted(registered.keys() | again.keys()):
        if registered.get(name) != again.get(name):
            yield Mismatch(path=f"bundle.{name}", on_the_card=registered.get(name), recomputed=again.get(name))


def _judged_again(
    workspace: Workspace, subject: Subject, card: dict[str, Any], recomputed: dict[str, Any]
) -> dict[str, Any]:
    """The verdict again, against the champion of that moment and with the latency of that moment."""
    known = card["judgement"]["champion_version"]
    champion = None if known is None else workspace.registry.version(known)
    return judged_card(recomputed, judge(workspace, subject, {**recomputed, "latency": card["latency"]}, champion))


def _measured(workspace: Workspace, subject: Subject, card: dict[str, Any], deep: bool) -> Measured:
    """Measured again, or what the card says where that is expensive and was not asked for."""
    if deep:
        return measure(workspace, subject)
    spread = card["spread"]
    kept = {name: spread[name] for name in ("folds", "seeds", "runs")} if spread else None
    return Measured(
        LeakReport(tuple(LeakCheck(**check) for check in card["leakage"]["checks"])),
        measure_one_row(subject),
        SpreadReport.model_validate(kept) if kept else None,
    )


def _draw(workspace: Workspace, subject: Subject) -> dict[str, bytes]:
    """What moves the forecasts: every sampled row, and the strongest columns beside those of the version before.

    Nothing for a family without SHAP values.
    """
    if subject.shap is None:
        return {}
    name, version = subject.bundle.manifest.model_name, subject.registered.version
    history = importance_history(workspace)
    measured = importance_of(subject.shap, version, subject.bundle.manifest.snapshot_id)
    return {
        BEESWARM: beeswarm_png(subject.shap, f"What moves the forecasts of {name} version {version}"),
        SHAP_BARS: shap_png(history.add([measured]), f"What moves the forecasts of {name}"),
    }


def _keep(workspace: Workspace, card: dict[str, Any]) -> None:
    """The card and its pages among the reports, then in MLflow, where the version's description leads to them."""
    version = card["model"]["version"]
    reference, registry = card_reference(workspace, version), workspace.registry
    beeswarm = _picture(workspace, version, BEESWARM)
    pages = {
        "model_card.md": card_markdown(card),
        "model_card.html": card_html(card, {BEESWARM: beeswarm.read_bytes()} if beeswarm.exists() else {}),
    }
    write_text_atomically(reference.markdown, pages["model_card.md"])
    write_text_atomically(reference.html, pages["model_card.html"])
    write_json_atomically(reference.json_file, card)
    run_id = registry.version(version).run_id
    registry.log(run_id, files={"model_card.json": json.dumps(card, indent=2), **pages})
    registry.describe(
        version,
        f"{verdict(card)}\n\nModel card: `model_card.html` among the artifacts of run `{run_id}`, and "
        f"`{reference.html}`. `levibot models card verify {version}` computes its figures again.",
    )


def _picture(workspace: Workspace, version: int, name: str) -> Path:
    return card_reference(workspace, version).json_file.with_suffix("") / f"{name}.png"
