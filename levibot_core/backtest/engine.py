"""An event-by-event backtest of several symbols in one portfolio: slow, obvious, and free of look-ahead.

A forecast made at the close of a bar is traded at the open of the next bar there is, at a worse price and for a fee.
What the result is worth is computed in `levibot_core.backtest.metrics`, drawn in `.report`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from levibot_core.errors import DataQualityError
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP

Side = Literal[-1, 0, 1]
Signal = Callable[[str, int], Side]
Curve = Sequence[tuple[int, float, float, float | None]]


class BacktestParameters(BaseModel):
    """What a backtest assumes. Shares are fractions, not percent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    long_threshold: float = Field(0.55, gt=0, lt=1, description="Long from this probability up")
    short_threshold: float = Field(0.45, gt=0, lt=1, description="Short from this probability down")
    taker_fee: float = Field(0.0015, ge=0, description="Of the notional of each fill")
    slippage: float = Field(0.0005, ge=0, lt=1, description="How much worse than the open a fill is")
    equity_fraction: float = Field(0.10, gt=0, le=1, description="Equity put into each trade")
    initial_equity: float = Field(10_000.0, gt=0, description="Quote currency")

    @model_validator(mode="after")
    def _leave_a_band_between(self) -> Self:
        if self.short_threshold >= self.long_threshold:
            raise ValueError(f"expected short below long threshold, was {self.short_threshold}, {self.long_threshold}")
        return self


@dataclass(frozen=True, slots=True)
class Account:
    """One simulated account.

    Attributes:
        equity: One row per bar: `ts` (its close, UTC), `equity`, `cash` (quote currency), `exposure` (gross position
            over equity, null while that is not positive) and `drawdown` (below the highest equity so far, 0 or
            negative, fraction).
        trades: One row per round trip, by exit: `symbol`, `side` (long or short), `entry_ts`, `entry_price`,
            `exit_ts`, `exit_price` (UTC, quote currency, after slippage), `quantity` (base currency), `notional`,
            `gross_pnl` (at the bars' own prices), `fees`, `slippage_cost`, `net_pnl` (quote currency), `return`
            (net over notional) and `bars_held`.
    """

    equity: pl.DataFrame
    trades: pl.DataFrame


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """The strategy's account, and that of buying at the first fill and holding to the end at the same costs."""

    strategy: Account
    buy_and_hold: Account
    parameters: BacktestParameters
    timeframe: Timeframe
    symbols: tuple[str, ...]


def run_backtest(
    candles: pl.DataFrame, predictions: pl.DataFrame, timeframe: Timeframe, parameters: BacktestParameters
) -> BacktestResult:
    """Trade the forecasts.

    At the close of each bar a symbol's target is long, short or flat by its forecast, and flat without one. Where the
    target differs from the position, the position is closed and the target opened at the next bar's open: never at
    the bar that made the signal; after a gap, at the first bar there is. A position is 10 % of the equity at its
    decision and is not resized. What is open at the end is closed at the last close, at the same costs.
    An account without equity left closes what is open and takes no side.

    Args:
        candles: `symbol`, `ts` (open time), `open`, `close`; one row per symbol and bar of the window to trade.
        predictions: `symbol`, `ts` (open time of the bar at whose close it is known), `prob_up`; null or NaN is no
            forecast, and rows outside the window are ignored.
        timeframe: Length of a bar.
        parameters: Thresholds, costs and sizes.

    Raises:
        DataQualityError: there are no candles, a price is not a positive number, or a symbol and time is there
            twice, among the candles or the predictions.
    """
    market = _Market.of(candles, timeframe)
    forecasts: dict[tuple[str, int], float | None] = {}
    for symbol, ts, probability in predictions.select("symbol", pl.col("ts").dt.epoch("ms"), "prob_up").iter_rows():
        if (symbol, ts) in forecasts:
            raise DataQualityError(f"Expected one prediction per symbol and time, was two of {symbol} at {ts}.")
        forecasts[symbol, ts] = probability

    def by_forecast(symbol: str, ts: int) -> Side:
        probability = forecasts.get((symbol, ts))
        if probability is None:
            return 0
        if probability >= parameters.long_threshold:
            return 1
        return -1 if probability <= parameters.short_threshold else 0

    # An equal share of the money at the start, the fee included, also for a symbol that comes later.
    equal_share = 1.0 / len(market.symbols) / (1.0 + parameters.taker_fee)
    holding = parameters.model_copy(update={"equity_fraction": equal_share})
    return BacktestResult(
        strategy=_simulate(market, by_forecast, parameters, lambda equity: equity),
        buy_and_hold=_simulate(market, lambda _symbol, _ts: 1, holding, lambda _equity: parameters.initial_equity),
        parameters=parameters,
        timeframe=timeframe,
        symbols=market.symbols,
    )


@dataclass(frozen=True, slots=True)
class _Bar:
    open: float
    close: float


@dataclass(frozen=True, slots=True)
class _Market:
    """Bars by time, then by symbol; times rise."""

    bars: Mapping[int, Mapping[str, _Bar]]
    symbols: tuple[str, ...]
    step_ms: int

    @classmethod
    def of(cls, candles: pl.DataFrame, timeframe: Timeframe) -> "_Market":
        if candles.is_empty():
            raise DataQualityError("Expected candles to trade on, was none. Take a longer window.")
        bars: dict[int, dict[str, _Bar]] = {}
        rows = candles.select("symbol", pl.col("ts").dt.epoch("ms"), "open", "close").sort("ts", "symbol")
        for symbol, ts, opened, closed in rows.iter_rows():
            at_once = bars.setdefault(ts, {})
            if symbol in at_once:
                raise DataQualityError(f"Expected one candle per symbol and time, was two of {symbol} at {ts}.")
            if not (_is_price(opened) and _is_price(closed)):
                raise DataQualityError(
                    f"Expected positive prices, was {opened} and {closed} of {symbol} at {ts}. Check the candles."
                )
            at_once[symbol] = _Bar(opened, closed)
        return cls(bars, tuple(sorted(candles["symbol"].unique())), timeframe.milliseconds)


