"""Whether a backtest did better than entering at random times: the same forecasts, moved against the prices.

All forecasts are moved along the bars by one random distance; those pushed out at the end come in at the start. The
exposure, the holding times and what symbols have in common stay; only the timing is gone. The share of such runs that
did as well is a p-value: B. Phipson and G. Smyth, "Permutation p-values should never be zero", 2010, section 2.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from levibot_core.backtest.simulation_layout import FORECAST
from levibot_core.backtest.simulation_market import Market
from levibot_core.backtest.simulation_parameters import BacktestParameters
from levibot_core.backtest.sweep import sweep
from levibot_core.errors import ConfigurationError, DataQualityError

DRAWS: Final = 200
_NEAREST: Final = 0.01
"""Of the bars: a smaller move would leave some of the timing."""


@dataclass(frozen=True, slots=True)
class RandomEntries:
    """A backtest among random ones.

    Attributes:
        p_value: (1 + runs that returned at least as much) / (1 + runs): small where the timing was worth something.
        total_return: Of the backtest, fraction.
        random_returns: Of the random runs, sorted, (draws,).
    """

    p_value: float
    total_return: float
    random_returns: tuple[float, ...]


def random_entry_significance(
    market: Market, parameters: BacktestParameters, draws: int = DRAWS, seed: int = 0
) -> RandomEntries:
    """Run the backtest, and again with its forecasts moved by random distances.

    Args:
        market: What is traded, with the forecasts to judge.
        parameters: How.
        draws: Random runs; the smallest possible p-value is 1 / (draws + 1).
        seed: Draws the distances.

    Raises:
        ConfigurationError: there is no draw.
        DataQualityError: there are fewer than 100 bars, or as `sweep`.
    """
    bars = market.times_ms.size
    if draws < 1:
        raise ConfigurationError(f"Expected a random run at least, was {draws}.")
    if bars < 1 / _NEAREST:
        raise DataQualityError(f"Expected 100 bars or more to move forecasts over, was {bars}. Take a longer window.")
    nearest = int(bars * _NEAREST)
    distances = np.random.default_rng(seed).integers(nearest, bars - nearest + 1, draws)
    observed = sweep(market, [parameters])["total_return"].item()
    planes = market.arrays.planes.copy()
    moved = replace(market, arrays=market.arrays._replace(planes=planes))
    returns = []
    for distance in distances.tolist():
        planes[FORECAST] = np.roll(market.arrays.planes[FORECAST], distance, axis=0)
        returns.append(float(sweep(moved, [parameters])["total_return"].item()))
    as_good = sum(value >= observed for value in returns)
    return RandomEntries((1 + as_good) / (1 + draws), float(observed), tuple(sorted(returns)))
