"""What a night of a comparison leaves for people: a JSON report with its picture, and the same as Dagster metadata.

The night itself is `.shadow`'s work; the command line shows the same report.
"""

import json
from typing import Any

from levibot_core.errors import RegistryError
from levibot_core.monitoring.evidence_plots import evidence_png
from levibot_core.stores.files import write_bytes_atomically, write_json_atomically
from levibot_core.validation.sequential import DECISIVE
from levibot_core.validation.sequential_verdict import evidence_paths
from levibot_pipelines.shadow import ComparisonNight
from levibot_pipelines.workspace import Workspace

NOTHING = "there is nothing to compare with"


def keep_report(workspace: Workspace, night: ComparisonNight | None, kind: str) -> tuple[dict[str, Any], bytes | None]:
    """Leave the newest report of a kind of comparison where people look; gives it and its picture, if there is one."""
    folder = workspace.home.reports / "promotion"
    report, png = comparison_report(night, kind), None
    if night is not None and night.blocks.height:
        png = evidence_png(night.blocks, evidence_paths(night.blocks, *night.bounds), _title(night))
        write_bytes_atomically(folder / f"{kind}.png", png)
    write_json_atomically(folder / f"{kind}.json", report)
    return report, png


def read_report(workspace: Workspace, kind: str) -> tuple[dict[str, Any], bytes | None]:
    """The newest report of a kind of comparison, and its picture where there was something to compare.

    Raises:
        RegistryError: there is none.
    """
    path = workspace.home.reports / "promotion" / f"{kind}.json"
    picture = path.with_suffix(".png")
    try:
        report: dict[str, Any] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RegistryError(
            f"Expected the report of a comparison in {path}, but {error}. Materialise promotion/{kind}."
        ) from error
    return report, picture.read_bytes() if "verdict" in report and picture.exists() else None


def comparison_report(night: ComparisonNight | None, kind: str) -> dict[str, Any]:
    """A night as JSON; of a home with nothing to compare, that alone."""
    if night is None:
        return {"kind": kind, "action": NOTHING}
    verdict = night.verdict
    return {
        "kind": kind,
        "comparison": night.comparison.name,
        "contender": night.comparison.contender.version,
        "reference": night.comparison.reference.version,
        "action": night.action,
        "added": night.added,
        "decisive": DECISIVE,
        "better": verdict.is_better,
        "worse": verdict.is_worse,
        "verdict": verdict.model_dump(mode="json"),
    }


def report_metadata(report: dict[str, Any]) -> dict[str, Any]:
    """The figures of a report that people look at first."""
    if "verdict" not in report:
        return {"action": report["action"]}
    verdict = report["verdict"]
    loss, pnl = verdict["log_loss"], verdict["pnl"]
    return {
        "action": report["action"],
        "contender": report["contender"],
        "reference": report["reference"],
        "blocks": verdict["blocks"],
        "new_blocks": report["added"],
        "days": verdict["days"],
        "expected_days": "not in sight" if verdict["expected_days"] is None else verdict["expected_days"],
        "autocorrelation": "unknown" if verdict["autocorrelation"] is None else verdict["autocorrelation"],
        "e_better_log_loss": loss["better_peak"],
        "e_worse": verdict["worse_peak"],
        "e_worse_log_loss": loss["worse_peak"],
        "e_worse_pnl": pnl["worse_peak"],
        "log_loss_gain": f"{_signed(loss['mean'])} ({loss['lower_95']:+.5f} to {loss['upper_95']:+.5f})",
        "pnl_gain": f"{_signed(pnl['mean'])} ({pnl['lower_95']:+.5f} to {pnl['upper_95']:+.5f})",
    }


def _signed(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.5f}"


def _title(night: ComparisonNight) -> str:
    contender, reference = night.comparison.contender, night.comparison.reference
    return f"Version {contender.version} ({contender.family}) against version {reference.version} ({reference.family})"
