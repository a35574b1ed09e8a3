"""The least a backtest can be: a loop that holds what the forecast says, with a fee and slippage, and nothing else."""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from benchmarks.backtest_inputs import thresholds
from benchmarks.worker import Arguments, Task, serve

FloatArray = npt.NDArray[np.float64]


@njit(nogil=True)
def hold_forecasts(
    opens: FloatArray,
    closes: FloatArray,
    forecasts: FloatArray,
    long: float,
    short: float,
    fee: float,
    slippage: float,
    fraction: float,
    cash: float,
    equity: FloatArray,
) -> int:
    """Write the equity at every close, (bars,), and return the number of orders; inputs are (bars, symbols)."""
    bars, symbols = opens.shape
    quantities, sides = np.zeros(symbols), np.zeros(symbols)
    orders, worth = 0, cash
    for bar in range(bars):
        for symbol in range(symbols):
            if bar == 0:
                continue
            forecast = forecasts[bar - 1, symbol]
            side = 1.0 if forecast >= long else -1.0 if forecast <= short else 0.0
            if side == sides[symbol]:
                continue
            price = opens[bar, symbol]
            if sides[symbol] != 0.0:
                value = quantities[symbol] * price * (1.0 - sides[symbol] * slippage)
                cash += value - abs(value) * fee
                quantities[symbol] = 0.0
                orders += 1
            if side != 0.0:
                amount = fraction * worth
                quantities[symbol] = side * amount / (price * (1.0 + side * slippage))
                cash -= side * amount + amount * fee
                orders += 1
            sides[symbol] = side
        worth = cash
        for symbol in range(symbols):
            worth += quantities[symbol] * closes[bar, symbol]
        equity[bar] = worth
    return orders


def prepare(arguments: Arguments) -> Task:
    """Arguments: `market` (file) and `configurations`."""
    with np.load(arguments["market"]) as arrays:
        series = [np.ascontiguousarray(arrays[name]) for name in ("open", "close", "prob_up")]
    count = int(arguments["configurations"])
    limits = thresholds(count)
    equity = np.empty(series[0].shape[0])

    def run() -> Any:
        return [
            hold_forecasts(*series, long, short, 0.0015, 0.0005, 0.1, 10_000.0, equity)
            for long, short in zip(limits.long.tolist(), limits.short.tolist(), strict=True)
        ]

    return Task(
        run=run,
        describe=lambda orders: {"configurations": count, "orders": sum(orders)},
        packages=("numpy", "numba"),
    )


if __name__ == "__main__":
    serve(prepare)
