from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.labels.definition import TripleBarrierLabel
from levibot_core.models.trial_returns import (
    ROUND_TRIP_COST,
    PolicyRows,
    daily_returns,
    policy_rows,
    profit_weighted_log_loss,
    sharpe_per_day,
)

HOUR_MS, DAY_MS = 3_600_000, 86_400_000
START_MS = 1_735_689_600_000  # 2025-01-01T00:00Z


def rows(
    hours: list[int], returns: list[float], symbols: list[int] | None = None, held: int = 3, move: float = 0.05
) -> PolicyRows:
    decided = START_MS + HOUR_MS * np.array(hours)
    return PolicyRows(
        symbols=np.array(symbols or [0] * len(hours)),
        decided_ms=decided,
        settled_ms=decided + held * HOUR_MS,
        forward_returns=np.array(returns),
        expected_moves=np.full(len(hours), move),
    )


def test_a_position_earns_its_return_less_a_round_trip_on_the_day_it_is_settled() -> None:
    found = daily_returns(np.array([0.9, 0.1]), rows([0, 22], [0.03, -0.02]))
    assert found == pytest.approx([0.03 - 0.004, 0.02 - 0.004])
    assert rows([0, 22], [0.03, -0.02]).days == [date(2025, 1, 1), date(2025, 1, 2)]
    assert pytest.approx(0.004) == ROUND_TRIP_COST


def test_nothing_is_done_where_the_edge_does_not_pay_the_costs() -> None:
    # |2p - 1| of 0.08 at an expected move of 5 % is just the cost of a round trip.
    assert daily_returns(np.array([0.539, 0.461, 0.5]), rows([0, 5, 10], [0.1, 0.1, 0.1])).tolist() == [0.0]
    assert daily_returns(np.array([0.541]), rows([0], [0.1]))[0] > 0.0
    assert daily_returns(np.array([0.99]), rows([0], [0.1], move=0.003)).tolist() == [0.0]


def test_a_symbol_has_one_position_at_a_time_and_an_equal_share() -> None:
    overlapping = rows([0, 1, 2, 3], [0.01, 9.0, 9.0, 0.02])
    assert daily_returns(np.full(4, 0.9), overlapping) == pytest.approx([0.03 - 2 * ROUND_TRIP_COST])
    two = rows([0, 1], [0.01, 0.02], symbols=[0, 1])
    assert daily_returns(np.full(2, 0.9), two) == pytest.approx([(0.03 - 2 * ROUND_TRIP_COST) / 2])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_fast_function_agrees_with_a_plain_loop_in_any_order_of_rows(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 40))
    hours = data.draw(st.lists(st.integers(0, 60), min_size=size, max_size=size))
    symbols = data.draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    unique = sorted({(symbol, hour) for symbol, hour in zip(symbols, hours, strict=True)})
    order = data.draw(st.permutations(range(len(unique))))
    chosen = [unique[place] for place in order]
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    probabilities, returns = random.random(len(chosen)), random.normal(0, 0.02, len(chosen))
    given_rows = rows([hour for _, hour in chosen], returns.tolist(), [symbol for symbol, _ in chosen], held=7)

    expected = np.zeros(len(given_rows.days))
    free_from: dict[int, int] = {}
    first = int(given_rows.decided_ms.min()) // DAY_MS
    for place in sorted(range(len(chosen)), key=lambda place: chosen[place]):
        symbol, p = chosen[place][0], probabilities[place]
        decided, settled = int(given_rows.decided_ms[place]), int(given_rows.settled_ms[place])
        if abs(2 * p - 1) * 0.05 <= ROUND_TRIP_COST or decided < free_from.get(symbol, 0):
            continue
        free_from[symbol] = settled
        earned = (1 if p > 0.5 else -1) * returns[place] - ROUND_TRIP_COST
        expected[settled // DAY_MS - first] += earned / len({symbol for symbol, _ in chosen})
    assert daily_returns(probabilities, given_rows) == pytest.approx(expected)


def test_moves_are_expected_from_the_train_rows_alone() -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    train = pl.DataFrame({"symbol": ["A", "A", "B"], "forward_return": [0.01, -0.03, 0.005]})
    frame = pl.DataFrame(
        {
            "symbol": ["B", "A", "C"],
            "known_at": [start, start, start],
            "label_end": [start + timedelta(hours=1)] * 3,
            "forward_return": [0.5, 0.5, 0.5],
        }
    ).with_columns(pl.col("known_at", "label_end").cast(pl.Datetime("ms", "UTC")))
    found = policy_rows(frame, train)
    assert found.expected_moves == pytest.approx([0.005, 0.02, 0.0])
    assert found.symbols.tolist() == [1, 0, 2]
    # The policy acts on a direction: it stays flat on whatever else is forecast, however sure.
    flat = policy_rows(frame, train, TripleBarrierLabel())
    assert not daily_returns(np.array([0.99, 0.01, 0.99]), flat).any()


def test_a_sharpe_ratio_is_0_for_staying_flat_and_has_the_sign_of_the_mean() -> None:
    assert sharpe_per_day(np.zeros(10)) == sharpe_per_day(np.array([0.1])) == sharpe_per_day(np.empty(0)) == 0.0
    assert sharpe_per_day(np.array([0.01, 0.03])) == pytest.approx(0.02 / np.std([0.01, 0.03], ddof=1))
    assert sharpe_per_day(np.array([-0.01, -0.03])) < 0.0


def test_being_wrong_counts_more_where_it_was_dear() -> None:
    labels, probabilities = np.array([1.0, 0.0]), np.array([0.9, 0.9])
    cheap = profit_weighted_log_loss(probabilities, labels, np.array([0.04, -0.01]))
    dear = profit_weighted_log_loss(probabilities, labels, np.array([0.01, -0.04]))
    assert cheap == pytest.approx(-(0.8 * np.log(0.9) + 0.2 * np.log(0.1)))
    assert dear > cheap
    still = profit_weighted_log_loss(probabilities, labels, np.zeros(2))
    assert still == pytest.approx(-np.log([0.9, 0.1]).mean())
