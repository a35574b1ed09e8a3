"""Elementary functions with the same bits at every array position, array length and machine.

`numpy.log` and its like choose an implementation by processor (scalar library, AVX-512, ...), whose last bits differ;
what is here uses only operations that IEEE 754 fixes, or a table. Windows and sums are in `kernels`.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

MILLISECONDS_PER_HOUR = 3_600_000
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
    mantissa, exponent = np.frexp(np.where((values > 0.0) & (values < np.inf), values, np.nan))
    below = mantissa < 0.7071067811865476
    f = np.where(below, 2.0 * mantissa, mantissa) - 1.0
    k = (exponent - below).astype(np.float64)
    s = f / (2.0 + f)
    z = s * s
    polynomial = np.full_like(z, _LOG_COEFFICIENTS[0])
    for coefficient in _LOG_COEFFICIENTS[1:]:
        polynomial = polynomial * z + coefficient
    half_square = 0.5 * f * f
    return k * _LN2_HIGH - ((half_square - (s * (half_square + polynomial * z) + k * _LN2_LOW)) - f)


def cycle(time_ms: FloatArray, period_ms: int, wave: Callable[[float], float]) -> FloatArray:
    """`wave` (`math.sin` or `math.cos`) of 2 pi times the elapsed share of the period. Shape kept, -1 to 1.

    Args:
        time_ms: UTC milliseconds, whole numbers.
        period_ms: Length of the period; periods are counted from a Monday 00:00 UTC.
        wave: Called once per distinct share.
    """
    elapsed = np.mod(time_ms - _FIRST_MONDAY_MS, period_ms)
    distinct, positions = np.unique(elapsed, return_inverse=True)
    table = np.array([wave(2.0 * np.pi * (share / period_ms)) for share in distinct.tolist()], dtype=np.float64)
    return table[positions]
