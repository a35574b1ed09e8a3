"""Many configurations on one market in one call, and one configuration on rolling windows.

Figures are those of `.metrics` that need no list of trades. Inputs are shared; a run keeps only its figures.
"""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
from numba import njit

from levibot_core.backtest.simulation import check_inputs
from levibot_core.backtest.simulation_kernel import run_account
from levibot_core.backtest.simulation_layout import EQUITY, FILL_COLUMNS, GROSS, TOTALS
from levibot_core.backtest.simulation_market import Market
from levibot_core.backtest.simulation_parameters import BacktestParameters, configuration_rows
from levibot_core.errors import ConfigurationError
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.schemas import TIMESTAMP

FloatArray = npt.NDArray[np.float64]

WINDOW_DAYS: Final = 90
_CURVE_FIGURES: Final = ("return_sum", "return_squares", "downside_squares", "max_drawdown", "exposure", "equity_mean")
_COUNTS: Final = ("fills", "trades", "liquidations", "stopped_days")


def sweep(market: Market, configurations: Sequence[BacktestParameters], threads: int = 1) -> pl.DataFrame:
    """Run every configuration over the market.

    Args:
        market: What is traded; all configurations share it.
        configurations: Any number, at least one.
        threads: How many run at a time.

    Returns:
        One row per configuration, in their order: `configuration` (from 0 on); the parameters in which they differ;
        then `final_equity`, `total_return`, `sharpe`, `sortino`, `volatility`, `max_drawdown`, `calmar`, `hit_rate`,
        `profit_factor`, `turnover`, `traded`, `exposure`, `trades`, `fills`, `fees_paid`, `slippage_paid`,
        `funding_paid` (amounts in quote currency), `liquidations` and `stopped_days`, as `.metrics` defines them; null
        where undefined.

    Raises:
        ConfigurationError: there is no configuration, or no thread.
        DataQualityError: a configuration needs inputs that the market does not have.
    """
    if not configurations or threads < 1:
        raise ConfigurationError(
            f"Expected a configuration and a thread at least, was {len(configurations)} and {threads}. Give some."
        )
    for parameters in configurations:
        check_inputs(market, parameters)
    rows = configuration_rows(configurations, market.timeframe)
    sums = np.zeros((len(configurations), len(_CURVE_FIGURES) + len(TOTALS)))
    with ThreadPoolExecutor(threads) as pool:
        # Every thread takes each n-th: neighbours in a grid take about as long.
        parts = [pool.submit(_run_rows, market, rows, first, threads, sums) for first in range(threads)]
    for part in parts:
        part.result()
    return pl.concat([_differences(configurations), _figures(sums, rows["initial_equity"], market)], how="horizontal")


def rolling_windows(
    market: Market, parameters: BacktestParameters, days: int = WINDOW_DAYS, step_days: int = 30
) -> pl.DataFrame:
    """Run one configuration on every window of so many days, each with an account of its own, up to the last bar.

    Args:
        market: What is traded.
        parameters: How.
        days: Length of a window. A market that is shorter is one window.
        step_days: From the end of a window to that of the next.

    Returns:
        One row per window: `start` and `end` (UTC), then the figures of `sweep`.

    Raises:
        ConfigurationError: a length is not positive.
        DataQualityError: as `sweep`, or a window has no bar.
    """
    if days < 1 or step_days < 1:
        raise ConfigurationError(f"Expected windows and steps of a day or more, was {days} and {step_days}.")
    first, end = int(market.times_ms[0]), market.end_ms
    length = min(days * MILLISECONDS_PER_DAY, end - first)
    starts = range(end - length, first - 1, -step_days * MILLISECONDS_PER_DAY)
    bounds = [(start, start + length) for start in reversed(starts)]
    figures = pl.concat([sweep(market.between(*bound), [parameters]).drop("configuration") for bound in bounds])
    dates = pl.DataFrame(bounds, schema={"start": pl.Int64, "end": pl.Int64}, orient="row").cast(TIMESTAMP)
    return pl.concat([dates, figures], how="horizontal")


