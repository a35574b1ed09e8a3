"""Metadata that every asset shows in the same way: column schemas, row counts and plots."""

import base64
from collections.abc import Sequence
from typing import Any

import dagster as dg
import polars as pl

from levibot_core.schemas import Table

OWNERS = ["team:ml-platform"]


def column_schema(table: Table) -> dg.TableSchema:
    """The catalogue entry as Dagster's column schema."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                str(column.dtype),
                description=f"{column.description} [{column.unit}]" if column.unit else column.description,
                constraints=dg.TableColumnConstraints(nullable=column.nullable),
            )
            for column in table.columns
        ]
    )


def plot(png: bytes) -> dg.MetadataValue[Any]:
    """A PNG that Dagster shows in place."""
    return dg.MetadataValue.md(f"![plot](data:image/png;base64,{base64.b64encode(png).decode('ascii')})")


def table(frame: pl.DataFrame, columns: Sequence[str] | None = None) -> dg.MetadataValue[Any]:
    """A small frame as a table that Dagster shows in place; figures are rounded for reading."""
    shown = frame.select(columns or frame.columns)
    header = "| " + " | ".join(shown.columns) + " |"
    rule = "|" + "---|" * shown.width
    rows = ["| " + " | ".join(_cell(value) for value in row) + " |" for row in shown.rows()]
    return dg.MetadataValue.md("\n".join([header, rule, *rows]))


def _cell(value: object) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value).replace("|", "\\|")
