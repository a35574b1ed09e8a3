"""The same forecasts with vectorbt's `Portfolio.from_signals`: next open, fee, slippage, three symbols on shared cash.

Volume, funding, a daily stop and liquidation it does not have. Both of its engines are asked: numba and Rust.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import vectorbt

from benchmarks.worker import Arguments, Task, serve


def prepare(arguments: Arguments) -> Task:
    """Arguments: `market` (file), `long` and `short` (thresholds of every configuration) and `engine`."""
    with np.load(arguments["market"]) as arrays:
        opens, closes, forecasts = (arrays[name] for name in ("open", "close", "prob_up"))
    long, short = (np.array(arguments[name]) for name in ("long", "short"))
    engine = str(arguments["engine"])

    def run() -> Any:
        portfolio = _portfolio(opens, closes, forecasts, long, short, engine)
        return portfolio, portfolio.value()

    return Task(
        run=run,
        describe=lambda result: {"configurations": long.size, "orders": int(result[0].orders.count().sum())},
        facts={"engine": engine},
        packages=("vectorbt", "vectorbt-rust", "numpy", "numba", "pandas"),
    )


def _portfolio(
    opens: npt.NDArray[np.float64],
    closes: npt.NDArray[np.float64],
    forecasts: npt.NDArray[np.float64],
    long: npt.NDArray[np.float64],
    short: npt.NDArray[np.float64],
    engine: str,
) -> Any:
    bars, symbols = opens.shape
    columns = pd.MultiIndex.from_product([range(long.size), range(symbols)], names=["configuration", "symbol"])
    # Known at the close before.
    known = np.vstack([np.full((1, symbols), 0.5), forecasts[:-1]])[:, None, :]
    rises = (known >= long[None, :, None]).reshape(bars, -1)
    falls = (known <= short[None, :, None]).reshape(bars, -1)

    def table(values: npt.NDArray[Any]) -> pd.DataFrame:
        return pd.DataFrame(np.tile(values, (1, long.size)), columns=columns)

    return vectorbt.Portfolio.from_signals(
        table(closes),
        entries=rises,
        exits=~rises,
        short_entries=falls,
        short_exits=~falls,
        price=table(opens),
        size=1_000.0,
        size_type="value",
        fees=0.0015,
        slippage=0.0005,
        # Enough for every order: costs would use up less long before the end.
        init_cash=1_000_000.0,
        cash_sharing=True,
        group_by="configuration",
        freq="5min",
        engine=engine,
    )


if __name__ == "__main__":
    serve(prepare)
