"""The picture of the sequential test: how often it is wrong, and how soon it is right.

The figures come from `benchmarks.sequential_test`.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.sequential_markets import BLOCKS_PER_DAY, NULLS
from levibot_core.models.plot_style import ACCENT, BAD, GOOD, MUTED, PRIMARY, add_legend, dress, new_figure, png_bytes

if TYPE_CHECKING:
    from benchmarks.sequential_test import Found

_DAYS = np.arange(1, 181)
_LINES = (MUTED, ACCENT, PRIMARY, GOOD, BAD)


def sequential_png(
    nulls: "Mapping[str, Found]", gains: "Mapping[float, Found]", harms: "Mapping[float, Found]"
) -> bytes:
    """Share of markets ever decided where there is nothing to find; and by day where there is something.

    Args:
        nulls: Kind of market to what was found.
        gains: What the challenger knows more, log-odds, to what was found.
        harms: Factor of the bad champion to what was found.
    """
    figure = new_figure(11.0, 7.0)
    grid = figure.add_gridspec(2, 2, height_ratios=(4, 5))
    top, left, right = figure.add_subplot(grid[0, :]), figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1])
    names = list(nulls)[::-1]
    shares = [100.0 * nulls[name].share for name in names]
    reach = [100.0 * (nulls[name].upper_95 - nulls[name].share) for name in names]
    colors = [PRIMARY if name in NULLS else MUTED for name in names]
    top.barh(names, shares, xerr=[[0.0] * len(names), reach], color=colors, ecolor=MUTED)
    top.axvline(5.0, color=BAD, linestyle="--", linewidth=1.2)
    dress(top, "Nothing to find: ever decided, looked at after every hour of a year", "% of markets, with upper 95 %")
    for axes, effects, title, label in (
        (left, gains, "A better challenger is promoted", "log-odds it knows more"),
        (right, harms, "A bad champion is rolled back", "its log-odds, times"),
    ):
        for (size, found), color in zip(effects.items(), _LINES, strict=True):
            decided = (found.blocks[:, np.newaxis] <= _DAYS * BLOCKS_PER_DAY).mean(axis=0)
            axes.plot(_DAYS, 100.0 * decided, color=color, label=f"{size:g}")
        dress(axes, title, "days", "% of markets")
        axes.set_ylim(-3, 103)
        # The lines reach every corner.
        add_legend(axes, label, below=True)
    return png_bytes(figure)
