"""The picture behind the gates that compare log losses, as PNG bytes.

The house style is in `levibot_core.models.plot_style`; the verdicts are `levibot_core.validation.gates`'.
"""

from collections.abc import Mapping

from levibot_core.models.plot_style import BAD, GOOD, INK, MUTED, add_legend, dress, new_figure, png_bytes
from levibot_core.validation.gates import LossComparison


def loss_gates_png(comparisons: Mapping[str, LossComparison], title: str) -> bytes:
    """The difference of log loss to each reference with its 95 % interval, and the bound that has to lie below 0.

    Args:
        comparisons: Gate to what it compared.
        title: Whose.
    """
    figure = new_figure(9.0, 1.6 + 0.7 * len(comparisons))
    axes = figure.subplots()
    names = list(comparisons)[::-1]
    for place, name in enumerate(names):
        found = comparisons[name]
        color = GOOD if found.upper_999 < 0.0 else BAD
        axes.plot([found.lower_95, found.upper_95], [place, place], color=color, linewidth=3.0, solid_capstyle="butt")
        axes.plot([found.mean], [place], "o", color=color, markersize=8)
        axes.plot([found.upper_999], [place], "|", color=INK, markersize=22, markeredgewidth=2.0)
    axes.plot([], [], "|", color=INK, markersize=12, markeredgewidth=2.0, label="with 99.9 % confidence below this")
    axes.axvline(0.0, color=MUTED, linestyle="--", linewidth=1.2, label="as good as the reference")
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.set_ylim(-0.6, len(names) - 0.4)
    dress(axes, title, "log loss less the reference's, nats; to the left is better, with the 95 % interval")
    add_legend(axes, below=True)
    return png_bytes(figure)
