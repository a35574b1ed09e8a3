"""Window-exact kernels: every value is a pure function of its own fixed-length window, summed in a fixed order.

A value computed from only its window has the same 64 bits as in the full history: sums run over the lag outside and
over time inside, so that no row inherits a running total, and nothing is used whose last bit depends on where in an
array a number stands or on the machine (additions, multiplications, divisions, square roots and comparisons of IEEE
doubles do not). A NaN that a kernel meets makes the value NaN. Which features exist is told by features.yml; what their
inputs are, by `levibot_core.features.inputs`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from levibot_core.features.elementary import MILLISECONDS_PER_HOUR, FloatArray, cycle

Parameters = Mapping[str, float | str]
# Rows per block of a window sum: what is added up stays in the first-level cache.
_BLOCK = 4096
# A spread this small beside the mean is what rounding leaves of equal numbers, not a spread.
_RELATIVE_FLOOR = 1e-12


@dataclass(frozen=True, slots=True)
class Kernel:
    """How one family of features is computed.

    Attributes:
        compute: From the input series (float64, shape (n,), one value per bar of the regular grid), the window and
            the parameters to the feature (float64, shape (n,)).
        reach: From the window and the parameters to the number of bars of the inputs that one value looks at, its
            own included.
        arity: Number of input series; None accepts any number.
        parameters: Names of the parameters it needs.
    """

    compute: Callable[[Sequence[FloatArray], int, Parameters], FloatArray]
    reach: Callable[[int, Parameters], int]
    arity: int | None
    parameters: tuple[str, ...] = ()


def window_sum(values: FloatArray, window: int) -> FloatArray:
    """Sum of each row's last `window` values, newest first; NaN where there are not that many. Shape (n,)."""
    totals = np.full(values.size, np.nan)
    for begin in range(window - 1, values.size, _BLOCK):
        end = min(begin + _BLOCK, values.size)
        total = totals[begin:end]
        total[:] = values[begin:end]
        for lag in range(1, window):
            total += values[begin - lag : end - lag]
    return totals


def weighted_sum(values: FloatArray, weights: npt.NDArray[np.float64]) -> FloatArray:
    """Sum over lags of `weights[lag] * values[t - lag]`, newest first; NaN without a full window. Shape (n,)."""
    totals = np.full(values.size, np.nan)
    scratch = np.empty(_BLOCK)
    for begin in range(weights.size - 1, values.size, _BLOCK):
        end = min(begin + _BLOCK, values.size)
        total, product = totals[begin:end], scratch[: end - begin]
        np.multiply(values[begin:end], weights[0], out=total)
        for lag in range(1, weights.size):
            np.multiply(values[begin - lag : end - lag], weights[lag], out=product)
            total += product
    return totals


def window_mean(values: FloatArray, window: int) -> FloatArray:
    """Arithmetic mean of the last `window` values. Shape (n,)."""
    return window_sum(values, window) / window


def window_deviation(values: FloatArray, window: int, mean: FloatArray) -> FloatArray:
    """Population standard deviation of the last `window` values around `mean`; NaN where all are equal. Shape (n,)."""
    totals = np.full(values.size, np.nan)
    scratch = np.empty(_BLOCK)
    for begin in range(window - 1, values.size, _BLOCK):
        end = min(begin + _BLOCK, values.size)
        total, square = totals[begin:end], scratch[: end - begin]
        total[:] = 0.0
        for lag in range(window):
            np.subtract(values[begin - lag : end - lag], mean[begin:end], out=square)
            np.multiply(square, square, out=square)
            total += square
    deviation = np.sqrt(totals / window)
    deviation[deviation <= _RELATIVE_FLOOR * np.abs(mean)] = np.nan
    return deviation


def window_maximum(values: FloatArray, window: int) -> FloatArray:
    """Largest of the last `window` values, by doubling: exact in any order. Shape (n,)."""
    covered, largest = 1, values
    while covered < window:
        step = min(covered, window - covered)
        shifted = np.full(values.size, np.nan)
        shifted[step:] = largest[: max(values.size - step, 0)]
        largest = np.maximum(largest, shifted)
        covered += step
    return largest


