"""What a kernel is: how one family of features is computed from windows of its input series."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from levibot_core.features.folds import FloatArray
from levibot_core.features.series import WindowedSeries

Parameters = Mapping[str, float | str]
Inputs = Sequence[WindowedSeries]


@dataclass(frozen=True, slots=True)
class Kernel:
    """How one family of features is computed.

    Attributes:
        compute: From the input series, the window and the parameters to the feature of the rows (float64, one value
            per row of the series).
        reach: From the window and the parameters to the number of bars of the inputs that one value looks at, its
            own included.
        arity: Number of input series; None accepts any number.
        parameters: Names of the parameters it needs.
    """

    compute: Callable[[Inputs, int, Parameters], FloatArray]
    reach: Callable[[int, Parameters], int]
    arity: int | None
    parameters: tuple[str, ...] = ()


def number(parameters: Parameters, name: str) -> float:
    """A parameter that is a number."""
    return float(parameters[name])


def one_bar(_: int, __: Parameters) -> int:
    """Reach of a kernel that looks at the row's own bar only."""
    return 1


def whole_window(window: int, _: Parameters) -> int:
    """Reach of a kernel that looks at a window."""
    return window


def window_and_one(window: int, _: Parameters) -> int:
    """Reach of a kernel that compares with the bar before a window."""
    return window + 1
