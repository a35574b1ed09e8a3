"""The plot of a transformer's training, as PNG bytes. Style is in `levibot_core.models.plot_style`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from matplotlib.ticker import MaxNLocator

from levibot_core.models.plot_style import ACCENT, GOOD, PRIMARY, add_legend, dress, new_figure, png_bytes

if TYPE_CHECKING:
    from levibot_core.models.tft.training import EpochReport


def loss_curve_png(epochs: "Sequence[EpochReport]", best_epoch: int, title: str) -> bytes:
    """Quantile loss of every epoch on the train and on the validation windows, and the epoch that was kept.

    Args:
        epochs: One report per epoch, in order.
        best_epoch: The epoch whose weights were kept, counted from 1.
        title: Says of which training.
    """
    numbers = [report.epoch for report in epochs]
    figure = new_figure(8.0, 4.5)
    axes = figure.subplots()
    axes.plot(numbers, [report.train_loss for report in epochs], "o-", color=ACCENT, label="train")
    axes.plot(numbers, [report.validation_loss for report in epochs], "o-", color=PRIMARY, label="validation")
    kept = epochs[best_epoch - 1]
    axes.plot([kept.epoch], [kept.validation_loss], "*", color=GOOD, markersize=16, label="kept")
    dress(axes, title, x_label="Epoch", y_label="Quantile loss (volatilities)")
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(axes)
    return png_bytes(figure)
