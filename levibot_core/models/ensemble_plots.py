"""The plot of an ensemble, as PNG bytes: the members' weights, and who loses how much. Style is in `.plot_style`."""

from levibot_core.models.ensemble_candidate import EnsembleVerdict
from levibot_core.models.plot_style import ACCENT, INK, MUTED, PRIMARY, add_legend, dress, new_figure, png_bytes


def ensemble_png(verdict: EnsembleVerdict) -> bytes:
    """Weight of every member, beside the log loss of members and ensemble on the test rows with 95 % intervals."""
    names = [member.name for member in verdict.members]
    figure = new_figure(9.5, 1.8 + 0.4 * len(names))
    left, right = figure.subplots(1, 2, width_ratios=(2, 3))
    bars = left.barh(names, [member.weight for member in verdict.members], color=PRIMARY)
    left.bar_label(bars, fmt="%.2f", padding=3, fontsize=9, color=INK)
    left.margins(x=0.2)
    left.invert_yaxis()
    dress(left, f"Weights ({verdict.method.replace('_', ' ')})", x_label="Weight")
    left.grid(visible=False, axis="y")

    losses = [*((member.name, member.log_loss) for member in verdict.members), ("ensemble", verdict.log_loss)]
    for place, (name, loss) in enumerate(losses):
        color = ACCENT if place == len(names) else PRIMARY
        right.plot([loss.lower_95, loss.upper_95], [name, name], color=color, linewidth=2)
        right.plot([loss.value], [name], "o", color=color, label="mean, 95 % interval" if place == 0 else None)
    best = min(member.log_loss.value for member in verdict.members)
    right.axvline(best, color=MUTED, linestyle=":", label=f"best member, {best:.5f}")
    right.invert_yaxis()
    dress(right, f"Log loss on {verdict.rows:,} test rows", x_label="Nats per row")
    right.grid(visible=False, axis="y")
    add_legend(right)
    return png_bytes(figure)
