"""Every family of features and its kernel; a registry entry names one of these.

A value is a pure function of its own fixed-length window, folded in a fixed order (`levibot_core.features.folds`), so
that it has the same 64 bits in a batch, in an incremental refresh and online. A NaN that a kernel meets makes the
value NaN. Which features exist is told by features.yml; what their inputs are, by `levibot_core.features.inputs`.
"""

from collections.abc import Mapping

from levibot_core.features.families.bar_shape import BAR_SHAPE
from levibot_core.features.families.clock import CLOCK
from levibot_core.features.families.dispersion import DISPERSION
from levibot_core.features.families.extremes import EXTREMES
from levibot_core.features.families.flows import FLOWS
from levibot_core.features.families.kernel import Inputs, Kernel, Parameters
from levibot_core.features.families.trend import TREND

__all__ = ["FAMILIES", "Inputs", "Kernel", "Parameters"]

FAMILIES: Mapping[str, Kernel] = {**BAR_SHAPE, **TREND, **DISPERSION, **EXTREMES, **FLOWS, **CLOCK}
