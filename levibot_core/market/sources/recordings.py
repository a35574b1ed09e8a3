"""What a folder of Parquet files holds: which files are candles, funding or the fear and greed index, and of what.

A file is recognised by its columns. What the columns cannot say (venue, market, and for candles the timeframe, which
the rows then have to confirm) is read from its name, such as `candles_5m_binance_spot_BTCUSDT_2022-2023.parquet`.
Rows are shaped for the platform in `levibot_core.market.sources.recorded`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import polars as pl

from levibot_core.errors import MarketDataUnavailableError
from levibot_core.market.symbols import normalize_symbol
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe

RecordingKind = Literal["candles", "funding", "fear_greed"]

VALUES: dict[RecordingKind, dict[str, pl.DataType]] = {
    "candles": {name: pl.Float64() for name in ("open", "high", "low", "close", "volume")},
    "funding": {"rate": pl.Float64()},
    "fear_greed": {"value": pl.Int32(), "classification": pl.String()},
}
"""The value columns that a scan of each kind yields, besides `ts` and (but for the index) `symbol`."""

_COLUMNS_IN_FILES: dict[RecordingKind, frozenset[str]] = {
    "candles": frozenset({"ts", "symbol", "open", "high", "low", "close", "volume"}),
    "funding": frozenset({"ts", "symbol", "funding_rate"}),
    "fear_greed": frozenset({"date", "value", "classification"}),
}
_RENAMED = {"funding_rate": "rate", "date": "ts"}
_TIMESTAMP = pl.Datetime("ms", "UTC")
_TIMEFRAME_IN_NAME = re.compile(r"(?:^|_)([1-9]\d*[mhd])(?=_|$)")
_VENUE_AND_MARKET_IN_NAME = re.compile(r"(?:^|_)(?:candles_|funding_)?(?:([a-z]+)_)?(spot|perp)(?=_|$)")
_NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Recording:
    """The rows of one symbol in one file; of the whole file for the index, which has no symbol."""

    path: Path
    kind: RecordingKind
    venue: str | None
    """The exchange that the file's name mentions."""
    market: str
    """`spot` or `perp`, as the name says; `spot` when it says nothing."""
    symbol: str
    spelling: str
    """The symbol as the file spells it."""
    first_ms: int
    last_ms: int
    spacing_ms: int | None
    """The usual distance between rows; None when there are fewer than two."""
    named_timeframe: Timeframe | None
    """The timeframe that the file's name mentions."""

    @property
    def timeframe_ms(self) -> int | None:
        """The length of its bars: as the name says, else as its rows lie."""
        return self.spacing_ms if self.named_timeframe is None else self.named_timeframe.milliseconds

    def scan(self, start_ms: int, end_ms: int) -> pl.LazyFrame:
        """Its rows in [start_ms, end_ms): `ts` (ms, UTC), `symbol` in the inside spelling (candles, funding), values.

        Nothing is read before the frame is collected, and then only the columns and row groups that are needed.
        """
        rows = _normalised(self.path, self.kind)
        start, end = (pl.lit(at, pl.Int64).cast(_TIMESTAMP) for at in (start_ms, end_ms))
        rows = rows.filter(pl.col("ts") >= start, pl.col("ts") < end)
        values = list(VALUES[self.kind])
        if self.kind == "fear_greed":
            return rows.select("ts", *values)
        own = rows.filter(pl.col("symbol") == self.spelling)
        return own.select(pl.lit(self.symbol).alias("symbol"), "ts", *values)


def find_recordings(folder: Path) -> tuple[Recording, ...]:
    """Everything recorded below the folder, in order of path and symbol. Hidden files are left alone.

    Raises:
        MarketDataUnavailableError: the folder does not exist or holds no candles, or a Parquet file is broken.
    """
    if not folder.is_dir():
        raise MarketDataUnavailableError(
            f"LEVIBOT_MARKET_DATA expected a folder of candle Parquet files, but {folder} "
            f"{'is a file' if folder.exists() else 'does not exist'}. {_ways_out()}"
        )
    paths = sorted(path for path in folder.rglob("*.parquet") if not _is_hidden(path.relative_to(folder)))
    recordings = tuple(recording for path in paths for recording in _recordings_in(path))
    if not any(recording.kind == "candles" for recording in recordings):
        names = ", ".join(str(path.relative_to(folder)) for path in paths[:_NAMES_SHOWN])
        found = f"{len(paths)} Parquet files of another kind ({names})" if paths else "no Parquet file at all"
        raise MarketDataUnavailableError(
            f"Expected candle Parquet files (columns ts in UTC, symbol, open, high, low, close, volume) below "
            f"{folder}, but there is {found}. {_ways_out()}"
        )
    return recordings


