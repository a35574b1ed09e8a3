"""`levibot audit`: what was recorded in this home, and whether the record is what was written."""

from typing import Annotated

import typer
from rich.markup import escape

from levibot_core.config import load_settings
from levibot_core.stores.audit_log import AuditLog, AuditRecord
from levibot_core.stores.paths import Home
from levibot_pipelines.cli.output import JsonOption, print_facts, print_json, print_table

app = typer.Typer(
    help="The audit log: promotions, sign-ins, denials, users, keys; chained by hashes.", no_args_is_help=True
)


@app.command("show")
def show(
    last: Annotated[int, typer.Option(min=1, help="How many records, from the newest.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Show the newest records."""
    records = _log().read()[-last:][::-1]
    if as_json:
        print_json([record.model_dump(mode="json") for record in records])
        return
    print_table(
        "Audit log",
        ("no.", "time, UTC", "event", "actor", "details"),
        [
            (
                record.sequence,
                f"{record.time:%Y-%m-%d %H:%M:%S}",
                record.event,
                escape(record.actor),
                escape(_in_words(record)),
            )
            for record in records
        ],
    )


@app.command("verify")
def verify(
    head: Annotated[str | None, typer.Option(help="A hash that an earlier `verify` printed.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compute the chain of hashes again; exit code 1 when a record was altered, removed or added by somebody else."""
    found = _log().verify(head)
    if as_json:
        print_json({**found.model_dump(mode="json"), "intact": found.intact})
    else:
        print_facts(
            "Audit log",
            [
                ("intact", "yes" if found.intact else "no"),
                ("records", found.records),
                ("newest", found.head),
                *(("problem", problem) for problem in found.problems),
            ],
        )
    if not found.intact:
        raise typer.Exit(1)


def _in_words(record: AuditRecord) -> str:
    return ", ".join(f"{name} {value}" for name, value in record.details.items() if not isinstance(value, dict | list))


def _log() -> AuditLog:
    return AuditLog(Home.at(load_settings().home).audit_log)
