"""What is where in the arrays of the compiled engine: planes of a market, curves, fills and totals of a run, its book.

Numba freezes these numbers into what it compiles, and looks at `simulation_kernel.py` alone to see whether that is
stale: a change here goes with one there.
"""

from typing import Final

OPEN, HIGH, LOW, LAST, TRADED, FORECAST, VOLATILITY, DECIDED = range(8)
"""Planes of a market, float64 (8, bars, symbols). Without a bar, the open is NaN, high and low are the last price,
traded value and volatility are those of the symbol's latest bar; the last price is 0 before the first bar. `DECIDED` is
the symbol's latest bar so far, -1 before the first."""
EQUITY, CASH, GROSS, BUDGET = range(4)
"""Curves of a run, float64 (4, bars), at every close: the budget is that of the decisions made there."""
SIGNAL, STOP, LIQUIDATION, END = range(4)
"""Why a fill happened, as numbers in the table of fills."""
FILL_COLUMNS: Final = (
    "bar",
    "symbol",
    "quantity",
    "price",
    "reference_price",
    "fee",
    "position_after",
    "funding",
    "reason",
)
"""Columns of the table of fills; `funding` is what the symbol paid since its fill before."""
TOTALS: Final = (
    "cash",
    "fees",
    "slippage",
    "funding",
    "traded",
    "fills",
    "trades",
    "winning_trades",
    "gains",
    "losses",
    "liquidations",
    "stopped_days",
)
"""What is summed up over a run, in the order of the vector of totals."""
MONEY, FEES, SLIPPAGE, FUNDING, VALUE, FILLS, TRADES, WON, GAINS, LOSSES, LIQUIDATIONS, STOPS = range(len(TOTALS))
"""Their places in it."""
POSITION, GOAL, LEFT, WAITING, TRADE_CASH, PAID = range(6)
"""Rows of the book, float64 (6, symbols): signed quantity, side gone for, what is left to open, whether something is to
be filled, what came in since the symbol was flat, and funding paid since its last fill."""
