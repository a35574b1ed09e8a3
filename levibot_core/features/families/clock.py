"""What the clock says, and values that are published now and then: calendar, funding, daily indices."""

from collections.abc import Mapping

import numpy as np

from levibot_core.features.elementary import MILLISECONDS_PER_HOUR, cycle, elapsed_share
from levibot_core.features.families.kernel import Inputs, Kernel, Parameters, number, one_bar, whole_window
from levibot_core.features.folds import FloatArray


def _period_ms(parameters: Parameters) -> int:
    return int(number(parameters, "period_hours") * MILLISECONDS_PER_HOUR)


def _cycle(inputs: Inputs, _: int, parameters: Parameters) -> FloatArray:
    (open_time,) = inputs
    return cycle(open_time.now, _period_ms(parameters), str(parameters["wave"]))


def _within_hours(inputs: Inputs, _: int, parameters: Parameters) -> FloatArray:
    (open_time,) = inputs
    share = elapsed_share(open_time.now, _period_ms(parameters))
    begin, end = (number(parameters, name) / number(parameters, "period_hours") for name in ("from_hour", "to_hour"))
    return ((share >= begin) & (share < end)).astype(np.float64)


def _sum_now(inputs: Inputs) -> FloatArray:
    total = inputs[0].now
    for more in inputs[1:]:
        total = total + more.now
    return total


def _while_fresh(values: FloatArray, age_hours: FloatArray, parameters: Parameters) -> FloatArray:
    return np.where(age_hours <= number(parameters, "max_age_hours"), values, np.nan)


def _fresh_sum(inputs: Inputs, _: int, parameters: Parameters) -> FloatArray:
    *values, age = inputs
    return _while_fresh(_sum_now(values), age.now, parameters)


def _fresh_mean(inputs: Inputs, _: int, parameters: Parameters) -> FloatArray:
    *values, age = inputs
    return _while_fresh(_sum_now(values) / len(values), age.now, parameters)


def _fresh_difference(inputs: Inputs, _: int, parameters: Parameters) -> FloatArray:
    newer, older, age = inputs
    return _while_fresh(newer.now - older.now, age.now, parameters)


CLOCK: Mapping[str, Kernel] = {
    "cycle": Kernel(_cycle, whole_window, 1, ("period_hours", "wave")),
    "within_hours": Kernel(_within_hours, one_bar, 1, ("period_hours", "from_hour", "to_hour")),
    "fresh_sum": Kernel(_fresh_sum, whole_window, None, ("max_age_hours",)),
    "fresh_mean": Kernel(_fresh_mean, one_bar, None, ("max_age_hours",)),
    "fresh_difference": Kernel(_fresh_difference, one_bar, 3, ("max_age_hours",)),
}
