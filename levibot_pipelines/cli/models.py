"""`levibot models list` and `rebuild`: what the registry holds, and making a version again."""

from typing import Annotated

import typer

from levibot_core.config import load_settings
from levibot_pipelines.cli.output import (
    JsonOption,
    first_of,
    print_facts,
    print_json,
    print_notes,
    print_table,
    working,
)
from levibot_pipelines.registry import RegisteredVersion
from levibot_pipelines.workspace import Workspace


def list_models(as_json: JsonOption = False) -> None:
    """List every version of this home's model, newest first."""
    workspace = Workspace.open(load_settings())
    with working("Opening the model registry"):
        versions = workspace.registry.versions()
    if as_json:
        print_json([_as_json(version) for version in versions])
        return
    print_table(
        # As wide as a terminal of 80 columns: no further column fits.
        f"{workspace.settings.model_name}: log loss (nats), AUC and calibration error on the test rows",
        ("version", "alias", "family", "loss", "AUC", "ECE", "gates", "trade"),
        [
            (
                version.version,
                ", ".join(version.aliases) or "-",
                version.family,
                _figure(version, "log_loss"),
                _figure(version, "auc"),
                _figure(version, "ece"),
                _gates_passed(version),
                "yes" if version.tradable else "no",
            )
            for version in versions
        ],
    )
    print_notes([note for version in versions for note in _notes(version)])


def rebuild(
    version: Annotated[int, typer.Argument(help="Registered version.")],
    study: Annotated[
        bool, typer.Option("--study", help="Repeat the whole search, not the winning trial alone.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a registered version again from its recipe and say whether it is the same; exit code 1 when it is not."""
    from levibot_pipelines.rebuilding import rebuild_version  # Seconds of libraries that other commands do not need.

    workspace = Workspace.open(load_settings())
    with working(f"Training version {version} again"):
        report = rebuild_version(workspace, version, "study" if study else "winner")
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        print_facts(
            f"{workspace.settings.model_name} version {version}",
            [
                ("identical", "yes" if report.identical else "no"),
                ("took", f"{report.seconds:.1f} s"),
                ("trained again", "the winning trial" if report.scope == "winner" else "the whole study"),
                ("rows from", report.snapshot),
                *((name, digest) for name, digest in report.found.items()),
                *(("came out differently", mismatch) for mismatch in report.mismatches),
                *(("not as it was", difference) for difference in report.differences),
            ],
        )
    if not report.identical:
        raise typer.Exit(1)


def _as_json(version: RegisteredVersion) -> dict[str, object]:
    return {
        "version": version.version,
        "aliases": list(version.aliases),
        "family": version.family,
        "metrics": dict(version.metrics),
        "gates": list(version.gates),
        "tradable": version.tradable,
        "reasons": list(version.reasons),
        "ensemble": version.ensemble,
        "snapshot_id": version.tags.get("snapshot_id"),
        "created_at": version.created_at.isoformat(),
        "run_id": version.run_id,
    }


def _figure(version: RegisteredVersion, name: str) -> str:
    value = version.metrics.get(name)
    return "-" if value is None else f"{value:.4f}"


def _gates_passed(version: RegisteredVersion) -> str:
    if not version.gates:
        return "-"
    return f"{sum(bool(gate['passed']) for gate in version.gates)} of {len(version.gates)}"


def _notes(version: RegisteredVersion) -> list[str]:
    notes = []
    if failed := [str(gate["gate"]) for gate in version.gates if not gate["passed"]]:
        notes.append(f"Version {version.version} did not pass {', '.join(failed)}.")
    if version.ensemble is not None:
        notes.append(f"Version {version.version}: {version.ensemble}.")
    if not version.tradable:
        reason = first_of(version.reasons, f"levibot models card show {version.version}")
        notes.append(f"Version {version.version} may not trade: {reason}.")
    return notes
