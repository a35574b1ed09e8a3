"""What a lifecycle run came to: collected once, printed for people or as JSON."""

from typing import Any

from levibot_core.errors import LevibotError
from levibot_pipelines.cli.output import print_facts, print_table, results
from levibot_pipelines.cli.predict import predict_once
from levibot_pipelines.cli.status import collect_status
from levibot_pipelines.registry import CHAMPION, RegisteredVersion
from levibot_pipelines.runner import RunOutcome
from levibot_pipelines.workspace import Workspace
from levibot_serving.config import load_serving_settings

_SHOWN_METRICS = (
    ("log_loss", "log loss"),
    ("base_rate_log_loss", "log loss of the base rate"),
    ("auc", "AUC"),
    ("brier", "Brier"),
    ("ece", "ECE"),
    ("net_return", "return after costs"),
    ("buy_and_hold_return", "buy and hold after costs"),
    ("trades", "trades"),
)


def collect_summary(workspace: Workspace, outcome: RunOutcome, seconds: float) -> dict[str, Any]:
    """Everything a lifecycle run has to show, ready for JSON."""
    status = collect_status(workspace)
    versions = workspace.registry.versions()
    if not versions:
        raise LevibotError("Expected the run to leave a candidate in the registry, but there is none.")
    candidate = versions[0]
    return {
        **status,
        "verdict": _outcome(outcome, candidate),
        "seconds": round(seconds, 1),
        "run_id": outcome.run_id,
        "snapshot_id": candidate.tags.get("snapshot_id"),
        "candidate": candidate.version,
        "metrics": dict(candidate.metrics),
        "gates": list(candidate.gates),
        "prediction": predict_once(load_serving_settings(), workspace.settings.symbols[0]),
        "files": _files(workspace, candidate),
    }


def _outcome(outcome: RunOutcome, candidate: RegisteredVersion) -> str:
    if not outcome.succeeded:
        return "refused"
    return "promoted" if CHAMPION in candidate.aliases else "in shadow"


def _files(workspace: Workspace, candidate: RegisteredVersion) -> dict[str, str]:
    home, version = workspace.home, f"v{candidate.version}"
    return {
        "home": str(home.root),
        "snapshot": str(home.snapshots / candidate.tags["snapshot_id"]),
        "model card": str(home.reports / "model_cards" / f"{version}.html"),
        "backtest": str(home.reports / "backtests" / f"{version}.html"),
        "drift": str(home.reports / "drift" / "latest.html"),
        "quality": str(home.reports / "quality" / "candles.json"),
        "warehouse": str(home.warehouse),
    }


def print_summary(summary: dict[str, Any]) -> None:
    """Print the summary for people."""
    champion, prediction = summary["champion"], summary["prediction"]
    results.print()
    print_facts(
        "What happened",
        [
            ("source", summary["source_description"]),
            ("candles", f"{summary['rows']:,}"),
            ("snapshot", summary["snapshot_id"]),
            ("candidate", f"version {summary['candidate']}"),
            *((label, _figure(name, summary["metrics"])) for name, label in _SHOWN_METRICS),
            ("took", f"{summary['seconds']:.0f} s"),
        ],
    )
    print_table(
        "Promotion gates",
        ("gate", "verdict", "found", "required"),
        [
            (gate["gate"], "[green]passed[/]" if gate["passed"] else "[red]failed[/]", gate["found"], gate["required"])
            for gate in summary["gates"]
        ],
    )
    results.print(_verdict(summary), soft_wrap=True)
    print_facts(
        f"One prediction: {prediction['symbol']} in {prediction['horizon']} minutes",
        [
            ("probability of a rise", f"{prediction['prob_up']:.4f}"),
            ("side", prediction["side"] + (" (abstains)" if prediction["abstain"] else "")),
            ("served by", f"{champion['name']} version {champion['version']} ({champion['family']})"),
            ("features as of", prediction["as_of"]),
            ("tradable", "yes" if prediction["tradable"] else "no"),
            ("because", "\n".join(prediction["reasons"]) or "-"),
        ],
    )
    print_facts("Where to look", list(summary["files"].items()))
    results.print("[bold]make up[/] starts the Dagster UI (:3000), the MLflow UI (:5000) and the API (:8000).")


def _figure(name: str, metrics: dict[str, float]) -> str:
    value = metrics.get(name)
    if value is None:
        return "-"
    if name.endswith("return"):
        return f"{value:+.2%}"
    return f"{value:,.0f}" if name == "trades" else f"{value:.4f}"


def _verdict(summary: dict[str, Any]) -> str:
    champion = summary["champion"]
    if summary["verdict"] == "promoted":
        return f"[bold green]Promoted:[/] version {summary['candidate']} is the champion of {champion['name']}."
    if summary["verdict"] == "in shadow":
        return (
            f"[bold green]Passed every gate:[/] version {summary['candidate']} meets version {champion['version']} "
            f"({champion['family']}) on new bars first, see `levibot models compare`."
        )
    failed = ", ".join(gate["gate"] for gate in summary["gates"] if not gate["passed"])
    return (
        f"[bold yellow]Refused:[/] version {summary['candidate']} did not pass {failed}. "
        f"Version {champion['version']} ({champion['family']}) stays the champion. That is a correct result."
    )
