"""The compiled engine against the oracle, and its books against themselves."""

import numpy as np
from hypothesis import given, settings

from levibot_core.backtest.simulation import Simulation
from levibot_core.backtest.simulation_layout import LAST
from tests.unit.backtest.cases import CENT, Case, cases, differences

_FEW = settings(deadline=None, max_examples=60, derandomize=True)


@given(cases())
@_FEW
def test_both_engines_agree_to_the_cent_on_every_fill_and_at_every_close(case: Case) -> None:
    assert differences(case.simulated(), case.by_oracle()) == []


@given(cases())
@_FEW
def test_equity_is_what_was_there_gained_and_paid_at_every_bar(case: Case) -> None:
    simulation = case.simulated()

    equity = _equity_by_the_books(simulation)

    assert np.abs(equity - simulation.equity).max() < CENT * max(1.0, np.abs(simulation.equity).max() / 1e7)


def _equity_by_the_books(simulation: Simulation) -> np.ndarray:
    """First equity + gain at reference prices - fees - slippage - funding, from fills and last prices alone."""
    last = simulation.market.arrays.planes[LAST]
    bars, symbols = last.shape
    held, earned, costs = np.zeros((bars, symbols)), np.zeros(bars), np.zeros(bars)
    codes = {symbol: code for code, symbol in enumerate(simulation.market.symbols)}
    for fill in simulation.fills().iter_rows(named=True):
        after = slice(fill["bar"], None)
        held[after, codes[fill["symbol"]]] += fill["quantity"]
        earned[after] -= fill["quantity"] * fill["reference_price"]
        costs[after] += fill["fee"] + abs(fill["quantity"]) * abs(fill["price"] - fill["reference_price"])
    arrays = simulation.market.arrays
    before = np.vstack([np.zeros((1, symbols)), held[:-1]])
    for bar, per_unit in zip(arrays.funding_bars, arrays.funding, strict=True):
        # Settlements within a bar are paid before a liquidation or the end closes the position.
        late = _closed_late(simulation, int(bar), codes)
        costs[bar:] += float((before[bar] * per_unit[0]).sum() + ((held[bar] - late) * per_unit[1]).sum())
    return np.asarray(simulation.parameters.initial_equity + earned + (held * last).sum(axis=1) - costs)


def _closed_late(simulation: Simulation, bar: int, codes: dict[str, int]) -> np.ndarray:
    closed = np.zeros(len(codes))
    for fill in simulation.fills().iter_rows(named=True):
        if fill["bar"] == bar and fill["reason"] in ("liquidation", "end"):
            closed[codes[fill["symbol"]]] += fill["quantity"]
    return closed
