"""The catalogue of tables: one place that declares columns, types, units, nullability and keys.

Writers enforce it, blocking checks verify it, Dagster shows it and dbt documents it. Feature columns are declared
in `levibot_core/features/features.yml`; a table that carries them extends the catalogue entry with `with_columns`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import polars as pl

from levibot_core.errors import SchemaError

TIMESTAMP = pl.Datetime("ms", "UTC")


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its Polars type, what it means, its unit, and whether a null is allowed."""

    name: str
    dtype: pl.DataType
    description: str
    unit: str = ""
    nullable: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the platform: ordered columns and the columns that identify a row."""

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]

    @property
    def polars_schema(self) -> pl.Schema:
        """The Polars schema, in column order."""
        return pl.Schema({column.name: column.dtype for column in self.columns})

    def with_columns(self, columns: Sequence[Column]) -> "Table":
        """A copy of the table with more columns at its end."""
        return replace(self, columns=(*self.columns, *columns))

    def empty(self) -> pl.DataFrame:
        """A frame with this schema and no rows."""
        return pl.DataFrame(schema=self.polars_schema)

    def enforce(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the frame in catalogue column order, sorted by key.

        Raises:
            SchemaError: a column is missing, unexpected or of another type; a null stands where none may; or
                two rows share a key. Nothing is cast or dropped silently.
        """
        problems = self.violations(frame)
        if problems:
            raise SchemaError(f"Table {self.name!r} does not fit its schema: " + "; ".join(problems))
        return frame.select(self.polars_schema.names()).sort(self.key)

    def violations(self, frame: pl.DataFrame) -> list[str]:
        """Every way in which the frame departs from the catalogue, in words. Empty when it fits."""
        found, expected = frame.schema, self.polars_schema
        problems = [f"column {name} is missing" for name in expected if name not in found]
        problems += [f"column {name} is not in the catalogue" for name in found if name not in expected]
        problems += [
            f"column {name} expected {expected[name]}, was {found[name]}"
            for name in expected
            if name in found and found[name] != expected[name]
        ]
        if problems:
            return problems
        for column in self.columns:
            if not column.nullable and (nulls := frame[column.name].null_count()):
                problems.append(f"column {column.name} has {nulls} nulls where none may be")
        duplicates = frame.height - frame.select(self.key).n_unique() if frame.height else 0
        if duplicates:
            problems.append(f"{duplicates} rows repeat the key ({', '.join(self.key)})")
        return problems


_SYMBOL = Column("symbol", pl.String(), "Trading pair in the inside spelling, BTC/USDT")
_KNOWN_AT = Column("known_at", TIMESTAMP, "Earliest instant at which this row could be known", "UTC")
_REVISION = Column("revision", pl.Int32(), "0 for the first value seen; each later correction counts up", "count")
_VENUE = Column("venue", pl.String(), "Who published the value: an exchange, a recording or the simulator")

CANDLES = Table(
    "candles",
    "Closed candles, one row per symbol, open time and revision.",
    (
        _SYMBOL,
        Column("ts", TIMESTAMP, "Open time of the bar", "UTC"),
        Column("open", pl.Float64(), "First traded price", "quote currency"),
        Column("high", pl.Float64(), "Highest traded price", "quote currency"),
        Column("low", pl.Float64(), "Lowest traded price", "quote currency"),
        Column("close", pl.Float64(), "Last traded price", "quote currency"),
        Column("volume", pl.Float64(), "Traded amount", "base currency"),
        _KNOWN_AT,
        _REVISION,
        _VENUE,
    ),
    ("symbol", "ts", "revision"),
)

FUNDING_RATES = Table(
    "funding_rates",
    "Settled funding of the perpetual on the same pair, one row per symbol, settlement time and revision.",
    (
        _SYMBOL,
        Column("ts", TIMESTAMP, "Settlement time", "UTC"),
        Column("rate", pl.Float64(), "Share of notional that longs pay shorts at this settlement", "fraction"),
        _KNOWN_AT,
        _REVISION,
        _VENUE,
    ),
    ("symbol", "ts", "revision"),
)

FEAR_GREED = Table(
    "fear_greed",
    "The daily fear and greed index, dated with the day it describes and known only after that day ended.",
    (
        Column("ts", TIMESTAMP, "Start of the day the value describes", "UTC"),
        Column("value", pl.Int32(), "Index", "0 (fear) to 100 (greed)"),
        Column("classification", pl.String(), "The publisher's word for the value"),
        _KNOWN_AT,
        _REVISION,
        _VENUE,
    ),
    ("ts", "revision"),
)

FEATURES = Table(
    "features",
    "One row per symbol and bar; feature columns follow. NaN marks a value that could not be computed.",
    (
        _SYMBOL,
        Column("ts", TIMESTAMP, "Open time of the bar the features are computed at", "UTC"),
        Column("known_at", TIMESTAMP, "Decision time: the close of the bar, from which the row may be used", "UTC"),
    ),
    ("symbol", "ts"),
)

TRAINING_ROWS = Table(
    "training_rows",
    "Features with their label, one row per symbol and bar; feature columns follow. No NaN, no null.",
    (
        *FEATURES.columns,
        Column("label", pl.Int8(), "1 when the close after the horizon is above the close now, else 0"),
        Column("forward_return", pl.Float64(), "close(t + horizon) / close(t) - 1", "fraction"),
        Column("label_end", TIMESTAMP, "Instant at which the label became known", "UTC"),
    ),
    FEATURES.key,
)

TABLES = {table.name: table for table in (CANDLES, FUNDING_RATES, FEAR_GREED, FEATURES, TRAINING_ROWS)}
