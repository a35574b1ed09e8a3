"""The pictures of drift, as PNG bytes: the population stability index per feature, today and over time."""

from datetime import datetime

import numpy as np
import polars as pl
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from levibot_core.drift.psi import CRITICAL_LEVEL, WARNING_LEVEL
from levibot_core.models.plot_style import ACCENT, BAD, GOOD, INK, add_legend, dress, new_figure, png_bytes

_COLOURS = {"ok": GOOD, "warning": ACCENT, "critical": BAD}
_LONGEST_BAR = 1.5
_HOTTEST = 0.5
_HEAT = LinearSegmentedColormap.from_list(
    "drift", [(0.0, "#f7f9fb"), (WARNING_LEVEL / _HOTTEST, ACCENT), (CRITICAL_LEVEL / _HOTTEST, BAD), (1.0, "#5b130b")]
)


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


def psi_history_png(history: pl.DataFrame, trained_until: datetime, title: str, top: int = 30) -> bytes:
    """How many features drifted in each window, above the index of those that drifted most for what is usual with them.

    A slow series, such as a daily index, strays far in any week: features are ranked by how far their index in the
    newest window lies above their own median over all windows.

    Args:
        history: As `levibot_core.drift.history.psi_history` gives it.
        trained_until: End of the training data, UTC; a line marks it, and windows before it are the model's own past.
        title: Says what is compared with what.
        top: Features shown at most.
    """
    ends = history["window_end"].unique().sort()
    unusual = pl.col("psi") - pl.col("psi").median().over("feature")
    newest = history.with_columns(unusual=unusual).filter(pl.col("window_end") == ends[-1])
    names = newest.sort("unusual", "feature", descending=[True, False])["feature"].head(top).to_list()
    figure = new_figure(10.0, 3.2 + 0.24 * len(names))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 0.24 * len(names) + 0.4))
    places = range(ends.len())
    bottom = np.zeros(ends.len())
    for level in ("critical", "warning"):
        at_level = history.group_by("window_end").agg((pl.col("level") == level).sum()).sort("window_end")["level"]
        counts = at_level.to_numpy()
        upper.bar(places, counts, bottom=bottom, color=_COLOURS[level], label=level)
        bottom += counts
    dress(upper, title, y_label=f"Features (of {newest.height})")
    upper.set_ylim(0, max(1.0, 1.25 * bottom.max()))
    upper.yaxis.set_major_locator(MaxNLocator(integer=True))
    upper.grid(visible=False, axis="x")

    by_window = history.filter(pl.col("feature").is_in(names)).pivot("window_end", index="feature", values="psi")
    grid = pl.DataFrame({"feature": names}).join(by_window, on="feature", maintain_order="left")
    values = grid.select(str(name) for name in sorted(grid.columns[1:])).to_numpy()
    image = lower.imshow(values, cmap=_HEAT, vmin=0.0, vmax=_HOTTEST, aspect="auto", interpolation="nearest")
    dress(lower, x_label="Window that ends on (UTC); features furthest above their own median first")
    lower.grid(visible=False)
    lower.set_yticks(range(len(names)), names, fontsize=8)
    step = -(-ends.len() // 13)
    lower.set_xticks(
        list(places)[::step], [f"{end:%Y-%m-%d}" for end in ends.to_list()[::step]], fontsize=8, rotation=30, ha="right"
    )
    bar = figure.colorbar(image, ax=lower, location="right", extend="max", pad=0.01, aspect=30)
    bar.set_label(f"Index (warning {WARNING_LEVEL}, critical {CRITICAL_LEVEL})", color=INK, fontsize=9)
    trained = int((history["window_start"].unique() < trained_until).sum())
    if 0 < trained < ends.len():
        for axes in (upper, lower):
            axes.axvline(trained - 0.5, color=INK, linewidth=1.2, linestyle="--")
        upper.plot([], [], color=INK, linewidth=1.2, linestyle="--", label="end of the training data")
    upper.legend(frameon=False, fontsize=9, labelcolor=INK, ncols=3, loc="upper left")
    return png_bytes(figure)
