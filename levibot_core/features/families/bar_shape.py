"""The shape of a single bar: body, shadows, range, and where its prices lie."""

from collections.abc import Mapping

import numpy as np

from levibot_core.features.families.kernel import Inputs, Kernel, Parameters, one_bar, whole_window
from levibot_core.features.folds import FloatArray


def _bar_range(inputs: Inputs, _: int, __: Parameters) -> FloatArray:
    high, low, close = inputs
    return (high.now - low.now) / close.now


def _close_location(inputs: Inputs, _: int, __: Parameters) -> FloatArray:
    high, low, close = (series.now for series in inputs)
    return np.where(high == low, 0.5, (close - low) / (high - low))


def _upper_shadow(inputs: Inputs, _: int, __: Parameters) -> FloatArray:
    open_, high, close = (series.now for series in inputs)
    return (high - np.maximum(open_, close)) / close


def _lower_shadow(inputs: Inputs, _: int, __: Parameters) -> FloatArray:
    open_, low, close = (series.now for series in inputs)
    return (np.minimum(open_, close) - low) / close


def _price_gap(inputs: Inputs, _: int, __: Parameters) -> FloatArray:
    price, reference = inputs
    return price.now / reference.now - 1.0


def _share_of_range(part: FloatArray, high: FloatArray, low: FloatArray) -> FloatArray:
    """The part as a share of the bar's range; 0 where the bar has none."""
    return np.where(high == low, 0.0, part / (high - low))


def _body_share(inputs: Inputs, _: int, __: Parameters) -> FloatArray:
    open_, high, low, close = (series.now for series in inputs)
    return _share_of_range(close - open_, high, low)


def _upper_shadow_share(inputs: Inputs, _: int, __: Parameters) -> FloatArray:
    open_, high, low, close = (series.now for series in inputs)
    return _share_of_range(high - np.maximum(open_, close), high, low)


def _lower_shadow_share(inputs: Inputs, _: int, __: Parameters) -> FloatArray:
    open_, high, low, close = (series.now for series in inputs)
    return _share_of_range(np.minimum(open_, close) - low, high, low)


def _centre_gap(inputs: Inputs, _: int, __: Parameters) -> FloatArray:
    open_, high, low, close = (series.now for series in inputs)
    return (2.0 * close - high - low) / open_


BAR_SHAPE: Mapping[str, Kernel] = {
    "bar_range": Kernel(_bar_range, whole_window, 3),
    "close_location": Kernel(_close_location, whole_window, 3),
    "upper_shadow": Kernel(_upper_shadow, whole_window, 3),
    "lower_shadow": Kernel(_lower_shadow, whole_window, 3),
    "price_gap": Kernel(_price_gap, one_bar, 2),
    "body_share": Kernel(_body_share, one_bar, 4),
    "upper_shadow_share": Kernel(_upper_shadow_share, one_bar, 4),
    "lower_shadow_share": Kernel(_lower_shadow_share, one_bar, 4),
    "centre_gap": Kernel(_centre_gap, one_bar, 4),
}
