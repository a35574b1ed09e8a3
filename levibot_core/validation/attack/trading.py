"""The attack on a backtest: positions at or before an instant stay when later forecasts and prices change.

Beside it, every trade is held against its definition by other means than the engine: taken after the forecast that
asked for it, at the next bar's open and a worse price.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from levibot_core.backtest.engine import BacktestParameters, BacktestResult
from levibot_core.schemas import TIMESTAMP
from levibot_core.validation.attack.bits import differences, utc
from levibot_core.validation.leak_report import LeakCheck, verdict

Trading = Callable[[pl.DataFrame, pl.DataFrame], BacktestResult]
"""From candles (symbol, ts, open, close, known_at) and forecasts (symbol, ts, known_at, prob_up) to a backtest."""

_PRICES = ("open", "close")
_Change = Callable[[pl.DataFrame, pl.DataFrame, int, np.random.Generator], tuple[pl.DataFrame, pl.DataFrame]]


def _all_rise(
    candles: pl.DataFrame, forecasts: pl.DataFrame, instant_ms: int, _: object
) -> tuple[pl.DataFrame, pl.DataFrame]:
    return candles, _forecast_later(forecasts, instant_ms, 1.0)


def _all_fall(
    candles: pl.DataFrame, forecasts: pl.DataFrame, instant_ms: int, _: object
) -> tuple[pl.DataFrame, pl.DataFrame]:
    return candles, _forecast_later(forecasts, instant_ms, 0.0)


def _noisy(
    candles: pl.DataFrame, forecasts: pl.DataFrame, instant_ms: int, random: np.random.Generator
) -> tuple[pl.DataFrame, pl.DataFrame]:
    factors = pl.Series(random.lognormal(0.0, 0.2, candles.height))
    prices = [pl.when(_later(instant_ms)).then(pl.col(name) * factors).otherwise(name).alias(name) for name in _PRICES]
    probabilities = pl.Series(random.random(forecasts.height))
    return candles.with_columns(prices), forecasts.with_columns(
        prob_up=pl.when(_later(instant_ms)).then(probabilities).otherwise("prob_up")
    )


def _cut(
    candles: pl.DataFrame, forecasts: pl.DataFrame, instant_ms: int, _: object
) -> tuple[pl.DataFrame, pl.DataFrame]:
    return candles.filter(~_later(instant_ms)), forecasts.filter(~_later(instant_ms))


_CHANGES: Mapping[str, _Change] = {
    "forecast to rise": _all_rise,
    "forecast to fall": _all_fall,
    "noise": _noisy,
    "cut off": _cut,
}


def attack_positions(
    trade: Trading,
    candles: pl.DataFrame,
    forecasts: pl.DataFrame,
    instants_ms: Sequence[int],
    random: np.random.Generator,
) -> LeakCheck:
    """Change prices and forecasts known after each instant and compare the account before it.

    Compared are the equity at every bar closed before the instant, side and quantity of the position held in every
    such bar, and the side taken at the instant itself; its price is the next open, which is not known yet.

    Args:
        trade: The backtest under attack.
        candles: symbol, ts, open, close, known_at: the bars it trades on.
        forecasts: symbol, ts, known_at, prob_up: what it trades by.
        instants_ms: Decision times within the window, UTC milliseconds.
        random: Draws prices and forecasts.
    """
    found: list[str] = []
    compared = 0
    whole = trade(candles, forecasts)
    for instant in instants_ms:
        equity, positions, taken = _account_by(whole, candles, instant)
        for words, change in _CHANGES.items():
            altered, expected = change(candles, forecasts, instant, random)
            when = f"when what follows {utc(instant)} is {words}"
            other_equity, other_positions, other_taken = _account_by(trade(altered, expected), altered, instant)
            found += differences(equity, other_equity, ("ts",), ("equity", "cash"), when)
            found += differences(positions, other_positions, ("symbol", "ts"), ("side", "quantity"), when)
            if words != "cut off":
                found += differences(taken, other_taken, ("symbol", "ts"), ("side",), when)
            compared += positions.height
    return verdict(
        "positions_ignore_the_future",
        found,
        f"{compared:,} positions kept their bits under {len(_CHANGES)} kinds of change at {len(instants_ms)} instants",
    )


def _account_by(
    result: BacktestResult, candles: pl.DataFrame, instant_ms: int
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Equity closed before the instant, positions in bars closed by then, and those in the bar that opens then."""
    held = positions_by_bar(result, candles)
    opened = pl.col("ts").dt.epoch("ms")
    equity = result.strategy.equity.filter(opened < instant_ms)
    return equity, held.filter(opened + result.timeframe.milliseconds <= instant_ms), held.filter(opened == instant_ms)


