"""One configuration or many with the platform's engine: funding, partial fills, impact, stop, limits, liquidation."""

from pathlib import Path

from benchmarks.backtest_inputs import configurations, read_market
from benchmarks.worker import Arguments, Task, serve
from levibot_core.backtest.engine import account_of
from levibot_core.backtest.simulation import simulate
from levibot_core.backtest.sweep import sweep


def prepare(arguments: Arguments) -> Task:
    """Arguments: `market` (file), `configurations`, `threads`, and `tables` to make the tables of equity and trades."""
    market = read_market(Path(arguments["market"]))
    count, threads = int(arguments["configurations"]), int(arguments["threads"])
    chosen = configurations(count)
    if arguments.get("tables"):
        return Task(run=lambda: account_of(simulate(market, chosen[0])), describe=lambda _: {"configurations": 1})
    if count == 1:
        return Task(
            run=lambda: simulate(market, chosen[0]),
            describe=lambda run: {
                "configurations": 1,
                "orders": run.fill_table.shape[0],
                "filled_in_parts": int(run.totals["fills"] - 2 * run.totals["trades"]),
                "funding": round(run.totals["funding"], 2),
                "stopped_days": int(run.totals["stopped_days"]),
            },
            facts={"bars": market.times_ms.size * len(market.symbols)},
            packages=("numpy", "numba"),
        )
    return Task(
        run=lambda: sweep(market, chosen, threads),
        describe=lambda figures: {"configurations": figures.height, "orders": int(figures["fills"].sum())},
        packages=("numpy", "numba", "polars"),
    )


if __name__ == "__main__":
    serve(prepare)
