"""How long one prediction takes, measured call by call on the machine at hand."""

import time
from collections.abc import Callable

import numpy as np

WARM_UP_CALLS = 100
TIMED_CALLS = 1000
_PERCENTILES = (50, 90, 95, 99)


def measure_latency(
    predict: Callable[[], object], warm_up: int = WARM_UP_CALLS, timed: int = TIMED_CALLS
) -> dict[str, float]:
    """Percentiles of the duration of `predict()`: `p50_ms`, `p90_ms`, `p95_ms` and `p99_ms`.

    Args:
        predict: Does the whole of one prediction, from the values of a row to its probability.
        warm_up: Calls before the clock starts.
        timed: Calls that are timed, one by one.
    """
    for _ in range(warm_up):
        predict()
    durations = np.empty(timed)
    for call in range(timed):
        started = time.perf_counter_ns()
        predict()
        durations[call] = time.perf_counter_ns() - started
    percentiles = np.percentile(durations, _PERCENTILES) / 1e6
    return {f"p{name}_ms": float(value) for name, value in zip(_PERCENTILES, percentiles, strict=True)}
