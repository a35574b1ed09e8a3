"""The compiled engine: one account, all symbols, one pass over the bars. Specified in docs/backtest.md.

Nothing here checks its inputs; `.simulation` and `.simulation_market` do. Numbers of events refer to the specification.
Everything is passed as a few plain arrays: counting the references of many costs more than the simulation.
"""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba import njit

from levibot_core.backtest import simulation_layout as at
from levibot_core.backtest.simulation_parameters import LARGEST_SLIP
from levibot_core.backtest.unowned_arrays import unowned

FloatArray = npt.NDArray[np.float64]

_BOUND_SLACK: Final = 1e-9


@njit(cache=True, nogil=True, error_model="numpy")
def run_account(  # type: ignore[no-untyped-def]
    planes, whole, reach, days, funding_bars, funding, configurations, row, curves, fills, totals
):
    """Run one account.

    Args:
        planes: The market, float64 (8, bars, symbols).
        whole: Whether every symbol has every bar.
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
    planes, curves = unowned(planes), unowned(curves)
    fills, totals = unowned(fills), unowned(totals)
    kept = np.zeros((6, symbols))
    book = unowned(kept)
    latency = rules.latency_bars
    totals[:] = 0.0
    totals[at.MONEY] = equity = day_equity = rules.initial_equity
    stopped, counts_from, settlement = False, 0, 0
    for bar in range(bars):
        if bar == 0 or days[bar] != days[bar - 1]:
            day_equity, stopped = equity, False
        settles = settlement < funding_bars.size and funding_bars[settlement] == bar
        if settles:
            _pay(book, totals, funding[settlement, 0])
        if bar >= latency:
            _order(planes, whole, rules, book, curves, fills, totals, bar, bar - latency, counts_from, equity)
        if settles:
            _pay(book, totals, funding[settlement, 1])
            settlement += 1
        value, gross = _valued(planes, book, bar, at.LAST, at.LAST)
        equity = totals[at.MONEY] + value
        if gross > 0.0 and _may_be_liquidated(rules, reach[bar], equity, gross):
            value, worst = _valued(planes, book, bar, at.LOW, at.HIGH)
            if totals[at.MONEY] + value <= rules.maintenance_margin * worst:
                _close_all(planes, rules, book, fills, totals, bar, at.LOW, at.HIGH, at.LIQUIDATION)
                counts_from, equity, gross = bar, totals[at.MONEY], 0.0
        if bar == bars - 1:
            _close_all(planes, rules, book, fills, totals, bar, at.LAST, at.LAST, at.END)
            equity, gross = totals[at.MONEY], 0.0
        if not stopped and rules.daily_loss_limit <= 1.0 and equity <= (1.0 - rules.daily_loss_limit) * day_equity:
            stopped = True
            totals[at.STOPS] += 1.0
        curves[at.EQUITY, bar], curves[at.CASH, bar], curves[at.GROSS, bar] = equity, totals[at.MONEY], gross
        curves[at.BUDGET, bar] = _budget(rules, equity, stopped)


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
        if book[at.POSITION, symbol] != 0.0:
            paid = book[at.POSITION, symbol] * per_unit[symbol]
            totals[at.MONEY] -= paid
            totals[at.FUNDING] += paid
            book[at.TRADE_CASH, symbol] -= paid
            book[at.PAID, symbol] += paid


@njit(inline="always")
def _order(  # type: ignore[no-untyped-def]
    planes, whole, rules, book, curves, fills, totals, bar, source, counts_from, equity
):
    """Event 3: decisions that take effect, and what is still to be filled."""
    for symbol in range(book.shape[1]):
        decision = source if whole else int(planes[at.DECIDED, source, symbol])
        side = 0
        if decision >= counts_from and curves[at.BUDGET, decision] > 0.0:
            probability = planes[at.FORECAST, decision, symbol]
            side = int(probability >= rules.long_threshold) - int(probability <= rules.short_threshold)
        if side == book[at.GOAL, symbol] and book[at.WAITING, symbol] == 0.0:
            continue
        if decision >= 0 and not math.isnan(planes[at.OPEN, bar, symbol]):
            budget = curves[at.BUDGET, decision]
            if side != book[at.GOAL, symbol]:
                _set_goal(planes, rules, book, bar, symbol, decision, side, budget, equity)
            if book[at.WAITING, symbol] != 0.0:
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
            belief, volatility = planes[at.FORECAST, decision, symbol], planes[at.VOLATILITY, decision, symbol]
            share = _kelly_share(rules, belief, side, volatility)
        amount = min(min(share, rules.symbol_cap) * budget, _room(planes, rules, book, bar, symbol, equity))
        if amount <= 0.0:
            side, amount = 0, 0.0
    if side != 0 or book[at.GOAL, symbol] != 0.0:
        book[at.GOAL, symbol] = side
        book[at.LEFT, symbol] = amount
        book[at.WAITING, symbol] = 1.0


@njit(inline="always")
def _room(planes, rules, book, bar, symbol, equity):  # type: ignore[no-untyped-def]
    """What the limits on positions and leverage leave for a symbol, quote currency."""
    others, committed = 0, 0.0
    for other in range(book.shape[1]):
        if other != symbol and (book[at.POSITION, other] != 0.0 or book[at.GOAL, other] != 0.0):
            others += 1
            committed += abs(book[at.POSITION, other]) * planes[at.LAST, bar - 1, other] + book[at.LEFT, other]
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
    held, goal = book[at.POSITION, symbol], book[at.GOAL, symbol]
    against = held * goal < 0.0 or (goal == 0.0 and held != 0.0)
    if not against and book[at.LEFT, symbol] == 0.0:
        book[at.WAITING, symbol] = 0.0
        return
    traded = planes[at.TRADED, bar, symbol]
    if traded == 0.0:
        return
    direction = goal if not against else -1.0 if held > 0.0 else 1.0
    maker = rules.maker and not forced
    reference = planes[at.OPEN, bar, symbol]
    if maker:
        reference *= 1.0 - direction * rules.maker_offset
        low, high = planes[at.LOW, bar, symbol], planes[at.HIGH, bar, symbol]
        if not (low < reference if direction > 0.0 else high > reference):
            return
    room = rules.participation_cap * traded
    closed, completed = (abs(held), True) if against else (0.0, True)
    if closed * reference > room:
        closed, completed = room / reference, False
    opened = min(book[at.LEFT, symbol], room - closed * reference) if completed else 0.0
    slip, fee = 0.0, rules.maker_fee
    if not maker:
        slip = _slip(rules, closed * reference + opened, traded, planes[at.VOLATILITY, decision, symbol])
        fee = rules.taker_fee
    price = reference * (1.0 + direction * slip)
    reason = at.STOP if forced else at.SIGNAL
    if closed > 0.0:
        book[at.POSITION, symbol] = 0.0 if completed else held + direction * closed
        value = direction * (closed * price)
        _fill(book, fills, totals, bar, symbol, direction * closed, value, price, reference, fee, reason)
    if opened > 0.0:
        quantity = direction * (opened / price)
        book[at.POSITION, symbol] += quantity
        book[at.LEFT, symbol] -= opened
        _fill(book, fills, totals, bar, symbol, quantity, direction * opened, price, reference, fee, reason)
    book[at.WAITING, symbol] = 0.0 if completed and book[at.LEFT, symbol] == 0.0 else 1.0


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
    totals[at.MONEY] -= value + fee
    totals[at.FEES] += fee
    totals[at.SLIPPAGE] += abs(quantity) * abs(price - reference)
    totals[at.VALUE] += abs(value)
    book[at.TRADE_CASH, symbol] -= value + fee
    number = int(totals[at.FILLS])
    totals[at.FILLS] += 1.0
    if number < fills.shape[0]:
        fills[number, 0], fills[number, 1], fills[number, 2] = bar, symbol, quantity
        fills[number, 3], fills[number, 4], fills[number, 5] = price, reference, fee
        fills[number, 6], fills[number, 7], fills[number, 8] = book[at.POSITION, symbol], book[at.PAID, symbol], reason
    book[at.PAID, symbol] = 0.0
    if book[at.POSITION, symbol] == 0.0:
        _end_trade(book, totals, symbol)


@njit(inline="always")
def _end_trade(book: FloatArray, totals: FloatArray, symbol: int) -> None:
    gain = book[at.TRADE_CASH, symbol]
    book[at.TRADE_CASH, symbol] = 0.0
    totals[at.TRADES] += 1.0
    if gain > 0.0:
        totals[at.WON] += 1.0
        totals[at.GAINS] += gain
    else:
        totals[at.LOSSES] -= gain


@njit(inline="always")
def _valued(planes, book, bar, longs_at, shorts_at):  # type: ignore[no-untyped-def]
    """Worth of the positions at those planes' prices, and the sum of their sizes."""
    value = gross = 0.0
    for symbol in range(book.shape[1]):
        held = book[at.POSITION, symbol]
        if held > 0.0:
            worth = held * planes[longs_at, bar, symbol]
            value += worth
            gross += worth
        elif held < 0.0:
            worth = held * planes[shorts_at, bar, symbol]
            value += worth
            gross -= worth
    return value, gross


@njit(cache=True, nogil=True, error_model="numpy")
def _close_all(  # type: ignore[no-untyped-def]
    planes, rules, book, fills, totals, bar, longs_at, shorts_at, reason
):
    """Close everything as a taker at those planes' prices, whatever the volume; nothing is gone for any more."""
    if reason == at.LIQUIDATION:
        totals[at.LIQUIDATIONS] += 1.0
    for symbol in range(book.shape[1]):
        held = book[at.POSITION, symbol]
        book[at.GOAL, symbol] = book[at.LEFT, symbol] = book[at.WAITING, symbol] = 0.0
        if held != 0.0:
            reference = planes[longs_at if held > 0.0 else shorts_at, bar, symbol]
            volatility = planes[at.VOLATILITY, bar, symbol]
            slip = _slip(rules, abs(held) * reference, planes[at.TRADED, bar, symbol], volatility)
            price = reference * (1.0 - slip if held > 0.0 else 1.0 + slip)
            book[at.POSITION, symbol] = 0.0
            _fill(book, fills, totals, bar, symbol, -held, -held * price, price, reference, rules.taker_fee, reason)