def _run_rows(market: Market, rows: npt.NDArray[np.void], first: int, step: int, sums: FloatArray) -> None:
    """Run each `step`-th configuration from `first` on, and write its sums: (n, curve figures and totals)."""
    curves = np.empty((4, market.times_ms.size))
    fills = np.empty((0, len(FILL_COLUMNS)))
    totals = np.empty(len(TOTALS))
    for row in range(first, rows.size, step):
        # Without the interpreter's lock, so that threads run side by side.
        run_account(*market.arrays, rows, row, curves, fills, totals)
        _add_up(curves[EQUITY], curves[GROSS], rows["initial_equity"][row], sums[row])
        sums[row, len(_CURVE_FIGURES) :] = totals


@njit(cache=True, nogil=True, error_model="numpy")
def _add_up(equity: FloatArray, gross: FloatArray, initial_equity: float, sums: FloatArray) -> None:
    """The sums over the bars that figures need, in the order of `_CURVE_FIGURES`; (bars,)."""
    before = highest = initial_equity
    total = squares = downside = deepest = exposure = worth = 0.0
    shown = 0
    for bar in range(equity.size):
        now = equity[bar]
        change = (now - before) / before if before > 0.0 else 0.0
        total += change
        squares += change * change
        downside += min(change, 0.0) ** 2
        highest = max(highest, now)
        deepest = min(deepest, now / highest - 1.0)
        if now > 0.0 or gross[bar] == 0.0:
            shown += 1
            exposure += gross[bar] / now if gross[bar] > 0.0 else 0.0
        worth += now
        before = now
    sums[0], sums[1], sums[2], sums[3] = total, squares, downside, deepest
    sums[4], sums[5] = exposure / max(shown, 1), worth / equity.size


def _figures(sums: FloatArray, initial_equity: FloatArray, market: Market) -> pl.DataFrame:
    """Ratios from sums; undefined ones null, as in `.metrics`."""
    by_name = dict(zip((*_CURVE_FIGURES, *TOTALS), sums.T, strict=True))
    bars, per_year = market.times_ms.size, market.timeframe.bars_per_year
    mean = by_name["return_sum"] / bars
    spread = np.maximum(by_name["return_squares"] - bars * mean**2, 0.0) / max(bars - 1, 1)
    deviation, downside = np.sqrt(spread), np.sqrt(by_name["downside_squares"] / bars)
    total = by_name["cash"] / initial_equity - 1.0
    growth = np.log1p(np.maximum(total, -1.0 + 1e-15)) * per_year / bars
    annual = np.where((total > -1.0) & (growth < 700.0), np.expm1(np.minimum(growth, 700.0)), np.nan)
    root = math.sqrt(per_year)
    columns: dict[str, FloatArray] = {
        "final_equity": by_name["cash"],
        "total_return": total,
        "sharpe": _ratio(mean * root, deviation),
        "sortino": _ratio(mean * root, downside),
        "volatility": deviation * root,
        "max_drawdown": by_name["max_drawdown"],
        "calmar": _ratio(annual, -by_name["max_drawdown"]),
        "hit_rate": _ratio(by_name["winning_trades"], by_name["trades"]),
        "profit_factor": _ratio(by_name["gains"], by_name["losses"]),
        "turnover": _ratio(by_name["traded"], by_name["equity_mean"]),
        **{name: by_name[name] for name in ("traded", "exposure", "trades", "fills")},
        **{f"{name}_paid": by_name[name] for name in ("fees", "slippage", "funding")},
        **{name: by_name[name] for name in ("liquidations", "stopped_days")},
    }
    return pl.DataFrame(columns).with_columns(pl.all().fill_nan(None)).with_columns(pl.col(_COUNTS).cast(pl.Int64))


def _ratio(values: FloatArray, by: FloatArray) -> FloatArray:
    """NaN where the divisor is 0, but for rounding."""
    ratios = np.full(values.shape, np.nan)
    np.divide(values, by, out=ratios, where=by > 1e-15)
    return ratios


def _differences(configurations: Sequence[BacktestParameters]) -> pl.DataFrame:
    """Their number, and the parameters in which they differ; a sizing rule by its parameters that differ."""
    flat = []
    for parameters in configurations:
        fields = parameters.model_dump()
        sizing = fields.pop("sizing")
        flat.append(fields | {"sizing": "fixed" if sizing is None else "kelly"} | (sizing or {}))
    names = {name for fields in flat for name in fields}
    values = {name: [fields.get(name) for fields in flat] for name in sorted(names)}
    differing = {name: column for name, column in values.items() if any(value != column[0] for value in column)}
    return pl.DataFrame({"configuration": range(len(configurations)), **differing})
