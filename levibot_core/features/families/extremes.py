"""Where a price stands among those of its window: extremes, when they were, ranks and quantiles."""

from collections.abc import Mapping

from levibot_core.features.families.kernel import Inputs, Kernel, Parameters, whole_window
from levibot_core.features.folds import FloatArray

# Of the quantile features; the upper one is at 1 minus this.
_QUANTILE = 0.2


def _range_position(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    high, low, close = inputs
    lowest = low.minimum(window)
    return (close.now - lowest) / (high.maximum(window) - lowest)


def _highest_gap(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    high, close = inputs
    return high.maximum(window) / close.now - 1.0


def _lowest_gap(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    low, close = inputs
    return low.minimum(window) / close.now - 1.0


def _since_highest(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (high,) = inputs
    return high.bars_since_maximum(window) / window


def _since_lowest(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (low,) = inputs
    return low.bars_since_minimum(window) / window


def _order_of_extremes(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    high, low = inputs
    return (low.bars_since_minimum(window) - high.bars_since_maximum(window)) / window


def _rank(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (values,) = inputs
    return values.order_statistics(window, _QUANTILE).rank


def _upper_quantile_gap(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (values,) = inputs
    return values.order_statistics(window, _QUANTILE).upper / values.now - 1.0


def _lower_quantile_gap(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (values,) = inputs
    return values.order_statistics(window, _QUANTILE).lower / values.now - 1.0


EXTREMES: Mapping[str, Kernel] = {
    "range_position": Kernel(_range_position, whole_window, 3),
    "highest_gap": Kernel(_highest_gap, whole_window, 2),
    "lowest_gap": Kernel(_lowest_gap, whole_window, 2),
    "since_highest": Kernel(_since_highest, whole_window, 1),
    "since_lowest": Kernel(_since_lowest, whole_window, 1),
    "order_of_extremes": Kernel(_order_of_extremes, whole_window, 2),
    "rank": Kernel(_rank, whole_window, 1),
    "upper_quantile_gap": Kernel(_upper_quantile_gap, whole_window, 1),
    "lower_quantile_gap": Kernel(_lower_quantile_gap, whole_window, 1),
}
