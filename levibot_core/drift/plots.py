"""The picture of drift: the population stability index per feature, as PNG bytes."""

import polars as pl

from levibot_core.drift.psi import CRITICAL_LEVEL, WARNING_LEVEL
from levibot_core.models.plot_style import ACCENT, BAD, GOOD, INK, add_legend, dress, new_figure, png_bytes

_COLOURS = {"ok": GOOD, "warning": ACCENT, "critical": BAD}
_LONGEST_BAR = 1.5


def psi_png(table: pl.DataFrame, title: str, top: int = 40) -> bytes:
    """Bars per feature, highest first, coloured by level, with the two levels as lines.

    Bars end at 1.5, far beyond critical, so that one feature that moved altogether does not hide the others; the
    number beside a bar is the whole index.

    Args:
        table: `feature`, `psi` and `level`, as `psi_table` gives it.
        title: Says what is compared with what.
        top: Features shown at most.
    """
    shown = table.sort("psi", "feature", descending=[True, False]).head(top)
    figure = new_figure(7.5, 1.4 + 0.24 * shown.height)
    axes = figure.subplots()
    lengths = shown["psi"].clip(upper_bound=_LONGEST_BAR).to_numpy()
    bars = axes.barh(shown["feature"].to_list(), lengths, color=[_COLOURS[level] for level in shown["level"]])
    axes.bar_label(bars, labels=[f"{psi:.3f}" for psi in shown["psi"]], padding=3, fontsize=8, color=INK)
    axes.axvline(WARNING_LEVEL, color=ACCENT, linestyle=":", label=f"warning from {WARNING_LEVEL}")
    axes.axvline(CRITICAL_LEVEL, color=BAD, linestyle=":", label=f"critical from {CRITICAL_LEVEL}")
    axes.invert_yaxis()
    axes.margins(x=0.1, y=0.01)
    dress(axes, title, x_label="Population stability index")
    axes.grid(visible=False, axis="y")
    add_legend(axes)
    return png_bytes(figure)