def window_minimum(values: FloatArray, window: int) -> FloatArray:
    """Smallest of the last `window` values. Shape (n,)."""
    return -window_maximum(-values, window)


def lagged(values: FloatArray, lag: int) -> FloatArray:
    """The value `lag` bars before; NaN where there is none. Shape (n,)."""
    shifted = np.full(values.size, np.nan)
    shifted[lag:] = values[: max(values.size - lag, 0)]
    return shifted


def ema_weights(span: float, length: int) -> npt.NDArray[np.float64]:
    """Weights of an exponential mean cut off after `length` bars, newest first, made to sum to 1. Shape (length,).

    alpha = 2 / (span + 1); weight of lag k is proportional to (1 - alpha)^k.
    """
    decay = 1.0 - 2.0 / (span + 1.0)
    weights = [decay**lag for lag in range(length)]
    total = math.fsum(weights)
    return np.array([weight / total for weight in weights])


def _number(parameters: Parameters, name: str) -> float:
    return float(parameters[name])


def _log_return(inputs: Sequence[FloatArray], window: int, _: Parameters) -> FloatArray:
    (log_price,) = inputs
    return log_price - lagged(log_price, window)


def _sma_gap(inputs: Sequence[FloatArray], window: int, _: Parameters) -> FloatArray:
    (values,) = inputs
    return values / window_mean(values, window) - 1.0


def _ema_gap(inputs: Sequence[FloatArray], window: int, parameters: Parameters) -> FloatArray:
    (values,) = inputs
    return values / weighted_sum(values, ema_weights(_number(parameters, "span"), window)) - 1.0


def _mean_ratio(inputs: Sequence[FloatArray], window: int, _: Parameters) -> FloatArray:
    (values,) = inputs
    return values / window_mean(values, window)


def _realized_volatility(inputs: Sequence[FloatArray], window: int, _: Parameters) -> FloatArray:
    (returns,) = inputs
    return np.sqrt(window_mean(returns * returns, window))


def _parkinson_volatility(inputs: Sequence[FloatArray], window: int, _: Parameters) -> FloatArray:
    (log_range,) = inputs
    return np.sqrt(window_mean(log_range * log_range, window) / (4.0 * math.log(2.0)))


def _rsi(inputs: Sequence[FloatArray], window: int, _: Parameters) -> FloatArray:
    (change,) = inputs
    gains = window_sum(np.maximum(change, 0.0), window)
    losses = window_sum(np.maximum(-change, 0.0), window)
    return 100.0 * gains / (gains + losses)


def _relative_mean(inputs: Sequence[FloatArray], window: int, _: Parameters) -> FloatArray:
    values, price = inputs
    return window_mean(values, window) / price


def _band_position(inputs: Sequence[FloatArray], window: int, parameters: Parameters) -> FloatArray:
    (values,) = inputs
    mean = window_mean(values, window)
    half_width = _number(parameters, "deviations") * window_deviation(values, window, mean)
    return (values - (mean - half_width)) / (2.0 * half_width)


def _zscore(inputs: Sequence[FloatArray], window: int, _: Parameters) -> FloatArray:
    (values,) = inputs
    mean = window_mean(values, window)
    return (values - mean) / window_deviation(values, window, mean)


def _macd_line(close: FloatArray, window: int, parameters: Parameters) -> FloatArray:
    fast, slow = (ema_weights(_number(parameters, name), window) for name in ("fast", "slow"))
    return weighted_sum(close, fast - slow)


def _macd(inputs: Sequence[FloatArray], window: int, parameters: Parameters) -> FloatArray:
    (close,) = inputs
    return _macd_line(close, window, parameters) / close


def _macd_signal_line(line: FloatArray, parameters: Parameters) -> FloatArray:
    return weighted_sum(line, ema_weights(_number(parameters, "signal"), int(_number(parameters, "signal_length"))))


