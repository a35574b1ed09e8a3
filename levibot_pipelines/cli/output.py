"""How commands speak: results on standard output, progress and errors on standard error."""

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of a table.")]

results = Console()
messages = Console(stderr=True)


def working(text: str) -> AbstractContextManager[object]:
    """Show that work is under way, on a terminal: the model registry alone takes seconds to open."""
    return messages.status(text)


def print_json(payload: Any) -> None:
    """Print a result for machines: one JSON document, nothing else."""
    # Not rich: it would wrap long lines at the width of the terminal.
    typer.echo(json.dumps(payload, indent=2, default=str))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a result for people."""
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", expand=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    results.print(table)


def print_facts(title: str, facts: Sequence[tuple[str, object]]) -> None:
    """Print a two-column list of names and values."""
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, expand=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, str(value))
    results.print(table)


def print_notes(notes: Sequence[str]) -> None:
    """Print sentences below a table: what is too long for a column."""
    for note in notes:
        results.print(note, highlight=False, markup=False)


def first_of(reasons: Sequence[str], see: str) -> str:
    """The first of some reasons, and the command that shows the others."""
    more = f" (and {len(reasons) - 1} more: `{see}`)" if len(reasons) > 1 else ""
    return f"{reasons[0]}{more}" if reasons else "no reason was recorded"
