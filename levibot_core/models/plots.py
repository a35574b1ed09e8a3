"""The plots of a model, as PNG bytes: reliability diagram and importance. Style is in `.plot_style`.

The plots of a search for parameters are in `.tuning_plots`.
"""

from collections.abc import Mapping

import numpy as np

from levibot_core.models.metric_intervals import ReliabilityBand
from levibot_core.models.metrics import ReliabilityCurve
from levibot_core.models.plot_style import ACCENT, INK, MUTED, PRIMARY, add_legend, dress, new_figure, png_bytes

_HISTOGRAM_BINS = 40
_NARROWEST_RANGE = 0.02


def reliability_png(
    curve: ReliabilityCurve,
    probabilities: np.ndarray,
    base_rate: float,
    title: str,
    band: ReliabilityBand | None = None,
) -> bytes:
    """What was forecast against what happened, above a histogram of the forecasts.

    Args:
        curve: Forecast and frequency per bin of about equally many rows.
        probabilities: All forecasts behind the curve, (n,).
        base_rate: Share of rises among those rows.
        title: Says what was forecast, and on which rows.
        band: The 95 % interval of each point of the curve; None draws none.
    """
    figure = new_figure(7.0, 6.5)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    low, high = _range(probabilities)
    upper.plot([low, high], [low, high], color=MUTED, linestyle="--", linewidth=1.2, label="forecast = frequency")
    upper.axhline(base_rate, color=ACCENT, linestyle=":", linewidth=1.6, label=f"base rate {base_rate:.3f}")
    rows = (
        f"{min(curve.counts):,}" if len(set(curve.counts)) == 1 else f"{min(curve.counts):,} to {max(curve.counts):,}"
    )
    limits: tuple[float, ...] = ()
    if band is not None:
        limits = (*band.lower_95, *band.upper_95)
        upper.fill_between(curve.predicted, band.lower_95, band.upper_95, color=PRIMARY, alpha=0.15, linewidth=0)
        upper.vlines(curve.predicted, band.lower_95, band.upper_95, color=PRIMARY, alpha=0.5, label="95 % interval")
    upper.plot(curve.predicted, curve.observed, "o-", color=PRIMARY, label=f"model, {rows} rows a point")
    dress(upper, title, y_label="Share of rises")
    lowest, highest = _range(np.array([*curve.observed, *curve.predicted, *limits, base_rate]))
    upper.set_ylim(lowest, highest)
    add_legend(upper)

    lower.hist(probabilities, bins=_HISTOGRAM_BINS, range=(low, high), color=PRIMARY, alpha=0.8)
    dress(lower, x_label="Forecast probability of a rise", y_label=f"Rows (of {len(probabilities):,})")
    lower.set_xlim(low, high)
    return png_bytes(figure)


def importance_png(
    gain_shares: Mapping[str, float], title: str, top: int = 20, what: str = "Share of total gain"
) -> bytes:
    """The columns that brought the most gain, or were weighed most, highest first.

    Args:
        gain_shares: Column to its share of the total gain, 0 to 1.
        title: Says of which model.
        top: Columns shown at most.
        what: What the shares are of, for the axis.
    """
    shown = sorted(gain_shares.items(), key=lambda item: (-item[1], item[0]))[:top]
    names, shares = [name for name, _ in shown], [100.0 * share for _, share in shown]
    figure = new_figure(7.5, 1.2 + 0.26 * len(shown))
    axes = figure.subplots()
    bars = axes.barh(names, shares, color=PRIMARY)
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8, color=INK)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    dress(axes, title, x_label=f"{what} (%)")
    axes.grid(visible=False, axis="y")
    return png_bytes(figure)


def _range(values: np.ndarray) -> tuple[float, float]:
    """Limits around all values with a margin, never so narrow that noise fills the picture."""
    low, high = float(np.min(values)), float(np.max(values))
    margin = max(0.05 * (high - low), (_NARROWEST_RANGE - (high - low)) / 2, 1e-3)
    return max(0.0, low - margin), min(1.0, high + margin)
