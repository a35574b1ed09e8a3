"""Where a price has been going: returns, gaps to averages, fitted lines."""

from collections.abc import Mapping

from levibot_core.features.families.kernel import (
    Inputs,
    Kernel,
    Parameters,
    number,
    whole_window,
    window_and_one,
)
from levibot_core.features.folds import FloatArray
from levibot_core.features.series import WindowedSeries, exponential_mean, time_squares


def _log_return(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (log_price,) = inputs
    return log_price.now - log_price.lagged(window)


def _lagged(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (values,) = inputs
    return values.lagged(window).copy()


def _sma_gap(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (values,) = inputs
    return values.now / values.mean(window) - 1.0


def _mean_difference(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (values,) = inputs
    return values.now - values.mean(window)


def _ema_gap(inputs: Inputs, window: int, parameters: Parameters) -> FloatArray:
    (values,) = inputs
    return values.now / values.exponential_mean(number(parameters, "span"), window) - 1.0


def _macd_line(close: WindowedSeries, window: int, parameters: Parameters) -> FloatArray:
    fast, slow = (close.exponential_mean(number(parameters, name), window) for name in ("fast", "slow"))
    return fast - slow


def _macd_signal_line(close: WindowedSeries, window: int, parameters: Parameters) -> FloatArray:
    length = int(number(parameters, "signal_length"))
    line = _macd_line(close.extended(length - 1), window, parameters)
    return exponential_mean(line, number(parameters, "signal"), length)


def _macd(inputs: Inputs, window: int, parameters: Parameters) -> FloatArray:
    (close,) = inputs
    return _macd_line(close, window, parameters) / close.now


def _macd_signal(inputs: Inputs, window: int, parameters: Parameters) -> FloatArray:
    (close,) = inputs
    return _macd_signal_line(close, window, parameters) / close.now


def _macd_histogram(inputs: Inputs, window: int, parameters: Parameters) -> FloatArray:
    (close,) = inputs
    line = _macd_line(close, window, parameters)
    return (line - _macd_signal_line(close, window, parameters)) / close.now


def _macd_signal_reach(window: int, parameters: Parameters) -> int:
    return window + int(number(parameters, "signal_length")) - 1


def _slope(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (values,) = inputs
    return values.slope(window) / values.now


def _r_squared(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (values,) = inputs
    explained = values.slope(window) / values.deviation(window)
    return explained * explained * (time_squares(window) / window)


def _residual(inputs: Inputs, window: int, _: Parameters) -> FloatArray:
    (values,) = inputs
    fitted = values.mean(window) + values.slope(window) * (0.5 * (window - 1))
    return (values.now - fitted) / values.now


TREND: Mapping[str, Kernel] = {
    "log_return": Kernel(_log_return, window_and_one, 1),
    "lagged": Kernel(_lagged, window_and_one, 1),
    "sma_gap": Kernel(_sma_gap, whole_window, 1),
    "mean_difference": Kernel(_mean_difference, whole_window, 1),
    "ema_gap": Kernel(_ema_gap, whole_window, 1, ("span",)),
    "macd": Kernel(_macd, whole_window, 1, ("fast", "slow")),
    "macd_signal": Kernel(_macd_signal, _macd_signal_reach, 1, ("fast", "slow", "signal", "signal_length")),
    "macd_histogram": Kernel(_macd_histogram, _macd_signal_reach, 1, ("fast", "slow", "signal", "signal_length")),
    "slope": Kernel(_slope, whole_window, 1),
    "r_squared": Kernel(_r_squared, whole_window, 1),
    "residual": Kernel(_residual, whole_window, 1),
}
