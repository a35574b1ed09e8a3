"""The pictures behind a candidate's verdicts, kept among the reports: the gates' checks show them in Dagster.

Drawing is `levibot_core.monitoring.gate_plots`' work, judging `.candidates`'.
"""

from pathlib import Path

from levibot_core.models.card_sections import Judgement
from levibot_core.monitoring.gate_plots import loss_gates_png
from levibot_core.stores.files import write_bytes_atomically
from levibot_core.validation.gates import LossComparison
from levibot_pipelines.cards import read_card
from levibot_pipelines.registry import RegisteredVersion
from levibot_pipelines.workspace import Workspace

CHAMPION_GATE, BASE_RATE_GATE, CALIBRATION_GATE = "beats_champion", "beats_base_rate", "calibration"
_RELIABILITY = "reliability.png"


def keep_loss_picture(workspace: Workspace, version: int, judgement: Judgement) -> bytes:
    """Draw and keep how far a judged version's log loss lies from that of the champion and of the base rate.

    Raises:
        RegistryError: it has no card.
    """
    card = read_card(workspace, version)
    compared = {BASE_RATE_GATE: LossComparison.model_validate(card["against_base_rate"])}
    if judgement.against_champion is not None:
        compared = {CHAMPION_GATE: judgement.against_champion, **compared}
    png = loss_gates_png(compared, f"Version {version} on the test rows")
    write_bytes_atomically(_loss_picture(workspace, version), png)
    return png


def gate_pictures(workspace: Workspace, version: RegisteredVersion) -> dict[str, bytes]:
    """Gate to the picture that shows why it was passed or not, of those that have one."""
    found = {}
    if (path := _loss_picture(workspace, version.version)).exists():
        found = dict.fromkeys((CHAMPION_GATE, BASE_RATE_GATE), path.read_bytes())
    reliability = workspace.registry.logged_files(version.run_id, "plots").get(_RELIABILITY)
    return {**found, CALIBRATION_GATE: reliability} if reliability is not None else found


def _loss_picture(workspace: Workspace, version: int) -> Path:
    return workspace.home.reports / "promotion" / f"gates_v{version}.png"