def _macd_signal(inputs: Sequence[FloatArray], window: int, parameters: Parameters) -> FloatArray:
    (close,) = inputs
    return _macd_signal_line(_macd_line(close, window, parameters), parameters) / close


def _macd_histogram(inputs: Sequence[FloatArray], window: int, parameters: Parameters) -> FloatArray:
    (close,) = inputs
    line = _macd_line(close, window, parameters)
    return (line - _macd_signal_line(line, parameters)) / close


def _macd_signal_reach(window: int, parameters: Parameters) -> int:
    return window + int(_number(parameters, "signal_length")) - 1


def _bar_range(inputs: Sequence[FloatArray], _: int, __: Parameters) -> FloatArray:
    high, low, close = inputs
    return (high - low) / close


def _close_location(inputs: Sequence[FloatArray], _: int, __: Parameters) -> FloatArray:
    high, low, close = inputs
    return np.where(high == low, 0.5, (close - low) / (high - low))


def _upper_shadow(inputs: Sequence[FloatArray], _: int, __: Parameters) -> FloatArray:
    open_, high, close = inputs
    return (high - np.maximum(open_, close)) / close


def _lower_shadow(inputs: Sequence[FloatArray], _: int, __: Parameters) -> FloatArray:
    open_, low, close = inputs
    return (np.minimum(open_, close) - low) / close


def _range_position(inputs: Sequence[FloatArray], window: int, _: Parameters) -> FloatArray:
    high, low, close = inputs
    lowest = window_minimum(low, window)
    return (close - lowest) / (window_maximum(high, window) - lowest)


def _cycle(inputs: Sequence[FloatArray], _: int, parameters: Parameters) -> FloatArray:
    (open_time,) = inputs
    period_ms = int(_number(parameters, "period_hours") * MILLISECONDS_PER_HOUR)
    return cycle(open_time, period_ms, math.sin if parameters["wave"] == "sine" else math.cos)


def _fresh_sum(inputs: Sequence[FloatArray], _: int, parameters: Parameters) -> FloatArray:
    *values, age = inputs
    total = values[0]
    for more in values[1:]:
        total = total + more
    return np.where(age <= _number(parameters, "max_age_hours"), total, np.nan)


def _whole_window(window: int, _: Parameters) -> int:
    return window


def _window_and_one(window: int, _: Parameters) -> int:
    return window + 1


FAMILIES: Mapping[str, Kernel] = {
    "log_return": Kernel(_log_return, _window_and_one, 1),
    "sma_gap": Kernel(_sma_gap, _whole_window, 1),
    "ema_gap": Kernel(_ema_gap, _whole_window, 1, ("span",)),
    "mean_ratio": Kernel(_mean_ratio, _whole_window, 1),
    "zscore": Kernel(_zscore, _whole_window, 1),
    "realized_volatility": Kernel(_realized_volatility, _whole_window, 1),
    "parkinson_volatility": Kernel(_parkinson_volatility, _whole_window, 1),
    "rsi": Kernel(_rsi, _whole_window, 1),
    "relative_mean": Kernel(_relative_mean, _whole_window, 2),
    "band_position": Kernel(_band_position, _whole_window, 1, ("deviations",)),
    "macd": Kernel(_macd, _whole_window, 1, ("fast", "slow")),
    "macd_signal": Kernel(_macd_signal, _macd_signal_reach, 1, ("fast", "slow", "signal", "signal_length")),
    "macd_histogram": Kernel(_macd_histogram, _macd_signal_reach, 1, ("fast", "slow", "signal", "signal_length")),
    "bar_range": Kernel(_bar_range, _whole_window, 3),
    "close_location": Kernel(_close_location, _whole_window, 3),
    "upper_shadow": Kernel(_upper_shadow, _whole_window, 3),
    "lower_shadow": Kernel(_lower_shadow, _whole_window, 3),
    "range_position": Kernel(_range_position, _whole_window, 3),
    "cycle": Kernel(_cycle, _whole_window, 1, ("period_hours", "wave")),
    "fresh_sum": Kernel(_fresh_sum, _whole_window, None, ("max_age_hours",)),
}
