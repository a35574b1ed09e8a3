"""`levibot models`: what the registry holds."""

import typer

from levibot_core.config import load_settings
from levibot_pipelines.cli.output import JsonOption, print_json, print_table, working
from levibot_pipelines.registry import RegisteredVersion
from levibot_pipelines.workspace import Workspace

app = typer.Typer(help="Registered models: versions, aliases, gates.", no_args_is_help=True)


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List every version of this home's model, newest first."""
    workspace = Workspace.open(load_settings())
    with working("Opening the model registry"):
        versions = workspace.registry.versions()
    if as_json:
        print_json([_as_json(version) for version in versions])
        return
    print_table(
        workspace.settings.model_name,
        ("version", "aliases", "family", "log loss", "AUC", "ECE", "gates", "tradable"),
        [
            (
                version.version,
                ", ".join(version.aliases) or "-",
                version.family,
                _figure(version, "log_loss"),
                _figure(version, "auc"),
                _figure(version, "ece"),
                _gates(version),
                "yes" if version.tradable else "no: " + "; ".join(version.reasons),
            )
            for version in versions
        ],
    )


def _as_json(version: RegisteredVersion) -> dict[str, object]:
    return {
        "version": version.version,
        "aliases": list(version.aliases),
        "family": version.family,
        "metrics": dict(version.metrics),
        "gates": list(version.gates),
        "tradable": version.tradable,
        "reasons": list(version.reasons),
        "snapshot_id": version.tags.get("snapshot_id"),
        "created_at": version.created_at.isoformat(),
        "run_id": version.run_id,
    }


def _figure(version: RegisteredVersion, name: str) -> str:
    value = version.metrics.get(name)
    return "-" if value is None else f"{value:.4f}"


def _gates(version: RegisteredVersion) -> str:
    if not version.gates:
        return "not judged"
    failed = [str(gate["gate"]) for gate in version.gates if not gate["passed"]]
    return "all passed" if not failed else "failed: " + ", ".join(failed)
