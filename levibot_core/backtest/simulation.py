"""One run of the compiled engine: a market and parameters in, curves and fills out.

How the run goes is specified in docs/backtest.md; what the result is worth is `.metrics`' business, runs of many
configurations are `.sweep`'s.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from levibot_core.backtest.simulation_kernel import run_account
from levibot_core.backtest.simulation_layout import CASH, EQUITY, FILL_COLUMNS, GROSS, LIQUIDATION, TOTALS
from levibot_core.backtest.simulation_market import Market
from levibot_core.backtest.simulation_parameters import BacktestParameters, configuration_rows
from levibot_core.errors import DataQualityError
from levibot_core.schemas import TIMESTAMP

FloatArray = npt.NDArray[np.float64]

REASONS = ("signal", "stop", "liquidation", "end")
"""Why a fill happened, in the order of the numbers in the table of fills."""
_BARS_PER_FILL = 4
"""Room for one fill in so many bars at first; a run with more fills is done again with room for all."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """What a run left behind.

    Attributes:
        market: What was traded.
        parameters: How.
        equity: At every close, quote currency, (bars,).
        cash: At every close, (bars,).
        gross: Sum of the sizes of all positions at every close, (bars,).
        fill_table: The fills in order, (fills, 9); columns are `simulation_layout.FILL_COLUMNS`.
        totals: Sums over the run by name, see `simulation_layout.TOTALS`.
    """

    market: Market
    parameters: BacktestParameters
    equity: FloatArray
    cash: FloatArray
    gross: FloatArray
    fill_table: FloatArray
    totals: dict[str, float]

    def fills(self) -> pl.DataFrame:
        """Every fill, in order.

        Returns:
            `ts` (UTC; the open of its bar, or the close where it was liquidated or the end came), `symbol`, `bar`,
            `quantity` (signed, base currency), `price`, `reference_price`, `fee`, `position_after`, `funding` (paid
            since the symbol's fill before) and `reason` (signal, stop, liquidation or end).
        """
        table = pl.DataFrame(self.fill_table, schema=dict.fromkeys(FILL_COLUMNS, pl.Float64))
        numbers = table.select(pl.col("bar", "symbol", "reason").cast(pl.Int64))
        bars, reasons = numbers["bar"].to_numpy(), numbers["reason"].to_numpy()
        late = np.where(reasons >= LIQUIDATION, self.market.timeframe.milliseconds, 0)
        return table.select(
            pl.Series("ts", self.market.times_ms[bars] + late, dtype=pl.Int64).cast(TIMESTAMP),
            numbers["symbol"].replace_strict(dict(enumerate(self.market.symbols)), return_dtype=pl.String),
            numbers["bar"],
            "quantity",
            "price",
            "reference_price",
            "fee",
            "position_after",
            "funding",
            numbers["reason"].replace_strict(dict(enumerate(REASONS)), return_dtype=pl.String),
        )


def simulate(market: Market, parameters: BacktestParameters) -> Simulation:
    """Run one account over a market.

    Raises:
        DataQualityError: the parameters need high and low, or the volume, and the market has none.
    """
    check_inputs(market, parameters)
    configurations = configuration_rows([parameters], market.timeframe)
    bars = market.times_ms.size
    curves = np.empty((4, bars))
    totals = np.zeros(len(TOTALS))
    fills = np.empty((bars * len(market.symbols) // _BARS_PER_FILL + 64, len(FILL_COLUMNS)))
    run_account(*market.arrays, configurations, 0, curves, fills, totals)
    summed = dict(zip(TOTALS, totals.tolist(), strict=True))
    if summed["fills"] > fills.shape[0]:
        fills = np.empty((int(summed["fills"]), len(FILL_COLUMNS)))
        run_account(*market.arrays, configurations, 0, curves, fills, totals)
    return Simulation(
        market, parameters, curves[EQUITY], curves[CASH], curves[GROSS], fills[: int(summed["fills"])], summed
    )


def check_inputs(market: Market, parameters: BacktestParameters) -> None:
    """Refuse parameters that need what the market does not have.

    Raises:
        DataQualityError: high and low, or the volume, are missing.
    """
    if parameters.order_kind == "maker" and not market.has_range:
        raise DataQualityError(
            "Expected high and low of every bar for maker orders, was without. Give them, or trade with taker orders."
        )
    if (parameters.participation_cap is not None or parameters.impact > 0.0) and not market.has_volume:
        raise DataQualityError(
            "Expected the volume of every bar for a participation cap or an impact, was without. Give it, or neither."
        )
