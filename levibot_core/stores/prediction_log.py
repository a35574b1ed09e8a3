"""The log of forecasts: JSON lines, one file per UTC day. One line per forecast that says something new.

A forecast that is served again unchanged gets no second line; who decides that is `levibot_serving.prediction_journal`.
What became of the forecasts is computed in `levibot_core.monitoring.forecast_deciles`.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from levibot_core.stores.daily_lines import DailyLines

Role = Literal["champion", "challenger"]
_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class LoggedForecast:
    """One forecast, when it was first served, or first scored in shadow.

    Attributes:
        served_at_ms: UTC milliseconds.
        role: Who said it: the champion, which is served, or the challenger, which is only scored.
        model: Registered model.
        model_version: Its version.
        symbol: Inside spelling, BTC/USDT.
        as_of_ms: Decision time, UTC milliseconds.
        horizon_ms: How far ahead it looks.
        price: Close at the decision time, quote currency.
        prob_up: Calibrated probability of a rise.
        confidence: 2 * |prob_up - 0.5|.
        side: `long`, `short` or `flat`.
        price_target: Quote currency; None without a volatility.
        source: `exchange`, `recorded`, `simulated`, or `request` where a caller sent candles of his own.
        tradable: Whether it might be traded on.
        abstain: Whether the platform declined to take a side.
        fallback: Whether it rested on something less than fresh features.
    """

    served_at_ms: int
    role: Role
    model: str
    model_version: int
    symbol: str
    as_of_ms: int
    horizon_ms: int
    price: float
    prob_up: float
    confidence: float
    side: Literal["long", "short", "flat"]
    price_target: float | None
    source: str
    tradable: bool
    abstain: bool
    fallback: bool


_FORECAST = TypeAdapter(LoggedForecast)


class PredictionLog(DailyLines):
    """The files below one folder. Several processes may append to the same file."""

    def append(self, forecasts: Sequence[LoggedForecast]) -> None:
        """Append a line per forecast.

        Raises:
            ValueError: a number is not finite; nothing is written.
            HomeNotWritableError: as `DailyLines.append_lines`.
        """
        lines = [
            (item.served_at_ms, json.dumps(asdict(item), separators=(",", ":"), allow_nan=False)) for item in forecasts
        ]
        self.append_lines(lines)

    def since(self, from_ms: int) -> Iterator[LoggedForecast]:
        """Every forecast served at that instant (UTC milliseconds) or later, in the order in which they were written.

        Lines that a crash cut short are left out.
        """
        first_day = datetime.fromtimestamp(from_ms / 1000, UTC).date()
        for day, path in self.files().items():
            if day >= first_day:
                with path.open("rb") as file:
                    for line in file:
                        found = parse_forecast(line)
                        if found is not None and found.served_at_ms >= from_ms:
                            yield found

    def newest(self) -> Iterator[LoggedForecast]:
        """Every forecast, the last written first; files are read from their ends, as far as the caller goes on."""
        for path in reversed(list(self.files().values())):
            for line in _lines_from_the_end(path):
                found = parse_forecast(line)
                if found is not None:
                    yield found


def parse_forecast(line: bytes) -> LoggedForecast | None:
    """The forecast of a line, or None where it is not whole."""
    try:
        return _FORECAST.validate_json(line)
    except ValidationError:
        return None


def _lines_from_the_end(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        place, rest = file.seek(0, os.SEEK_END), b""
        while place > 0:
            length = min(_BLOCK_BYTES, place)
            place -= length
            file.seek(place)
            first, *others = (file.read(length) + rest).split(b"\n")
            yield from (line for line in reversed(others) if line)
            rest = first
        if rest:
            yield rest
