"""Known trading halts: intervals in which an exchange is on record as not having traded.

The facts are data, in `known_halts.yml`. What a quality report makes of them is decided in
`levibot_core.market.quality`; halts of the simulated market come from `levibot_core.market.simulator`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Literal

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, TypeAdapter, model_validator


@dataclass(frozen=True, slots=True)
class Halt:
    """A known halt of one venue: the half-open interval [start_ms, end_ms) in UTC milliseconds, and why."""

    venue: str
    start_ms: int
    end_ms: int
    reason: str
    symbols: frozenset[str] | None = None
    """The symbols it stopped; None stands for all of the venue."""

    def concerns(self, venue: str, symbol: str) -> bool:
        """Whether rows of that venue and symbol fall under this halt; `recorded:binance` falls under `binance`."""
        return venue.rpartition(":")[2] == self.venue and (self.symbols is None or symbol in self.symbols)

    def __str__(self) -> str:
        start, end = (datetime.fromtimestamp(at / 1000, UTC) for at in (self.start_ms, self.end_ms))
        return f"{self.venue} {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC: {self.reason}"


class _HaltEntry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    venue: str
    symbols: Literal["all"] | frozenset[str]
    start: AwareDatetime
    end: AwareDatetime
    reason: str
    source: str

    @model_validator(mode="after")
    def _ends_after_it_starts(self) -> "_HaltEntry":
        if self.end <= self.start:
            raise ValueError(f"expected an end after {self.start}, was {self.end}")
        return self

    def as_halt(self) -> Halt:
        symbols = None if self.symbols == "all" else frozenset(self.symbols)
        start_ms, end_ms = (int(at.timestamp() * 1000) for at in (self.start, self.end))
        return Halt(self.venue, start_ms, end_ms, self.reason, symbols)


@cache
def known_halts(venue: str) -> tuple[Halt, ...]:
    """The halts on record for that exchange, in order of time; empty when there are none."""
    content = yaml.safe_load(files("levibot_core.market").joinpath("known_halts.yml").read_text("utf-8"))
    entries = TypeAdapter(list[_HaltEntry]).validate_python(content)
    halts = [entry.as_halt() for entry in entries if entry.venue == venue]
    return tuple(sorted(halts, key=lambda halt: halt.start_ms))
