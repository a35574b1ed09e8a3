"""Bar arithmetic: the length of a timeframe and the grid it lays over UTC time.

A candle is stamped with its OPEN time. It is known from its close on: `known_at >= ts + timeframe`.
"""

import re
from dataclasses import dataclass

from levibot_core.errors import ConfigurationError

_UNIT_MS = {"m": 60_000, "h": 3_600_000, "d": 86_400_000}
MILLISECONDS_PER_DAY = _UNIT_MS["d"]
_PATTERN = re.compile(r"^([1-9]\d*)([mhd])$")


@dataclass(frozen=True, slots=True)
class Timeframe:
    """The length of one bar, such as `5m`, `1h` or `1d`, on a grid that starts at the Unix epoch (UTC)."""

    name: str
    milliseconds: int

    @classmethod
    def parse(cls, text: str) -> "Timeframe":
        """Read a timeframe such as `5m`.

        Raises:
            ConfigurationError: the text is not a number of minutes, hours or days that divides a day.
        """
        match = _PATTERN.match(text.strip())
        if match is None:
            raise ConfigurationError(f"Expected a timeframe such as 5m, 1h or 1d, was {text!r}.")
        milliseconds = int(match[1]) * _UNIT_MS[match[2]]
        if MILLISECONDS_PER_DAY % milliseconds:
            raise ConfigurationError(f"Expected a timeframe that divides a day evenly, was {text!r}.")
        return cls(match[0], milliseconds)

    @property
    def bars_per_year(self) -> float:
        """Bars in 365 days; crypto markets do not close."""
        return 365 * MILLISECONDS_PER_DAY / self.milliseconds

    def floor(self, milliseconds: int) -> int:
        """Open time, in UTC milliseconds, of the bar that contains the instant `milliseconds`."""
        return milliseconds - milliseconds % self.milliseconds

    def __str__(self) -> str:
        return self.name
