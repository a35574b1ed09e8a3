"""The compiled engine: one account, all symbols, one pass over the bars. Specified in docs/backtest.md.

Nothing here checks its inputs; `.simulation` and `.simulation_market` do. Numbers of events refer to the specification.
Everything is passed as a few plain arrays: counting the references of many costs more than the simulation.
"""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from levibot_core.backtest.simulation_parameters import LARGEST_SLIP

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

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

_MONEY, _FEES, _SLIPPAGE, _FUNDING, _VALUE, _FILLS, _TRADES, _WON, _GAINS, _LOSSES, _LIQUIDATIONS, _STOPS = range(12)
_POSITION, _GOAL, _LEFT, _WAITING, _TRADE_CASH, _PAID = range(6)
"""Rows of the book, float64 (6, symbols): signed quantity, side gone for, what is left to open, whether something is to
be filled, what came in since the symbol was flat, and funding paid since its last fill."""
_BOUND_SLACK: Final = 1e-9


def _disown(_typing: Any, array: Any) -> Any:
    def build(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        view = make_array(array)(context, builder, arguments[0])  # type: ignore[no-untyped-call]
        view.meminfo = cgutils.get_null_value(view.meminfo.type)  # type: ignore[no-untyped-call]
        return view._getvalue()

    return array(array), build


_unowned: Any = intrinsic(_disown)
"""The same array, whose references are not counted; whoever calls has to keep it alive."""


@njit(cache=True, nogil=True)
def run_account(  # type: ignore[no-untyped-def]
    planes, reach, days, funding_bars, funding, configurations, row, curves, fills, totals
):
    """Run one account.

    Args:
        planes: The market, float64 (8, bars, symbols).
        reach: How far a high or low is from the close of its bar at most, fraction of the close, (bars,).
        days: UTC day that the bar opens in, int64 (bars,).
        funding_bars: Bars with settlements, rising, int64 (k,).
        funding: Quote currency that a unit held long pays, (k, 2, symbols): up to the open, and within the bar.
        configurations: dtype `CONFIGURATION`, (n,).
        row: Which of them.
        curves: To write, float64 (4, bars).
        fills: Table to write, float64 (capacity, len(FILL_COLUMNS)); fills beyond the capacity are counted, not kept.
        totals: Vector to write, float64 (len(TOTALS),).
    """
    rules = configurations[row]
    bars, symbols = planes.shape[1:]
    # The same memory without an owner: counting references at every call would take longer than all the rest.
    planes = _unowned(planes)
    curves = _unowned(curves)
    fills = _unowned(fills)
    totals = _unowned(totals)
    kept = np.zeros((6, symbols))
    book = _unowned(kept)
    latency = rules.latency_bars
    totals[:] = 0.0
    totals[_MONEY] = equity = day_equity = rules.initial_equity
    stopped, counts_from, settlement = False, 0, 0
    for bar in range(bars):
        if bar == 0 or days[bar] != days[bar - 1]:
            day_equity, stopped = equity, False
        settles = settlement < funding_bars.size and funding_bars[settlement] == bar
        if settles:
            _pay(book, totals, funding[settlement, 0])
        if bar >= latency:
            _order(planes, rules, book, curves, fills, totals, bar, bar - latency, counts_from, equity)
        if settles:
            _pay(book, totals, funding[settlement, 1])
            settlement += 1
        value, gross = _valued(planes, book, bar, LAST, LAST)
        equity = totals[_MONEY] + value
        if gross > 0.0 and _may_be_liquidated(rules, reach[bar], equity, gross):
            value, worst = _valued(planes, book, bar, LOW, HIGH)
            if totals[_MONEY] + value <= rules.maintenance_margin * worst:
                _close_all(planes, rules, book, fills, totals, bar, LOW, HIGH, LIQUIDATION)
                counts_from, equity, gross = bar, totals[_MONEY], 0.0
        if bar == bars - 1:
            _close_all(planes, rules, book, fills, totals, bar, LAST, LAST, END)
            equity, gross = totals[_MONEY], 0.0
        if not stopped and rules.daily_loss_limit <= 1.0 and equity <= (1.0 - rules.daily_loss_limit) * day_equity:
            stopped = True
            totals[_STOPS] += 1.0
        curves[EQUITY, bar], curves[CASH, bar], curves[GROSS, bar] = equity, totals[_MONEY], gross
        curves[BUDGET, bar] = _budget(rules, equity, stopped)


@njit(inline="always")
def _budget(rules: Any, equity: float, stopped: bool) -> float:
    """Event 7."""
    if stopped or equity <= 0.0:
        return 0.0
    return float(equity if rules.compounding else rules.initial_equity)


@njit(inline="always")
def _may_be_liquidated(rules: Any, reach: float, equity: float, gross: float) -> bool:
    """A bound on event 5: to look at every high and low takes as long as all the rest."""
    margin = rules.maintenance_margin
    return bool(margin >= 0.0 and equity - gross * reach <= gross * (margin * (1.0 + reach) + _BOUND_SLACK))


@njit(inline="always")
def _pay(book: FloatArray, totals: FloatArray, per_unit: FloatArray) -> None:
    """Events 2 and 4: settle what a unit pays, (symbols,)."""
    for symbol in range(per_unit.size):
        if book[_POSITION, symbol] != 0.0:
            paid = book[_POSITION, symbol] * per_unit[symbol]
            totals[_MONEY] -= paid
            totals[_FUNDING] += paid
            book[_TRADE_CASH, symbol] -= paid
            book[_PAID, symbol] += paid


@njit(inline="always")
def _order(  # type: ignore[no-untyped-def]
    planes, rules, book, curves, fills, totals, bar, source, counts_from, equity
):
    """Event 3: decisions that take effect, and what is still to be filled."""
    for symbol in range(book.shape[1]):
        decision = int(planes[DECIDED, source, symbol])
        side = 0
        if decision >= counts_from and curves[BUDGET, decision] > 0.0:
            probability = planes[FORECAST, decision, symbol]
            side = int(probability >= rules.long_threshold) - int(probability <= rules.short_threshold)
        if side == book[_GOAL, symbol] and book[_WAITING, symbol] == 0.0:
            continue
        if decision >= 0 and not math.isnan(planes[OPEN, bar, symbol]):
            budget = curves[BUDGET, decision]
            if side != book[_GOAL, symbol]:
                _set_goal(planes, rules, book, bar, symbol, decision, side, budget, equity)
            if book[_WAITING, symbol] != 0.0:
                _trade(planes, rules, book, fills, totals, bar, symbol, decision, budget == 0.0)


@njit(inline="always")
def _set_goal(  # type: ignore[no-untyped-def]
    planes, rules, book, bar, symbol, decision, side, budget, equity
):
    """Event 3.2: what a new side opens after all limits; flat if nothing."""
    amount = 0.0
    if side != 0:
        share = rules.equity_fraction
        if rules.kelly:
            share = _kelly_share(rules, planes[FORECAST, decision, symbol], side, planes[VOLATILITY, decision, symbol])
        amount = min(min(share, rules.symbol_cap) * budget, _room(planes, rules, book, bar, symbol, equity))
        if amount <= 0.0:
            side, amount = 0, 0.0
    if side != 0 or book[_GOAL, symbol] != 0.0:
        book[_GOAL, symbol] = side
        book[_LEFT, symbol] = amount
        book[_WAITING, symbol] = 1.0


@njit(inline="always")
def _room(planes, rules, book, bar, symbol, equity):  # type: ignore[no-untyped-def]
    """What the limits on positions and leverage leave for a symbol, quote currency."""
    others, committed = 0, 0.0
    for other in range(book.shape[1]):
        if other != symbol and (book[_POSITION, other] != 0.0 or book[_GOAL, other] != 0.0):
            others += 1
            committed += abs(book[_POSITION, other]) * planes[LAST, bar - 1, other] + book[_LEFT, other]
    if others >= rules.max_positions:
        return 0.0
    return rules.max_leverage * equity - committed if rules.max_leverage < math.inf else math.inf


@njit(inline="always")
def _kelly_share(rules: Any, probability_up: float, side: int, volatility: float) -> float:
    """The share of `levibot_core.risk.sizing.SizingRule.size`, without its sign; volatility of a bar, fraction."""
    winning = probability_up if side > 0 else 1.0 - probability_up
    kelly = min(max(winning - (1.0 - winning) / rules.payoff, 0.0), 1.0)
    confidence_scale = 0.5 + 0.5 * abs(2.0 * winning - 1.0)
    annual = volatility * rules.annual_root
    if annual == 0.0:
        scale = rules.standstill_scale
    elif annual * rules.most_volatility_scale <= rules.volatility_target:
        scale = rules.most_volatility_scale
    else:
        scale = max(rules.volatility_target / annual, rules.least_volatility_scale)
    return float(min(rules.kelly_cap, rules.kelly_fraction * kelly * scale * confidence_scale))


@njit(inline="always")
def _trade(  # type: ignore[no-untyped-def]
    planes, rules, book, fills, totals, bar, symbol, decision, forced
):
    """Events 3.3 to 3.6: close what is against the goal, then open what is left."""
    held, goal = book[_POSITION, symbol], book[_GOAL, symbol]
    against = held * goal < 0.0 or (goal == 0.0 and held != 0.0)
    if not against and book[_LEFT, symbol] == 0.0:
        book[_WAITING, symbol] = 0.0
        return
    traded = planes[TRADED, bar, symbol]
    if traded == 0.0:
        return
    direction = goal if not against else -1.0 if held > 0.0 else 1.0
    maker = rules.maker and not forced
    reference = planes[OPEN, bar, symbol]
    if maker:
        reference *= 1.0 - direction * rules.maker_offset
        if not _trades_through(planes, bar, symbol, direction, reference):
            return
    room = rules.participation_cap * traded
    closed, completed = (abs(held), True) if against else (0.0, True)
    if closed * reference > room:
        closed, completed = room / reference, False
    opened = min(book[_LEFT, symbol], room - closed * reference) if completed else 0.0
    slip, fee = 0.0, rules.maker_fee
    if not maker:
        slip = _slip(rules, closed * reference + opened, traded, planes[VOLATILITY, decision, symbol])
        fee = rules.taker_fee
    price = reference * (1.0 + direction * slip)
    reason = STOP if forced else SIGNAL
    if closed > 0.0:
        book[_POSITION, symbol] = 0.0 if completed else held + direction * closed
        value = direction * (closed * price)
        _fill(book, fills, totals, bar, symbol, direction * closed, value, price, reference, fee, reason)
    if opened > 0.0:
        quantity = direction * (opened / price)
        book[_POSITION, symbol] += quantity
        book[_LEFT, symbol] -= opened
        _fill(book, fills, totals, bar, symbol, quantity, direction * opened, price, reference, fee, reason)
    book[_WAITING, symbol] = 0.0 if completed and book[_LEFT, symbol] == 0.0 else 1.0


@njit(inline="always")
def _trades_through(planes: FloatArray, bar: int, symbol: int, direction: float, limit: float) -> bool:
    if direction > 0.0:
        return bool(planes[LOW, bar, symbol] < limit)
    return bool(planes[HIGH, bar, symbol] > limit)


@njit(inline="always")
def _slip(rules: Any, value: float, traded: float, volatility: float) -> float:
    """How much worse than the reference price, fraction."""
    if rules.impact == 0.0:
        return float(rules.slippage)
    participation = min(1.0, value / traded) if traded > 0.0 else 1.0
    return float(min(LARGEST_SLIP, rules.slippage + rules.impact * volatility * math.sqrt(participation)))


@njit(inline="always")
def _fill(  # type: ignore[no-untyped-def]
    book, fills, totals, bar, symbol, quantity, value, price, reference, fee_rate, reason
):
    """Move the money of a fill whose position is already moved; `value` is signed like `quantity`."""
    fee = abs(value) * fee_rate
    totals[_MONEY] -= value + fee
    totals[_FEES] += fee
    totals[_SLIPPAGE] += abs(quantity) * abs(price - reference)
    totals[_VALUE] += abs(value)
    book[_TRADE_CASH, symbol] -= value + fee
    number = int(totals[_FILLS])
    totals[_FILLS] += 1.0
    if number < fills.shape[0]:
        fills[number, 0], fills[number, 1], fills[number, 2] = bar, symbol, quantity
        fills[number, 3], fills[number, 4], fills[number, 5] = price, reference, fee
        fills[number, 6], fills[number, 7] = book[_POSITION, symbol], book[_PAID, symbol]
        fills[number, 8] = reason
    book[_PAID, symbol] = 0.0
    if book[_POSITION, symbol] == 0.0:
        _end_trade(book, totals, symbol)


@njit(inline="always")
def _end_trade(book: FloatArray, totals: FloatArray, symbol: int) -> None:
    gain = book[_TRADE_CASH, symbol]
    book[_TRADE_CASH, symbol] = 0.0
    totals[_TRADES] += 1.0
    if gain > 0.0:
        totals[_WON] += 1.0
        totals[_GAINS] += gain
    else:
        totals[_LOSSES] -= gain


@njit(inline="always")
def _valued(  # type: ignore[no-untyped-def]
    planes, book, bar, longs_at, shorts_at
):
    """Worth of the positions at those planes' prices, and the sum of their sizes."""
    value = gross = 0.0
    for symbol in range(book.shape[1]):
        held = book[_POSITION, symbol]
        if held > 0.0:
            worth = held * planes[longs_at, bar, symbol]
            value += worth
            gross += worth
        elif held < 0.0:
            worth = held * planes[shorts_at, bar, symbol]
            value += worth
            gross -= worth
    return value, gross


@njit(inline="always")
def _close_all(  # type: ignore[no-untyped-def]
    planes, rules, book, fills, totals, bar, longs_at, shorts_at, reason
):
    """Close everything as a taker at those planes' prices, whatever the volume; nothing is gone for any more."""
    if reason == LIQUIDATION:
        totals[_LIQUIDATIONS] += 1.0
    for symbol in range(book.shape[1]):
        held = book[_POSITION, symbol]
        book[_GOAL, symbol] = book[_LEFT, symbol] = book[_WAITING, symbol] = 0.0
        if held != 0.0:
            reference = planes[longs_at if held > 0.0 else shorts_at, bar, symbol]
            volatility = planes[VOLATILITY, bar, symbol]
            slip = _slip(rules, abs(held) * reference, planes[TRADED, bar, symbol], volatility)
            price = reference * (1.0 - slip if held > 0.0 else 1.0 + slip)
            book[_POSITION, symbol] = 0.0
            _fill(book, fills, totals, bar, symbol, -held, -held * price, price, reference, rules.taker_fee, reason)