def positions_by_bar(result: BacktestResult, candles: pl.DataFrame) -> pl.DataFrame:
    """What the strategy held in each bar: symbol, ts (open time), side (-1.0, 0.0 or 1.0) and quantity, sorted."""
    trades = result.strategy.trades.select(
        "symbol",
        pl.col("entry_ts").alias("ts"),
        "exit_ts",
        "quantity",
        side=pl.when(pl.col("side") == "long").then(1.0).otherwise(-1.0),
    ).sort("symbol", "ts")
    bars = candles.select("symbol", "ts").sort("symbol", "ts")
    held = bars.join_asof(trades, on="ts", by="symbol", check_sortedness=False)
    open_still = pl.col("ts") < pl.col("exit_ts")
    return held.select(
        "symbol",
        "ts",
        *(pl.when(open_still).then(name).otherwise(0.0).alias(name) for name in ("side", "quantity")),
    )


def check_fills(result: BacktestResult, candles: pl.DataFrame, forecasts: pl.DataFrame) -> LeakCheck:
    """Every position follows the forecast of the bar before, and is taken at the next open at a worse price.

    Args:
        result: The backtest.
        candles: symbol, ts, open, close: the bars as they were, not as the engine was given them.
        forecasts: symbol, ts, prob_up: what was forecast at the close of each bar.
    """
    wanted = _wanted_sides(candles, forecasts, result.parameters)
    held = positions_by_bar(result, candles).join(wanted, on=["symbol", "ts"])
    found = list(_fill_problems(result, candles))
    if wrong := held.filter(pl.col("side") != pl.col("wanted")).height:
        found.append(f"{wrong} positions are not what the forecast of the bar before asked for")
    return verdict(
        "fills_follow_their_forecasts",
        found,
        f"{held.height:,} positions follow the forecast of the bar before; {result.strategy.trades.height:,} trades "
        "were entered at the next open and a worse price",
    )


def _wanted_sides(candles: pl.DataFrame, forecasts: pl.DataFrame, parameters: BacktestParameters) -> pl.DataFrame:
    """The side each bar's position should have: the signal at the close of the symbol's bar before."""
    probability = pl.col("prob_up")
    signal = (
        pl.when(probability >= parameters.long_threshold)
        .then(1.0)
        .when(probability <= parameters.short_threshold)
        .then(-1.0)
        .otherwise(0.0)
    )
    bars = candles.select("symbol", "ts").sort("symbol", "ts")
    signals = bars.join(
        forecasts.select("symbol", "ts", "prob_up"), on=["symbol", "ts"], how="left", maintain_order="left"
    )
    return signals.select("symbol", "ts", wanted=signal.shift(1, fill_value=0.0).over("symbol"))


def _fill_problems(result: BacktestResult, candles: pl.DataFrame) -> Iterator[str]:
    direction = pl.when(pl.col("side") == "long").then(1.0).otherwise(-1.0)
    opens = candles.select("symbol", pl.col("ts").alias("entry_ts"), "open")
    entries = result.strategy.trades.join(opens, on=["symbol", "entry_ts"], how="left")
    due = pl.col("open") * (1.0 + direction * result.parameters.slippage)
    if wrong := entries.filter(pl.col("entry_price").ne_missing(due)).height:
        yield f"{wrong} of {entries.height} trades are not entered at the open of their bar and a worse price"


def trading_window(candles: pl.DataFrame, start_ms: int) -> pl.DataFrame:
    """The bars of finite prices that open at or after an instant, with what the attack needs."""
    finite = pl.all_horizontal(pl.col(_PRICES).is_finite())
    start = pl.lit(start_ms, dtype=pl.Int64).cast(TIMESTAMP)
    return candles.filter(finite & (pl.col("ts") >= start)).select("symbol", "ts", *_PRICES, "known_at")


def _later(instant_ms: int) -> pl.Expr:
    return pl.col("known_at").dt.epoch("ms") > instant_ms


def _forecast_later(forecasts: pl.DataFrame, instant_ms: int, probability: float) -> pl.DataFrame:
    return forecasts.with_columns(prob_up=pl.when(_later(instant_ms)).then(probability).otherwise("prob_up"))
