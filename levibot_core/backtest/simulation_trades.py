"""Round trips from fills: what happened to a symbol from flat to flat, as one row each."""

import numpy as np
import numpy.typing as npt
import polars as pl

from levibot_core.backtest.simulation import REASONS, Simulation
from levibot_core.backtest.simulation_layout import LIQUIDATION, OPEN
from levibot_core.schemas import TIMESTAMP

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def round_trips(simulation: Simulation) -> pl.DataFrame:
    """The trades of a run in the order of their ends; columns as of `levibot_core.backtest.engine.Account.trades`."""
    table = simulation.fill_table
    # By symbol, in order of time: then a trade is consecutive fills.
    order = np.argsort(table[:, 1], kind="stable")
    bars, symbols, quantities, prices, references, fees, after, funding, reasons = table[order].T
    flat_before = np.ones(order.size, dtype=np.bool_)
    flat_before[1:] = (after[:-1] == 0.0) | (symbols[1:] != symbols[:-1])
    starts = np.flatnonzero(flat_before)
    ends = np.append(starts, order.size)[1:] - 1
    trade = np.cumsum(flat_before) - 1
    sizes = np.abs(quantities)
    entering = (quantities > 0.0) == (quantities[starts] > 0.0)[trade]

    def total(values: FloatArray) -> FloatArray:
        return np.bincount(trade, weights=values, minlength=starts.size).astype(np.float64)

    entered, left = total(sizes * entering), total(sizes * ~entering)
    entry_value, exit_value = total(sizes * prices * entering), total(sizes * prices * ~entering)
    entries = np.bincount(trade, weights=entering, minlength=starts.size)
    fills = ends - starts + 1
    sides = quantities[starts] > 0.0
    gross, paid = -total(quantities * references), total(fees)
    slipped, settled = total(sizes * np.abs(prices - references)), total(funding)
    net = gross - paid - slipped - settled
    late = np.asarray(reasons[ends] >= LIQUIDATION)
    entry_bars, exit_bars = bars[starts].astype(np.int64), bars[ends].astype(np.int64)
    columns = symbols[starts].astype(np.int64)
    market = simulation.market
    frame = pl.DataFrame(
        {
            "symbol": np.array(market.symbols)[columns].tolist(),
            "side": np.where(sides, "long", "short").tolist(),
            "entry_ts": market.times_ms[entry_bars],
            # The price itself of a single fill, which dividing would round.
            "entry_price": np.where(entries == 1, prices[starts], entry_value / entered),
            "exit_ts": market.times_ms[exit_bars] + late * market.timeframe.milliseconds,
            "exit_price": np.where(fills - entries == 1, prices[ends], exit_value / left),
            "quantity": entered,
            "notional": entry_value,
            "gross_pnl": gross,
            "fees": paid,
            "slippage_cost": slipped,
            "funding": settled,
            "net_pnl": net,
            "return": net / entry_value,
            "bars_held": _bars_held(simulation, columns, entry_bars, exit_bars + late),
            "fills": fills,
            "exit_reason": [REASONS[int(reason)] for reason in reasons[ends]],
        },
        schema_overrides={"symbol": pl.String, "side": pl.String, "exit_reason": pl.String},
    )
    in_order = frame[np.argsort(order[ends], kind="stable")]
    return in_order.with_columns(pl.col("entry_ts", "exit_ts").cast(TIMESTAMP))


def _bars_held(simulation: Simulation, columns: IntArray, first: IntArray, stop: IntArray) -> IntArray:
    """How many bars of its symbol closed while a trade was held, (trades,)."""
    there = ~np.isnan(simulation.market.arrays.planes[OPEN])
    before = np.concatenate([np.zeros((1, there.shape[1]), dtype=np.int64), np.cumsum(there, axis=0)])
    return np.asarray(before[stop, columns] - before[first, columns])
