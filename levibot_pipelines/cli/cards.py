"""`levibot models card`: showing a model card, and computing its figures again."""

import json
from typing import Annotated, Any

import typer

from levibot_core.config import load_settings
from levibot_core.models.card_verification import VerificationReport
from levibot_pipelines.cli.output import JsonOption, print_facts, print_json, print_table, results, working
from levibot_pipelines.workspace import Workspace

app = typer.Typer(help="Model cards: show one, or compute its figures again.", no_args_is_help=True)

VersionArgument = Annotated[int, typer.Argument(help="Registered version.")]
_SHOWN = 40


@app.command("show")
def show(version: VersionArgument, as_json: JsonOption = False) -> None:
    """Show the card of a version; with --json, the card itself."""
    from levibot_core.models.card_pages import verdict  # Seconds of libraries that other commands do not need.
    from levibot_pipelines.cards import card_reference, read_card

    workspace = Workspace.open(load_settings())
    card = read_card(workspace, version)
    if as_json:
        print_json(card)
        return
    test, base = card["metrics"]["test"], card["base_rate"]
    results.print(verdict(card), soft_wrap=True)
    print_facts(
        f"{card['model']['name']} version {version}",
        [
            ("family", card["model"]["family"]),
            ("symbols", ", ".join(card["model"]["symbols"])),
            ("trained on", f"{card['provenance']['source_description']}, snapshot {card['provenance']['snapshot_id']}"),
            (
                "test rows",
                f"{test['rows']:,.0f}, {card['split']['test']['start'][:10]} to {card['split']['test']['end'][:10]}",
            ),
            ("log loss", f"{test['log_loss']:.5f}, of the base rate {base['log_loss']['test']:.5f}"),
            ("AUC", f"{test['auc']:.4f}"),
            ("calibration error", f"{test['ece']:.4f}"),
            ("trials", card["tuning"]["trials"]),
            ("leak attack", "passed" if card["leakage"]["passed"] else "FAILED"),
            *_made_again(card),
            *_together(card),
            ("page", card_reference(workspace, version).html),
        ],
    )
    judgement = card.get("judgement")
    if judgement:
        print_table(
            "Promotion gates",
            ("gate", "verdict", "found", "required"),
            [
                (
                    gate["gate"],
                    "[green]passed[/]" if gate["passed"] else "[red]failed[/]",
                    gate["found"],
                    gate["required"],
                )
                for gate in judgement["gates"]
            ],
        )


@app.command("verify")
def verify(
    version: VersionArgument,
    deep: Annotated[bool, typer.Option("--deep", help="Repeat the leak attack and the spread too (minutes).")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compute every number on a card again from snapshot, recipe and model; exit code 1 on a mismatch."""
    from levibot_pipelines.cards import verify_card  # Seconds of libraries that other commands do not need.

    workspace = Workspace.open(load_settings())
    with working(f"Computing the card of version {version} again"):
        report = verify_card(workspace, version, deep)
    if as_json:
        print_json(_as_json(report))
    else:
        _print(report)
    if report.mismatched:
        raise typer.Exit(1)


def _made_again(card: dict[str, Any]) -> list[tuple[str, object]]:
    reproduction = card.get("reproduction")
    if reproduction is None:
        return []
    rebuilt = reproduction["rebuild"]
    return [("rebuild", "not tried" if rebuilt is None else "identical" if rebuilt["identical"] else "differs")]


def _together(card: dict[str, Any]) -> list[tuple[str, object]]:
    found = card.get("ensemble")
    if found is None:
        return []
    members = (found["verdict"] or {"members": []})["members"] if card["model"]["family"] == "ensemble" else []
    weights = [(f"weight of {member['name']}", f"{member['weight']:.3f}") for member in members]
    return [("ensemble", found["reason"]), *weights]


def _as_json(report: VerificationReport) -> dict[str, Any]:
    return {**report.model_dump(mode="json"), "mismatched": report.mismatched}


def _print(report: VerificationReport) -> None:
    latency = [
        (name.removesuffix("_ms"), f"{found['on_the_card']:.3f} ms on the card, {found['now']:.3f} ms now")
        for name, found in report.latency.items()
    ]
    print_facts(
        f"Model card of version {report.version}",
        [
            ("checked", report.checked),
            ("mismatched", report.mismatched),
            *latency,
            *((f"not checked: {part}", reason) for part, reason in report.not_checked.items()),
        ],
    )
    if report.mismatches:
        print_table(
            "Mismatches" + (f", the first {_SHOWN}" if report.mismatched > _SHOWN else ""),
            ("where", "on the card", "computed again"),
            [
                (found.path, json.dumps(found.on_the_card), json.dumps(found.recomputed))
                for found in report.mismatches[:_SHOWN]
            ],
        )
