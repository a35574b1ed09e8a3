"""Recorded market data as a source: the Parquet files below one folder, merged and shaped for the platform.

What the files hold is found out in `levibot_core.market.sources.recordings`. Nothing is interpolated or repaired.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from levibot_core.errors import DataQualityError, MarketDataUnavailableError, UnknownSymbolError
from levibot_core.market.halts import Halt, known_halts
from levibot_core.market.sources.base import SourceIdentity
from levibot_core.market.sources.recordings import (
    VALUES,
    Recording,
    RecordingKind,
    duration_name,
    find_recordings,
    unreadable,
)
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.schemas import CANDLES, FEAR_GREED, FUNDING_RATES, Table

_FILE = "file"


class RecordedSource:
    """A `MarketSource` over a folder of Parquet files, searched recursively.

    Several files for one symbol are merged: rows they share are taken once, rows they disagree on are an error.

    Args:
        folder: The folder, normally `LEVIBOT_MARKET_DATA`.

    Raises:
        MarketDataUnavailableError: the folder does not exist, holds no candles, or holds a Parquet file that cannot
            be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.expanduser().resolve()
        self._recordings = find_recordings(self._folder)
        venues = {recording.venue for recording in self._of("candles")}
        venue = _venue_column(venues.pop() if len(venues) == 1 else None)
        files = len({recording.path for recording in self._recordings})
        self.identity = SourceIdentity(
            "recorded", "recorded", venue, f"{files} recorded Parquet files below {self._folder}"
        )

    def candles(self, symbol: str, market: str, timeframe: Timeframe, start_ms: int, end_ms: int) -> pl.DataFrame:
        """Recorded candles that open in [start_ms, end_ms), known from their close on.

        Raises:
            UnknownSymbolError: no candle file holds the symbol.
            MarketDataUnavailableError: no file holds it at that market and timeframe, or a file is broken.
            DataQualityError: two rows of one bar disagree.
        """
        files = self._candle_files(symbol, market, timeframe)
        return self._read(files, CANDLES, start_ms, end_ms, known_after_ms=timeframe.milliseconds)

    def funding_rates(self, symbol: str, start_ms: int, end_ms: int) -> pl.DataFrame:
        """Recorded settlements in [start_ms, end_ms), known from the settlement on; empty when none were recorded.

        Raises:
            DataQualityError: two rows of one settlement disagree.
        """
        files = [recording for recording in self._of("funding") if recording.symbol == symbol]
        return self._read(files, FUNDING_RATES, start_ms, end_ms, known_after_ms=0)

    def fear_greed(self, start_ms: int, end_ms: int) -> pl.DataFrame:
        """The recorded index of days that start in [start_ms, end_ms), known from the end of the day on.

        Raises:
            DataQualityError: two rows of one day disagree.
        """
        return self._read(self._of("fear_greed"), FEAR_GREED, start_ms, end_ms, known_after_ms=MILLISECONDS_PER_DAY)

    def known_halts(self) -> Sequence[Halt]:
        """The halts on record for the exchanges that the files name."""
        venues = sorted({recording.venue for recording in self._recordings if recording.venue is not None})
        return [halt for venue in venues for halt in known_halts(venue)]

    def latest_close_ms(self, symbol: str, market: str, timeframe: Timeframe) -> int:
        """The close of the newest recorded bar.

        Raises:
            UnknownSymbolError: no candle file holds the symbol.
            MarketDataUnavailableError: no file holds it at that market and timeframe.
        """
        files = self._candle_files(symbol, market, timeframe)
        return max(recording.last_ms for recording in files) + timeframe.milliseconds

    def _of(self, kind: RecordingKind) -> list[Recording]:
        return [recording for recording in self._recordings if recording.kind == kind]

    def _candle_files(self, symbol: str, market: str, timeframe: Timeframe) -> list[Recording]:
        candles = self._of("candles")
        holding = [recording for recording in candles if recording.symbol == symbol]
        if not holding:
            names = ", ".join(sorted({recording.symbol for recording in candles}))
            raise UnknownSymbolError(
                f"Expected a symbol with candles below {self._folder} ({names or 'there is none'}), was {symbol!r}."
            )
        fitting = [
            recording
            for recording in holding
            if recording.market == market and recording.timeframe_ms == timeframe.milliseconds
        ]
        if not fitting:
            recorded = sorted({f"{file.market} {duration_name(file.timeframe_ms or 0)}" for file in holding})
            raise MarketDataUnavailableError(
                f"Expected {market} {timeframe} candles of {symbol} below {self._folder}, but recorded are only "
                f"{', '.join(recorded)}. Add files, or set LEVIBOT_MARKET and LEVIBOT_TIMEFRAME to what there is."
            )
        for recording in fitting:
            if recording.spacing_ms not in (None, timeframe.milliseconds):
                raise MarketDataUnavailableError(
                    f"Expected {timeframe} candles in {recording.path}, as its name says, but its rows of {symbol} "
                    f"are {duration_name(recording.spacing_ms or 0)} apart. Rename or remove the file."
                )
        return fitting

    def _read(
        self, files: Sequence[Recording], table: Table, start_ms: int, end_ms: int, known_after_ms: int
    ) -> pl.DataFrame:
        """The rows of the files in the interval, fitting the table; equal repetitions are taken once."""
        parts = [_collect(file, start_ms, end_ms) for file in files]
        rows = pl.concat(parts) if parts else pl.DataFrame()
        if rows.is_empty():
            return table.empty()
        values = list(VALUES[files[0].kind])
        distinct = rows.unique(["ts", *values], keep="first", maintain_order=True).sort("ts")
        self._refuse_contradictions(distinct, files[0].symbol or table.name)
        known_at = pl.col("ts") + pl.duration(milliseconds=known_after_ms, time_unit="ms")
        revision = pl.lit(0, pl.Int32).alias("revision")
        return table.enforce(distinct.with_columns(known_at.alias("known_at"), revision).drop(_FILE))

    def _refuse_contradictions(self, rows: pl.DataFrame, subject: str) -> None:
        contradicting = rows.filter(pl.col("ts").is_duplicated())
        if contradicting.height:
            first = contradicting["ts"][0]
            names = sorted(set(contradicting.filter(pl.col("ts") == first)[_FILE].to_list()))
            raise DataQualityError(
                f"Expected the recordings of {subject} below {self._folder} to agree, but at "
                f"{contradicting['ts'].n_unique()} times rows differ, first at {first:%Y-%m-%d %H:%M} UTC in "
                f"{' and '.join(names)}. Remove what is wrong."
            )


def _collect(file: Recording, start_ms: int, end_ms: int) -> pl.DataFrame:
    venue, name = pl.lit(_venue_column(file.venue)).alias("venue"), pl.lit(file.path.name).alias(_FILE)
    try:
        return file.scan(start_ms, end_ms).with_columns(venue, name).collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise unreadable(file.path, error) from error


def _venue_column(venue: str | None) -> str:
    return "recorded" if venue is None else f"recorded:{venue}"
