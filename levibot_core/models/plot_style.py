"""The house style of all plots: one palette, one figure factory, PNG bytes out. No pyplot and no global state.

What is drawn is in `levibot_core.models.plots` and `levibot_core.drift.plots`.
"""

from io import BytesIO
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

INK: Final = "#1f2933"
MUTED: Final = "#7b8794"
GRID: Final = "#e4e7eb"
PRIMARY: Final = "#2f6fab"
ACCENT: Final = "#d9822b"
GOOD: Final = "#3f9c6d"
BAD: Final = "#c0392b"

_DPI = 120


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of that size in inches, with a canvas of its own."""
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes, title: str = "", x_label: str = "", y_label: str = "") -> None:
    """Give axes the house style; texts that are empty are left out."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(MUTED)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    if title:
        axes.set_title(title, loc="left", fontsize=12, color=INK, fontweight="bold")
    axes.set_xlabel(x_label, fontsize=10, color=INK)
    axes.set_ylabel(y_label, fontsize=10, color=INK)


def add_legend(axes: Axes, title: str = "", *, below: bool = False) -> None:
    """A legend without a frame: where it covers least, or in one row below the axes, where it covers nothing."""
    place: dict[str, Any] = {"loc": "best"}
    if below:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": max(1, len(axes.lines))}
        place |= {"handlelength": 1.2, "columnspacing": 1.2}
    axes.legend(frameon=False, fontsize=9, title_fontsize=9, labelcolor=INK, title=title or None, **place)


def png_bytes(figure: Figure) -> bytes:
    """The figure as PNG; the same figure gives the same bytes."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
