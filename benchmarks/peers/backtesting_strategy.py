"""The same forecasts with backtesting.py, which knows one symbol: a backtest of each, at the next open, with a fee."""

from typing import Any

import numpy as np
import pandas as pd
from backtesting import Backtest, Strategy

from benchmarks.worker import Arguments, Task, serve

# Whole units only: so much money that rounding does not matter.
_CASH = 1e9


class HoldForecast(Strategy):  # type: ignore[misc]
    """Long, short or flat as the forecast of the bar that just closed says."""

    long = 0.55
    short = 0.45

    def init(self) -> None:
        """Nothing is computed beforehand."""

    def next(self) -> None:
        """Close what the forecast is against, and take its side."""
        forecast = self.data.Forecast[-1]
        side = 1 if forecast >= self.long else -1 if forecast <= self.short else 0
        held = 1 if self.position.is_long else -1 if self.position.is_short else 0
        if side == held:
            return
        if held:
            self.position.close()
        if side > 0:
            self.buy(size=0.1)
        elif side < 0:
            self.sell(size=0.1)


def prepare(arguments: Arguments) -> Task:
    """Arguments: `market` (file), `long` and `short` (thresholds)."""
    with np.load(arguments["market"]) as arrays:
        names = {"Open": "open", "High": "high", "Low": "low", "Close": "close", "Forecast": "prob_up"}
        times = pd.DatetimeIndex(pd.to_datetime(arrays["times"], unit="ms"))
        frames = [
            pd.DataFrame({name: arrays[key][:, symbol] for name, key in names.items()}, index=times)
            for symbol in range(arrays["open"].shape[1])
        ]
    HoldForecast.long, HoldForecast.short = float(arguments["long"][0]), float(arguments["short"][0])
    tests = [Backtest(frame, HoldForecast, cash=_CASH, commission=0.0015, spread=0.0005) for frame in frames]

    def run() -> Any:
        return [test.run() for test in tests]

    return Task(
        run=run,
        describe=lambda stats: {"configurations": 1, "orders": 2 * sum(int(one["# Trades"]) for one in stats)},
        packages=("backtesting", "numpy", "pandas"),
    )


if __name__ == "__main__":
    serve(prepare)
