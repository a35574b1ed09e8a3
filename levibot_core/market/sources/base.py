"""What every market source offers, and how it names itself. The sources themselves are beside this module."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import polars as pl

from levibot_core.config import SourceKind
from levibot_core.market.halts import Halt
from levibot_core.market.timeframe import Timeframe

Clock = Callable[[], int]
"""Answers with the current time in UTC milliseconds."""


def system_clock() -> int:
    """The time of this machine in UTC milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class SourceIdentity:
    """Where data comes from. It travels with the data into the lake, snapshots, cards and answers."""

    kind: SourceKind
    key: str
    """Key of the source in lake paths, such as `recorded`, `exchange-binance` or `simulated-s7-e0.10`."""
    venue: str
    """What the `venue` column of its rows says, such as `binance`, `recorded:binance` or `simulated`."""
    description: str
    """One line for people."""

    @property
    def announcement(self) -> str:
        """One line to show loudly wherever a run begins: the kind in capitals, then the description."""
        return f"MARKET DATA: {self.kind.upper()} - {self.description}"


class MarketSource(Protocol):
    """A source of candles, funding rates and the fear and greed index.

    All times are UTC milliseconds and all intervals half-open. Frames fit `levibot_core.schemas`, are sorted by
    their key and carry revision 0. A gap stays a gap; only closed bars are given.
    """

    identity: SourceIdentity

    def candles(self, symbol: str, market: str, timeframe: Timeframe, start_ms: int, end_ms: int) -> pl.DataFrame:
        """Closed candles with open time in [start_ms, end_ms), schema `CANDLES`; empty when there are none.

        Raises:
            UnknownSymbolError: the source does not list the symbol.
            MarketDataUnavailableError: it has no candles of that symbol, market and timeframe at all.
            SourceUnreachableError: it did not answer.
        """
        ...

    def funding_rates(self, symbol: str, start_ms: int, end_ms: int) -> pl.DataFrame:
        """Settled funding of the perpetual, settlement time in [start_ms, end_ms), schema `FUNDING_RATES`.

        Empty when the source has none for the symbol: funding is optional.
        """
        ...

    def fear_greed(self, start_ms: int, end_ms: int) -> pl.DataFrame:
        """The daily index of days that start in [start_ms, end_ms), schema `FEAR_GREED`; optional, as funding."""
        ...

    def known_halts(self) -> Sequence[Halt]:
        """Halts on record for the venues of this source."""
        ...

    def latest_close_ms(self, symbol: str, market: str, timeframe: Timeframe) -> int:
        """Close time (open time plus timeframe) of the newest closed bar the source can give."""
        ...