@dataclass(slots=True)
class _Position:
    side: Side
    quantity: float
    bar_price: float
    """Price of the bar at entry, before slippage."""
    fill_price: float
    fee: float
    entry_ms: int
    bars_held: int = 0


@dataclass(frozen=True, slots=True)
class _Order:
    side: Side
    money: float
    """Of which the position takes its fraction; set at the decision."""


@dataclass(slots=True)
class _State:
    """An account under way."""

    parameters: BacktestParameters
    cash: float
    positions: dict[str, _Position] = field(default_factory=dict)
    closes: dict[str, float] = field(default_factory=dict)
    trades: list[dict[str, object]] = field(default_factory=list)

    @property
    def equity(self) -> float:
        return self.cash + sum(
            position.side * position.quantity * self.closes[symbol] for symbol, position in self.positions.items()
        )

    @property
    def gross(self) -> float:
        return sum(position.quantity * self.closes[symbol] for symbol, position in self.positions.items())

    def side(self, symbol: str) -> Side:
        position = self.positions.get(symbol)
        return position.side if position else 0

    def fill(self, symbol: str, order: _Order, price: float, ts: int) -> None:
        """Close what is open and open what is ordered, at that price of the bar."""
        if order.side == self.side(symbol):
            return
        if symbol in self.positions:
            self.close(symbol, price, ts)
        if order.side:
            fill_price = price * (1.0 + order.side * self.parameters.slippage)
            notional = self.parameters.equity_fraction * order.money
            quantity, fee = notional / fill_price, notional * self.parameters.taker_fee
            self.cash -= order.side * notional + fee
            self.positions[symbol] = _Position(order.side, quantity, price, fill_price, fee, ts)

    def close(self, symbol: str, price: float, ts: int) -> None:
        """Close a position at that price of the bar, less slippage and fee."""
        position = self.positions.pop(symbol)
        fill_price = price * (1.0 - position.side * self.parameters.slippage)
        proceeds = position.quantity * fill_price
        fee = proceeds * self.parameters.taker_fee
        self.cash += position.side * proceeds - fee
        gross = position.side * position.quantity * (price - position.bar_price)
        slipped = position.quantity * (abs(position.fill_price - position.bar_price) + abs(fill_price - price))
        net = gross - slipped - position.fee - fee
        notional = position.quantity * position.fill_price
        self.trades.append(
            {
                "symbol": symbol,
                "side": "long" if position.side > 0 else "short",
                "entry_ts": position.entry_ms,
                "entry_price": position.fill_price,
                "exit_ts": ts,
                "exit_price": fill_price,
                "quantity": position.quantity,
                "notional": notional,
                "gross_pnl": gross,
                "fees": position.fee + fee,
                "slippage_cost": slipped,
                "net_pnl": net,
                "return": net / notional,
                "bars_held": position.bars_held,
            }
        )


_TRADES = pl.Schema(
    {
        "symbol": pl.String(),
        "side": pl.String(),
        "entry_ts": pl.Int64(),
        "entry_price": pl.Float64(),
        "exit_ts": pl.Int64(),
        "exit_price": pl.Float64(),
        "quantity": pl.Float64(),
        "notional": pl.Float64(),
        "gross_pnl": pl.Float64(),
        "fees": pl.Float64(),
        "slippage_cost": pl.Float64(),
        "net_pnl": pl.Float64(),
        "return": pl.Float64(),
        "bars_held": pl.Int64(),
    }
)


def _is_price(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def _simulate(
    market: _Market, signal: Signal, parameters: BacktestParameters, sized_on: Callable[[float], float]
) -> Account:
    """Run one account; `sized_on` gives, from the equity at a decision, the money a position takes its fraction of."""
    state = _State(parameters, cash=parameters.initial_equity)
    orders: dict[str, _Order] = {}
    curve: list[tuple[int, float, float, float | None]] = []
    for ts, bars in market.bars.items():
        for symbol, bar in bars.items():
            order = orders.pop(symbol, None)
            if order is not None:
                state.fill(symbol, order, bar.open, ts)
            state.closes[symbol] = bar.close
            if symbol in state.positions:
                state.positions[symbol].bars_held += 1
        equity = state.equity
        for symbol in bars:
            orders[symbol] = _Order(signal(symbol, ts) if equity > 0 else 0, sized_on(equity))
        curve.append((ts + market.step_ms, equity, state.cash, state.gross / equity if equity > 0 else None))
    end = curve[-1][0]
    for symbol in tuple(state.positions):
        state.close(symbol, state.closes[symbol], end)
    curve[-1] = (end, state.cash, state.cash, 0.0)
    return Account(_equity_frame(curve, parameters), _trades_frame(state.trades))


def _equity_frame(curve: Curve, parameters: BacktestParameters) -> pl.DataFrame:
    frame = pl.DataFrame(
        curve, schema={"ts": pl.Int64, "equity": pl.Float64, "cash": pl.Float64, "exposure": pl.Float64}, orient="row"
    )
    highest = pl.col("equity").cum_max().clip(lower_bound=parameters.initial_equity)
    return frame.with_columns(pl.col("ts").cast(TIMESTAMP), drawdown=pl.col("equity") / highest - 1.0)


def _trades_frame(trades: Sequence[Mapping[str, object]]) -> pl.DataFrame:
    return pl.DataFrame(trades, schema=_TRADES).with_columns(pl.col("entry_ts", "exit_ts").cast(TIMESTAMP))
