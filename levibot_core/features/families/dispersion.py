"""How much a series moves about: volatility, bands, scores, and how two series move together."""

import math
from collections.abc import Mapping

import numpy as np

from levibot_core.features.families.kernel import Inputs, Kernel, Parameters, number, whole_window
from levibot_core.features.folds import FloatArray
from levibot_core.features.order_statistics import window_order_statistics


def _realized_volatility(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (returns,) = inputs
    return np.sqrt(returns.squared_sum(window) / window)


def _parkinson_volatility(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (log_range,) = inputs
    return np.sqrt(log_range.squared_sum(window) / window / (4.0 * math.log(2.0)))


def _volatility_rank(inputs: Inputs, window: int, parameters: Parameters) -> FloatArray:
    (returns,) = inputs
    bars = int(number(parameters, "volatility_window"))
    volatility = np.sqrt(returns.extended(window - 1).squared_sum(bars) / bars)
    return window_order_statistics(volatility, window, share=0.5).rank


def _volatility_rank_reach(window: int, parameters: Parameters) -> int:
    return window + int(number(parameters, "volatility_window")) - 1


def _relative_mean(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    values, price = inputs
    return values.mean(window) / price.now


def _relative_deviation(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (values,) = inputs
    return values.deviation(window) / values.now


def _variation(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (values,) = inputs
    return values.deviation(window) / values.mean(window)


def _band_position(inputs: Inputs, window: int, parameters: Parameters) -> FloatArray:
    (values,) = inputs
    half_width = number(parameters, "deviations") * values.deviation(window)
    return (values.now - (values.mean(window) - half_width)) / (2.0 * half_width)


def _zscore(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (values,) = inputs
    return (values.now - values.mean(window)) / values.deviation(window)


def _correlation(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    first, second = inputs
    squares, other_squares, products = first.comoments(second, window)
    correlation: FloatArray = products / (np.sqrt(squares) * np.sqrt(other_squares))
    return correlation


def _beta(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    dependent, explaining = inputs
    moments = dependent.comoments(explaining, window)
    slope: FloatArray = moments[2] / moments[1]
    return slope


DISPERSION: Mapping[str, Kernel] = {
    "realized_volatility": Kernel(_realized_volatility, whole_window, 1),
    "parkinson_volatility": Kernel(_parkinson_volatility, whole_window, 1),
    "volatility_rank": Kernel(_volatility_rank, _volatility_rank_reach, 1, ("volatility_window",)),
    "relative_mean": Kernel(_relative_mean, whole_window, 2),
    "relative_deviation": Kernel(_relative_deviation, whole_window, 1),
    "variation": Kernel(_variation, whole_window, 1),
    "band_position": Kernel(_band_position, whole_window, 1, ("deviations",)),
    "zscore": Kernel(_zscore, whole_window, 1),
    "correlation": Kernel(_correlation, whole_window, 2),
    "beta": Kernel(_beta, whole_window, 2),
}
