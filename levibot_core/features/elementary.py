"""Elementary functions with the same bits at every array position, array length and machine.

`numpy.log` and its like choose an implementation by processor (scalar library, AVX-512, ...), whose last bits differ;
what is here uses only operations that IEEE 754 fixes, or a table. Statistics of windows are in `folds`.
"""

import math
from functools import cache

import numpy as np
from numba import njit

from levibot_core.features.folds import FloatArray

MILLISECONDS_PER_HOUR = 3_600_000
_MILLISECONDS_PER_MINUTE = 60_000
# 1970-01-05, the first Monday of the Unix epoch: weeks are counted from it.
_FIRST_MONDAY_MS = 4 * 24 * MILLISECONDS_PER_HOUR

# ln 2 in two parts, the first with zeros at its end, and the coefficients of log(1 + f) from fdlibm's e_log.c.
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_LOG_COEFFICIENTS = (
    1.479819860511658591e-01,
    1.531383769920937332e-01,
    1.818357216161805012e-01,
    2.222219843214978396e-01,
    2.857142874366239149e-01,
    3.999999999940941908e-01,
    6.666666666666735130e-01,
)


def natural_log(values: FloatArray) -> FloatArray:
    """Natural logarithm to one unit in the last place (fdlibm, e_log.c); NaN unless above 0 and finite. Shape kept.

    With x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2) and s = f / (2 + f):
    log x = k ln2 + f - (f^2 / 2 - s (f^2 / 2 + R)), where R is a polynomial in s^2.
    """
    return _natural_log(values.ravel()).reshape(values.shape)


@njit(cache=True, nogil=True)
def _natural_log(values: FloatArray) -> FloatArray:
    logarithms = np.empty(values.size)
    for row in range(values.size):
        value = values[row]
        if not 0.0 < value < np.inf:
            logarithms[row] = np.nan
            continue
        mantissa, exponent = math.frexp(value)
        if mantissa < 0.7071067811865476:
            mantissa, exponent = 2.0 * mantissa, exponent - 1
        f = mantissa - 1.0
        s = f / (2.0 + f)
        z = s * s
        polynomial = _LOG_COEFFICIENTS[0]
        for coefficient in _LOG_COEFFICIENTS[1:]:
            polynomial = polynomial * z + coefficient
        half_square = 0.5 * f * f
        logarithms[row] = exponent * _LN2_HIGH - (
            (half_square - (s * (half_square + polynomial * z) + exponent * _LN2_LOW)) - f
        )
    return logarithms


def cycle(time_ms: FloatArray, period_ms: int, wave: str) -> FloatArray:
    """Sine or cosine of 2 pi times the elapsed share of the period. Shape kept, -1 to 1.

    Args:
        time_ms: UTC milliseconds, whole minutes.
        period_ms: Length of the period, whole minutes; periods are counted from a Monday 00:00 UTC.
        wave: `sine` or `cosine`.
    """
    minutes = elapsed_share(time_ms, period_ms) * (period_ms / _MILLISECONDS_PER_MINUTE)
    return _wave_table(period_ms, wave)[np.rint(minutes).astype(np.int64)]


def elapsed_share(time_ms: FloatArray, period_ms: int) -> FloatArray:
    """Share of the period that has passed. Shape kept, 0 up to 1. Arguments as for `cycle`."""
    elapsed = time_ms - _FIRST_MONDAY_MS
    # Whole numbers below 2^53 all through, so exact, and many times faster than a modulus of doubles.
    share: FloatArray = (elapsed - np.floor(elapsed / period_ms) * period_ms) / period_ms
    return share


@cache
def _wave_table(period_ms: int, wave: str) -> FloatArray:
    """The wave at every minute of the period, by the C library's scalar function."""
    function = math.sin if wave == "sine" else math.cos
    starts = range(0, period_ms, _MILLISECONDS_PER_MINUTE)
    return np.array([function(2.0 * math.pi * (start / period_ms)) for start in starts])
