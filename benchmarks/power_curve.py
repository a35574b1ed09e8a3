"""The picture of the controls: how often markets are promoted, by the size of their planted edge.

The figures come from `benchmarks.controls`.
"""

from collections.abc import Sequence

from levibot_core.models.plot_style import BAD, MUTED, PRIMARY, add_legend, dress, new_figure, png_bytes
from levibot_core.validation.controls import ControlSummary


def power_curve_png(
    edges: Sequence[float], positive: Sequence[ControlSummary], negative: Sequence[ControlSummary]
) -> bytes:
    """Share of promoted markets with its 95 % interval, and the mean area under the ROC curve, by edge.

    Args:
        edges: Sizes of the planted edges, rising.
        positive: The controls of each.
        negative: The controls with nothing to find; drawn at an edge of 0.
    """
    figure = new_figure(7.0, 6.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    for summaries, places, color, label in (
        (positive, edges, PRIMARY, "planted edge: power"),
        (negative, [0.0015 * (2 * place - len(negative) + 1) for place in range(len(negative))], BAD, _names(negative)),
    ):
        shares = [summary.promoted / summary.controls for summary in summaries]
        intervals = [summary.promoted_95 for summary in summaries]
        reach = (
            [share - low for share, (low, _) in zip(shares, intervals, strict=True)],
            [high - share for share, (_, high) in zip(shares, intervals, strict=True)],
        )
        line = "-" if summaries is positive else ""
        upper.errorbar(places, shares, reach, color=color, marker="o", linestyle=line, capsize=3, label=label)
        areas = [summary.mean_area for summary in summaries]
        lower.plot(places, areas, color=color, marker="o", linestyle=line)
        lower.vlines(
            places,
            [summary.lowest_area for summary in summaries],
            [summary.highest_area for summary in summaries],
            color=color,
            linewidth=1.2,
        )
    lower.axhline(0.5, color=MUTED, linestyle="--", linewidth=1.2)
    upper.set_ylim(-0.05, 1.05)
    counts = sorted({summary.controls for summary in (*positive, *negative)})
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    dress(upper, f"What the gates find, {many} markets of each kind", "", "share promoted, 95 % interval")
    dress(lower, "", "planted edge (correlation of a bar's return with its drift)", "AUC: mean and range")
    add_legend(upper)
    return png_bytes(figure)


def _names(summaries: Sequence[ControlSummary]) -> str:
    return f"nothing to find: {' and '.join(summary.name for summary in summaries)}"
