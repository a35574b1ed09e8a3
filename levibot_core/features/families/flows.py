"""Sums that weigh against each other: rises against falls, volume up against down, volume against its usual."""

from collections.abc import Mapping

import numpy as np

from levibot_core.features import folds
from levibot_core.features.families.kernel import Inputs, Kernel, Parameters, whole_window
from levibot_core.features.folds import FloatArray
from levibot_core.features.series import WindowedSeries


def _gains_and_losses(change: WindowedSeries, window: int) -> tuple[FloatArray, FloatArray]:
    span = change.span(window)
    return folds.window_sum(np.maximum(span, 0.0), window), folds.window_sum(np.maximum(-span, 0.0), window)


def _rsi(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (change,) = inputs
    gains, losses = _gains_and_losses(change, window)
    return 100.0 * gains / (gains + losses)


def _gain_share(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (change,) = inputs
    gains, losses = _gains_and_losses(change, window)
    return gains / (gains + losses)


def _mean_ratio(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (values,) = inputs
    return values.now / values.mean(window)


def _rise_share(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (direction,) = inputs
    # Directions are -1, 0 and 1: their sum and the sum of their squares count rises and falls without rounding.
    return 0.5 * (direction.sum(window) + direction.squared_sum(window)) / window


def _rise_balance(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (direction,) = inputs
    return direction.sum(window) / window


def _ratio_of_sums(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    part, whole = inputs
    return part.sum(window) / whole.sum(window)


def _weighted_price_gap(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    close, traded_value, volume = inputs
    return close.now * volume.sum(window) / traded_value.sum(window) - 1.0


FLOWS: Mapping[str, Kernel] = {
    "rsi": Kernel(_rsi, whole_window, 1),
    "gain_share": Kernel(_gain_share, whole_window, 1),
    "mean_ratio": Kernel(_mean_ratio, whole_window, 1),
    "rise_share": Kernel(_rise_share, whole_window, 1),
    "rise_balance": Kernel(_rise_balance, whole_window, 1),
    "ratio_of_sums": Kernel(_ratio_of_sums, whole_window, 2),
    "weighted_price_gap": Kernel(_weighted_price_gap, whole_window, 3),
}