def unreadable(path: Path, error: Exception) -> MarketDataUnavailableError:
    """The error for a file that is not, or no longer, a Parquet file that can be read."""
    cause = str(error).splitlines()[0] if str(error) else type(error).__name__
    return MarketDataUnavailableError(
        f"Expected {path} to be a Parquet file, but it cannot be read ({cause}). Restore it, or move it out of "
        f"{path.parent}."
    )


def duration_name(milliseconds: int) -> str:
    """A duration as a timeframe is written: 300000 is `5m`."""
    for unit, length in (("d", MILLISECONDS_PER_DAY), ("h", 3_600_000), ("m", 60_000)):
        if milliseconds % length == 0:
            return f"{milliseconds // length}{unit}"
    return f"{milliseconds} ms"


def _recordings_in(path: Path) -> Iterator[Recording]:
    try:
        schema = pl.read_parquet_schema(path)
        kind = _kind_of(schema)
        if kind is None:
            return
        extent = _extent(_normalised(path, kind), kind)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise unreadable(path, error) from error
    timeframe = _TIMEFRAME_IN_NAME.search(path.stem)
    place = _VENUE_AND_MARKET_IN_NAME.search(path.stem)
    for spelling, first, last, spacing in extent.iter_rows():
        yield Recording(
            path=path,
            kind=kind,
            venue=place[1] if place else None,
            market=place[2] if place else "spot",
            symbol=normalize_symbol(spelling) if spelling else "",
            spelling=spelling,
            first_ms=first,
            last_ms=last,
            spacing_ms=spacing,
            named_timeframe=Timeframe.parse(timeframe[1]) if timeframe else None,
        )


def _kind_of(schema: dict[str, pl.DataType]) -> RecordingKind | None:
    """The kind whose columns the file has, with a time that says it is UTC (a date for the index); else None."""
    for kind, columns in _COLUMNS_IN_FILES.items():
        if columns <= schema.keys():
            time = schema["date" if kind == "fear_greed" else "ts"]
            fits = (
                time == pl.Date if kind == "fear_greed" else isinstance(time, pl.Datetime) and time.time_zone == "UTC"
            )
            return kind if fits else None
    return None


def _normalised(path: Path, kind: RecordingKind) -> pl.LazyFrame:
    """The file's columns under their names and types inside; a cast that changes nothing is left out for pushdown."""
    scan = pl.scan_parquet(path, hive_partitioning=False)
    renamed = scan.select(*sorted(_COLUMNS_IN_FILES[kind])).rename(_RENAMED, strict=False)
    found = renamed.collect_schema()
    wanted = {"ts": _TIMESTAMP, **VALUES[kind]}
    return renamed.with_columns(pl.col(name).cast(dtype) for name, dtype in wanted.items() if found[name] != dtype)


def _extent(rows: pl.LazyFrame, kind: RecordingKind) -> pl.DataFrame:
    """Per symbol: first and last time and the usual spacing, in milliseconds, ordered by symbol."""
    at = pl.col("ts").dt.epoch("ms")
    named = rows.with_columns(pl.lit("").alias("symbol")) if kind == "fear_greed" else rows
    return (
        named.group_by("symbol")
        .agg(
            at.min().alias("first"), at.max().alias("last"), at.sort().diff().drop_nulls().mode().min().alias("spacing")
        )
        .sort("symbol")
        .collect()
    )


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") for part in relative.parts)


def _ways_out() -> str:
    return "Set LEVIBOT_MARKET_DATA to such a folder, or choose LEVIBOT_SOURCE=exchange or LEVIBOT_SOURCE=simulated."
