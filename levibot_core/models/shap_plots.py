"""The beeswarm: every sampled row as a dot per column, placed by what its value adds, coloured by how high it is.

Bars of mean absolute SHAP values, version beside version, are drawn in `levibot_core.monitoring.plots`.
"""

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize

from levibot_core.models.plot_style import ACCENT, INK, MUTED, PRIMARY, dress, new_figure, png_bytes
from levibot_core.models.shap_values import ShapSample

_LOW_TO_HIGH = LinearSegmentedColormap.from_list("low to high", [PRIMARY, "#b9c2cc", ACCENT])
# Dots of a column are moved apart where many stand at one place: so many places along the axis, so high a pile.
_PLACES = 120
_HALF_HEIGHT = 0.38


def beeswarm_png(sample: ShapSample, title: str, top: int = 20) -> bytes:
    """SHAP values of the columns that move forecasts most, highest first.

    Args:
        sample: Rows and their SHAP values.
        title: Says of which model, on which rows.
        top: Columns shown at most.
    """
    means = sample.mean_absolute
    ranked = np.argsort(-means, kind="stable")[:top]
    shown = [place for place in ranked if means[place] > 0.0] or list(ranked[:1])
    figure = new_figure(8.0, 1.8 + 0.29 * len(shown))
    axes = figure.subplots()
    axes.axvline(0.0, color=MUTED, linewidth=1.0)
    limits = _limits(sample.contributions[:, shown])
    for height, place in enumerate(shown):
        contributions = np.clip(sample.contributions[:, place], *limits)
        axes.scatter(
            contributions,
            height + _apart(contributions, limits),
            c=_rank(sample.values[:, place]),
            cmap=_LOW_TO_HIGH,
            vmin=0.0,
            vmax=1.0,
            s=7,
            linewidths=0,
            alpha=0.85,
            rasterized=True,
        )
    dress(axes, title, x_label="Adds to the log-odds of a rise")
    axes.set_yticks(range(len(shown)), [sample.columns[place] for place in shown], fontsize=9)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    bar = figure.colorbar(ScalarMappable(Normalize(0.0, 1.0), _LOW_TO_HIGH), ax=axes, aspect=40, pad=0.02)
    bar.set_ticks([0.0, 1.0], labels=["low", "high"])
    bar.ax.tick_params(length=0, labelsize=9, colors=INK)
    bar.set_label("Value of the column", fontsize=10, color=INK, labelpad=-12)
    bar.outline.set_visible(False)
    return png_bytes(figure)


def _limits(contributions: np.ndarray) -> tuple[float, float]:
    """Limits that a few extreme rows do not stretch; what lies beyond stands at the edge."""
    low, high = np.quantile(contributions, (0.001, 0.999))
    widest = max(abs(float(low)), abs(float(high)), 1e-6)
    return min(float(low), -0.2 * widest), max(float(high), 0.2 * widest)


def _apart(contributions: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Height of each dot around its line: dots of one place pile up from the middle, alternately above and below."""
    low, high = limits
    places = np.round((contributions - low) / (high - low) * _PLACES).astype(np.int64)
    counts = np.bincount(places, minlength=_PLACES + 1)
    order = np.argsort(places, kind="stable")
    starts = np.cumsum(counts) - counts
    nth = np.empty(contributions.size, dtype=np.int64)
    nth[order] = np.arange(contributions.size) - starts[places[order]]
    signed = np.where(nth % 2 == 0, nth // 2, -(nth // 2) - 1)
    return np.asarray(signed * (2.0 * _HALF_HEIGHT / max(int(counts.max()), 12)))


def _rank(values: np.ndarray) -> np.ndarray:
    """Share of the rows with a lower value, 0 to 1: an extreme value takes no colour from the others."""
    ordered, places = np.unique(values, return_inverse=True)
    return np.asarray(places / max(ordered.size - 1, 1))
