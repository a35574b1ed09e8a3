"""What acting on the forecasts of a trial would have earned after costs, day by day: fast, and deliberately simple.

It ranks trials and feeds the lifetime ledger. Whether a model may be traded is told by `levibot_core.backtest`, which
fills at the next open and keeps an account; here a position is entered at the decision's close, held for the horizon
and costs fees and slippage on both sides.

The policy: act on a row where its edge, |2p - 1| times the mean absolute forward return of its symbol over the train
rows, exceeds the cost of a round trip; otherwise stay flat. One position per symbol at a time, each with an equal share
of the money. It needs the probability of a rise: where labels are triple barriers it never acts, because a profit that
is not reached says nothing about the other side.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np
import polars as pl

from levibot_core.labels.definition import TripleBarrierLabel
from levibot_core.models.metrics import log_losses
from levibot_core.risk.policy import CostAwarePolicy

ROUND_TRIP_COST: Final = CostAwarePolicy().round_trip_cost
"""Of the position, as the policy has it by default."""
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class PolicyRows:
    """The rows that a trial's forecasts are acted on, in any order; arrays of shape (n,).

    Attributes:
        symbols: Code of the symbol, int64.
        decided_ms: When the forecast is made, UTC milliseconds.
        settled_ms: When the position is closed, UTC milliseconds.
        forward_returns: Return from the one to the other, fraction.
        expected_moves: How far the symbol moves over the horizon on average, fraction, known beforehand.
    """

    symbols: np.ndarray
    decided_ms: np.ndarray
    settled_ms: np.ndarray
    forward_returns: np.ndarray
    expected_moves: np.ndarray

    @property
    def days(self) -> list[date]:
        """Every UTC day from the first decision to the last settlement."""
        first, last = int(self.decided_ms.min()) // _DAY_MS, int(self.settled_ms.max()) // _DAY_MS
        start = datetime.fromtimestamp(first * _DAY_MS / 1000, UTC).date()
        return [start + timedelta(days=place) for place in range(last - first + 1)]


def policy_rows(
    rows: pl.DataFrame, train: pl.DataFrame, triple_barrier: TripleBarrierLabel | None = None
) -> PolicyRows:
    """The rows to act on, with the moves that the train rows let expect.

    Args:
        rows: symbol, known_at, label_end and forward_return.
        train: symbol and forward_return. A symbol that is not among them is expected not to move.
        triple_barrier: The barriers of the label; with them no move is expected, so that nothing is ever acted on.
    """
    names = sorted(rows["symbol"].unique())
    known = train if triple_barrier is None else train.clear()
    moves = [_mean_move(known.filter(pl.col("symbol") == name)["forward_return"]) for name in names]
    codes = {name: code for code, name in enumerate(names)}
    symbols = np.array([codes[name] for name in rows["symbol"]], dtype=np.int64)
    return PolicyRows(
        symbols=symbols,
        decided_ms=rows["known_at"].dt.epoch("ms").to_numpy(),
        settled_ms=rows["label_end"].dt.epoch("ms").to_numpy(),
        forward_returns=rows["forward_return"].cast(pl.Float64).to_numpy(),
        expected_moves=np.array(moves)[symbols],
    )


def daily_returns(probabilities: np.ndarray, rows: PolicyRows) -> np.ndarray:
    """Return of the whole money on each of `rows.days` after costs, float64 (days,), 0 on days without a settlement.

    Args:
        probabilities: Of a rise, (n,).
        rows: What is acted on; a position's result counts on the UTC day it is settled.
    """
    days = np.zeros(len(rows.days))
    first_day = int(rows.decided_ms.min()) // _DAY_MS
    wanted = np.abs(2.0 * probabilities - 1.0) * rows.expected_moves > ROUND_TRIP_COST
    symbols = np.unique(rows.symbols)
    for symbol in symbols:
        places = np.flatnonzero(wanted & (rows.symbols == symbol))
        entered = _one_at_a_time(places[np.argsort(rows.decided_ms[places], kind="stable")], rows)
        sides = np.where(probabilities[entered] > 0.5, 1.0, -1.0)
        earned = sides * rows.forward_returns[entered] - ROUND_TRIP_COST
        np.add.at(days, rows.settled_ms[entered] // _DAY_MS - first_day, earned / symbols.size)
    return days


def sharpe_per_day(returns: np.ndarray) -> float:
    """Mean over standard deviation (ddof 1) of daily returns, (days,), not annualised; 0 where nothing ever varies."""
    if returns.size < 2 or float(np.ptp(returns)) == 0.0:
        return 0.0
    return float(returns.mean() / returns.std(ddof=1))


def profit_weighted_log_loss(probabilities: np.ndarray, labels: np.ndarray, forward_returns: np.ndarray) -> float:
    """Log loss in nats, each row counting as far as its price then moved: being wrong where it was dear counts more.

    Args:
        probabilities: Of a rise, (n,).
        labels: 1 for a rise, else 0; (n,).
        forward_returns: Fractions, (n,). Where all are 0, every row counts the same.
    """
    weights = np.abs(forward_returns)
    losses = log_losses(probabilities, labels)
    return float(np.average(losses, weights=weights)) if weights.sum() > 0.0 else float(losses.mean())


def _mean_move(returns: pl.Series) -> float:
    # Not a mean of Polars, whose threads add in any order: the last bit is part of a study's identity.
    return float(np.abs(returns.cast(pl.Float64).to_numpy()).mean()) if returns.len() else 0.0


def _one_at_a_time(places: np.ndarray, rows: PolicyRows) -> np.ndarray:
    """Of the places of one symbol in order of time, those entered: the first, then the first after it was settled."""
    following = np.searchsorted(rows.decided_ms[places], rows.settled_ms[places], side="left")
    entered, place = [], 0
    while place < places.size:
        entered.append(places[place])
        place = int(max(following[place], place + 1))
    return np.array(entered, dtype=np.int64)
