"""The backtest once more, slow and obvious: written from docs/backtest.md alone, event after event.

It shares nothing with the compiled engine but the parameters' class and the rule of sizes, and is held against it.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise

import polars as pl

from levibot_core.backtest.engine import BacktestParameters
from levibot_core.market.timeframe import Timeframe

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Bar:
    number: int
    time: int
    open: float
    high: float
    low: float
    close: float
    traded: float
    volatility: float


@dataclass
class Decision:
    bar: int
    probability: float | None
    volatility: float
    budget: float
    void: bool = False


@dataclass(frozen=True)
class Fill:
    bar: int
    symbol: str
    quantity: float
    price: float
    reference: float
    fee: float
    reason: str


@dataclass
class Holding:
    """One symbol of the account."""

    quantity: float = 0.0
    goal: int = 0
    left: float = 0.0
    last: Bar | None = None
    decisions: list[Decision] = field(default_factory=list)

    @property
    def side(self) -> int:
        return (self.quantity > 0) - (self.quantity < 0)

    def worth(self, price: float | None = None) -> float:
        if self.quantity == 0:
            return 0.0
        assert self.last is not None
        return self.quantity * (self.last.close if price is None else price)


@dataclass
class Settlement:
    time: int
    rate: float
    mark: float | None
    paid: bool = False


@dataclass
class Books:
    """What the run leaves behind: every fill, and at every close equity, cash and the size of all positions."""

    fills: list[Fill] = field(default_factory=list)
    equity: list[float] = field(default_factory=list)
    cash: list[float] = field(default_factory=list)
    gross: list[float] = field(default_factory=list)


class Oracle:
    def __init__(
        self,
        candles: pl.DataFrame,
        predictions: pl.DataFrame,
        timeframe: Timeframe,
        parameters: BacktestParameters,
        funding: pl.DataFrame | None = None,
    ) -> None:
        self.rules = parameters
        self.timeframe = timeframe
        self.cash = parameters.initial_equity
        self.day: int | None = None
        self.day_equity = parameters.initial_equity
        self.stopped = False
        self.books = Books()
        self.holdings = {symbol: Holding() for symbol in sorted(candles["symbol"].unique())}
        self.forecasts = {(row["symbol"], _ms(row["ts"])): row["prob_up"] for row in predictions.iter_rows(named=True)}
        given = {(row["symbol"], _ms(row["ts"])): row.get("volatility") for row in predictions.iter_rows(named=True)}
        self.times = sorted({_ms(ts) for ts in candles["ts"]})
        self.bars = self._bars(candles, given)
        self.settlements: dict[str, list[Settlement]] = defaultdict(list)
        for row in funding.sort("ts").iter_rows(named=True) if funding is not None else ():
            self.settlements[row["symbol"]].append(Settlement(_ms(row["ts"]), row["rate"], row.get("mark_price")))

    def _bars(
        self, candles: pl.DataFrame, volatilities: dict[tuple[str, int], float | None]
    ) -> dict[tuple[str, int], Bar]:
        """Bars by symbol and number on the grid."""
        bars = {}
        closes: dict[str, list[float]] = defaultdict(list)
        for row in candles.sort("ts").iter_rows(named=True):
            symbol, time, opened, closed = row["symbol"], _ms(row["ts"]), row["open"], row["close"]
            closes[symbol].append(closed)
            recent = closes[symbol][-49:]
            squares = [math.log(after / before) ** 2 for before, after in pairwise(recent)]
            realised = math.sqrt(sum(squares) / len(squares)) if squares else 0.0
            volatility = volatilities.get((symbol, time))
            number = self.times.index(time)
            bars[symbol, number] = Bar(
                number,
                time,
                opened,
                row.get("high") or max(opened, closed),
                row.get("low") or min(opened, closed),
                closed,
                row["volume"] * (opened + closed) / 2 if "volume" in row else math.inf,
                realised if volatility is None or math.isnan(volatility) else volatility,
            )
        return bars

    @property
    def equity(self) -> float:
        return self.cash + sum(holding.worth() for holding in self.holdings.values())

    def run(self) -> Books:
        for number, time in enumerate(self.times):
            self.begin_day(time)
            self.pay_funding(number, time, up_to=time)
            before = self.books.equity[-1] if self.books.equity else self.rules.initial_equity
            last_prices = {symbol: holding.last.close for symbol, holding in self.holdings.items() if holding.last}
            for symbol in self.holdings:
                if (symbol, number) in self.bars:
                    self.act(symbol, self.bars[symbol, number], before, last_prices)
            self.pay_funding(number, time, up_to=time + self.timeframe.milliseconds - 1)
            if self.rules.maintenance_margin is not None:
                self.liquidate_if_needed(number, self.rules.maintenance_margin)
            for symbol, holding in self.holdings.items():
                holding.last = self.bars.get((symbol, number), holding.last)
            if number == len(self.times) - 1:
                for symbol in self.holdings:
                    self.close_at_any_volume(symbol, number, "end")
            self.decide(number, time)
            self.books.equity.append(self.equity)
            self.books.cash.append(self.cash)
            self.books.gross.append(sum(abs(holding.worth()) for holding in self.holdings.values()))
        return self.books

    def begin_day(self, time: int) -> None:
        if time // DAY_MS != self.day:
            self.day, self.stopped = time // DAY_MS, False
            self.day_equity = self.books.equity[-1] if self.books.equity else self.rules.initial_equity

    def decide(self, number: int, time: int) -> None:
        """The stop, the budget, and a decision of every symbol that has the bar."""
        limit, equity = self.rules.daily_loss_limit, self.equity
        if limit is not None and equity <= (1 - limit) * self.day_equity:
            self.stopped = True
        budget = equity if self.rules.compounding else self.rules.initial_equity
        if self.stopped or equity <= 0:
            budget = 0.0
        for symbol, holding in self.holdings.items():
            bar = self.bars.get((symbol, number))
            if bar is not None:
                forecast = self.forecasts.get((symbol, time))
                holding.decisions.append(Decision(number, forecast, bar.volatility, budget))

    def pay_funding(self, number: int, opened: int, up_to: int) -> None:
        """Pay what is due; at the open (`up_to` is the open) or within the bar."""
        for symbol, settlements in self.settlements.items():
            holding = self.holdings[symbol]
            bar = self.bars.get((symbol, number))
            for settlement in settlements:
                if settlement.paid or settlement.time > up_to:
                    continue
                settlement.paid = True
                if holding.quantity == 0:
                    continue
                assert holding.last is not None or bar is not None
                if settlement.mark is not None:
                    price = settlement.mark
                elif bar is not None and settlement.time >= opened:
                    price = bar.open
                else:
                    price = holding.last.close  # type: ignore[union-attr]
                self.cash -= holding.quantity * price * settlement.rate

    def act(self, symbol: str, bar: Bar, equity_before: float, last_prices: dict[str, float]) -> None:
        holding = self.holdings[symbol]
        ready = [decision for decision in holding.decisions if decision.bar <= bar.number - self.rules.latency_bars]
        if not ready:
            return
        decision = ready[-1]
        side = self.side_of(decision)
        if side != holding.goal:
            amount = self.amount(symbol, decision, side, equity_before, last_prices) if side else 0.0
            if amount <= 0:
                side, amount = 0, 0.0
            holding.goal, holding.left = side, amount
        if bar.traded > 0:
            self.trade(symbol, bar, decision)

    def side_of(self, decision: Decision) -> int:
        if decision.void or decision.budget == 0 or decision.probability is None or math.isnan(decision.probability):
            return 0
        if decision.probability >= self.rules.long_threshold:
            return 1
        return -1 if decision.probability <= self.rules.short_threshold else 0

    def amount(
        self, symbol: str, decision: Decision, side: int, equity_before: float, last_prices: dict[str, float]
    ) -> float:
        rules = self.rules
        share = rules.equity_fraction
        if rules.sizing is not None:
            assert decision.probability is not None
            annual = decision.volatility * math.sqrt(self.timeframe.bars_per_year)
            share = abs(rules.sizing.size(decision.probability, "long" if side > 0 else "short", annual))
        if rules.symbol_cap is not None:
            share = min(share, rules.symbol_cap)
        amount = share * decision.budget
        others = [name for name, other in self.holdings.items() if name != symbol and (other.quantity or other.goal)]
        if rules.max_positions is not None and len(others) >= rules.max_positions:
            return 0.0
        if rules.max_leverage is not None:
            taken = sum(
                abs(self.holdings[name].quantity) * last_prices.get(name, 0.0) + self.holdings[name].left
                for name in others
            )
            amount = min(amount, rules.max_leverage * equity_before - taken)
        return amount

    def trade(self, symbol: str, bar: Bar, decision: Decision) -> None:
        rules, holding = self.rules, self.holdings[symbol]
        must_close = holding.quantity != 0 and holding.side != holding.goal
        if not must_close and holding.left == 0:
            return
        direction = -holding.side if must_close else holding.goal
        stop = decision.budget == 0
        as_maker = rules.order_kind == "maker" and not stop
        if as_maker:
            reference = bar.open * (1 - direction * rules.maker_offset)
            if direction > 0 and bar.low >= reference:
                return
            if direction < 0 and bar.high <= reference:
                return
        else:
            reference = bar.open
        room = math.inf if rules.participation_cap is None else rules.participation_cap * bar.traded
        to_close = abs(holding.quantity) if must_close else 0.0
        all_closed = to_close * reference <= room
        if not all_closed:
            to_close = room / reference
        to_open = min(holding.left, room - to_close * reference) if all_closed else 0.0
        slip = 0.0 if as_maker else self.slip(to_close * reference + to_open, bar.traded, decision.volatility)
        price = reference * (1 + direction * slip)
        rate = rules.maker_fee if as_maker else rules.taker_fee
        reason = "stop" if stop else "signal"
        if to_close > 0:
            self.fill(symbol, bar.number, direction * to_close, price, reference, rate, reason)
            if all_closed:
                holding.quantity = 0.0
        if to_open > 0:
            self.fill(symbol, bar.number, direction * to_open / price, price, reference, rate, reason)
            holding.left = 0.0 if to_open == holding.left else holding.left - to_open

    def slip(self, value: float, traded: float, volatility: float) -> float:
        participation = 0.0 if math.isinf(traded) else 1.0 if traded == 0 else min(1.0, value / traded)
        return min(0.5, self.rules.slippage + self.rules.impact * volatility * math.sqrt(participation))

    def fill(
        self, symbol: str, number: int, quantity: float, price: float, reference: float, rate: float, reason: str
    ) -> None:
        fee = abs(quantity) * price * rate
        self.cash -= quantity * price + fee
        self.holdings[symbol].quantity += quantity
        self.books.fills.append(Fill(number, symbol, quantity, price, reference, fee, reason))

    def liquidate_if_needed(self, number: int, margin: float) -> None:
        worst = {}
        for symbol, holding in self.holdings.items():
            if holding.quantity:
                bar = self.bars.get((symbol, number))
                if bar is None:
                    assert holding.last is not None
                    worst[symbol] = holding.last.close
                else:
                    worst[symbol] = bar.low if holding.quantity > 0 else bar.high
        worths = [self.holdings[symbol].quantity * price for symbol, price in worst.items()]
        if not worths or self.cash + sum(worths) > margin * sum(abs(worth) for worth in worths):
            return
        for symbol, price in worst.items():
            self.close_at_any_volume(symbol, number, "liquidation", price)
        for holding in self.holdings.values():
            holding.goal, holding.left = 0, 0.0
            for decision in holding.decisions:
                decision.void = True

    def close_at_any_volume(self, symbol: str, number: int, reason: str, price: float | None = None) -> None:
        holding = self.holdings[symbol]
        if holding.quantity == 0:
            return
        bar = self.bars.get((symbol, number), holding.last)
        assert bar is not None
        reference = bar.close if price is None else price
        slip = self.slip(abs(holding.quantity) * reference, bar.traded, bar.volatility)
        self.fill(
            symbol,
            number,
            -holding.quantity,
            reference * (1 - holding.side * slip),
            reference,
            self.rules.taker_fee,
            reason,
        )
        holding.quantity = 0.0


def _ms(instant: object) -> int:
    return round(instant.timestamp() * 1000)  # type: ignore[attr-defined]
