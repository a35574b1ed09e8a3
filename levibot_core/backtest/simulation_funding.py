"""Funding settlements on the grid of a backtest: which bar pays them, and how much a unit pays."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from levibot_core.errors import DataQualityError
from levibot_core.market.timeframe import Timeframe

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_USUAL_PAUSE_MS: Final = 8 * 3_600_000
_LONGEST_PAUSE: Final = 1.5
"""Of the median pause between settlements; a longer one is a hole."""


class FundingUse(BaseModel):
    """Whether a backtest paid funding, in figures and in words."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    counted: bool
    settlements: int = Field(ge=0, description="Of all symbols, in the window")
    note: str


def funding_of_window(
    funding: pl.DataFrame | None, symbols: Sequence[str], start_ms: int, end_ms: int
) -> tuple[pl.DataFrame | None, FundingUse]:
    """The funding where it is whole over a window, else None; and which of the two it is.

    Args:
        funding: As `place_settlements`.
        symbols: Symbols to trade.
        start_ms: First open, UTC milliseconds.
        end_ms: Last close.
    """
    if funding is None or funding.is_empty():
        return None, FundingUse(counted=False, settlements=0, note="no funding rates are known")
    count = 0
    try:
        for symbol in symbols:
            settled, _, _ = _of_symbol(funding, symbol)
            _check_pauses(settled, symbol, start_ms, end_ms)
            count += int(((settled >= start_ms) & (settled < end_ms)).sum())
    except DataQualityError as error:
        return None, FundingUse(counted=False, settlements=0, note=str(error))
    return funding, FundingUse(
        counted=True, settlements=count, note=f"{count:,} settlements, each on the position held at its instant"
    )


def place_settlements(
    funding: pl.DataFrame | None,
    symbols: tuple[str, ...],
    timeframe: Timeframe,
    times: IntArray,
    opened: FloatArray,
    last: FloatArray,
) -> tuple[IntArray, FloatArray]:
    """Where settlements fall, and what a unit held long pays.

    Args:
        funding: `symbol`, `ts`, `rate` and perhaps `mark_price`, any order; None is no funding.
        symbols: (symbols,).
        timeframe: Length of a bar.
        times: Open times, rising, UTC milliseconds, (bars,).
        opened: Opens, NaN without a bar, (bars, symbols).
        last: Closes of the latest bars, (bars, symbols).

    Returns:
        Bars with settlements, rising, (k,), and quote currency per unit, (k, 2, symbols): of settlements up to the
        open, and within the bar.

    Raises:
        DataQualityError: a settlement is missing, there twice, or no number; or a symbol has none.
    """
    per_unit: dict[int, FloatArray] = {}
    if funding is not None:
        for column, symbol in enumerate(symbols):
            settled, rates, marks = _of_symbol(funding, symbol)
            _check_pauses(settled, symbol, int(times[0]), int(times[-1]) + timeframe.milliseconds)
            for instant, rate, mark in zip(settled.tolist(), rates.tolist(), marks.tolist(), strict=True):
                bar, within, price = _place(instant, timeframe, times, opened[:, column], last[:, column])
                if 0 <= bar < times.size:
                    paid = per_unit.setdefault(bar, np.zeros((2, len(symbols))))
                    paid[int(within), column] += rate * (price if np.isnan(mark) else mark)
    bars = sorted(per_unit)
    amounts = np.stack([per_unit[bar] for bar in bars]) if bars else np.zeros((0, 2, len(symbols)))
    return np.array(bars, dtype=np.int64), amounts


def _place(
    instant: int, timeframe: Timeframe, times: IntArray, opened: FloatArray, last: FloatArray
) -> tuple[int, bool, float]:
    """The bar that pays a settlement (out of the grid if none), whether within it, and the price if none is given."""
    bar = int(np.searchsorted(times, instant, side="right")) - 1
    if bar < 0:
        return -1, False, 0.0
    if instant >= times[bar] + timeframe.milliseconds:
        return bar + 1, False, float(last[bar])
    price = float(opened[bar])
    if np.isnan(price):
        price = float(last[bar])
    return bar, instant > times[bar], price


def _of_symbol(funding: pl.DataFrame, symbol: str) -> tuple[IntArray, FloatArray, FloatArray]:
    """Times, rates and mark prices (NaN where none) of a symbol, in order of time."""
    own = funding.filter(pl.col("symbol") == symbol).sort("ts")
    if own["ts"].is_null().any():
        raise DataQualityError(f"Expected the time of every funding settlement of {symbol}, was none. Check the data.")
    settled = own["ts"].dt.epoch("ms").to_numpy()
    rates = own["rate"].cast(pl.Float64).to_numpy()
    marks = (
        own["mark_price"].cast(pl.Float64).to_numpy() if "mark_price" in own.columns else np.full(own.height, np.nan)
    )
    if not settled.size:
        raise DataQualityError(f"Expected funding of {symbol}, was none. Give that of every symbol, or of none.")
    if settled.size > 1 and int(np.diff(settled).min()) == 0:
        raise DataQualityError(f"Expected one funding rate per symbol and time, was two of {symbol}.")
    if not np.isfinite(rates).all() or (marks <= 0.0).any() or np.isinf(marks).any():
        raise DataQualityError(f"Expected funding rates, and positive mark prices, of {symbol}, was no number.")
    return settled, rates, marks


def _check_pauses(settled: IntArray, symbol: str, start_ms: int, end_ms: int) -> None:
    """Refuse a series with a hole in the window, or that does not reach over it."""
    pause = float(np.median(np.diff(settled))) if settled.size > 1 else float(_USUAL_PAUSE_MS)
    edges = np.concatenate([[start_ms], settled[(settled > start_ms) & (settled < end_ms)], [end_ms]])
    longest = int(np.diff(edges).argmax())
    since, until = (
        f"{datetime.fromtimestamp(edge / 1000, UTC):%Y-%m-%d %H:%M}" for edge in edges[longest : longest + 2]
    )
    if edges[longest + 1] - edges[longest] > _LONGEST_PAUSE * pause:
        raise DataQualityError(
            f"Expected a funding settlement of {symbol} every {pause / 3_600_000:g} hours, was none from {since} to "
            f"{until} UTC. Fetch what is missing."
        )
