"""The picture of two models that are compared block by block, as PNG bytes.

The house style is in `levibot_core.models.plot_style`.
"""

import numpy as np
import polars as pl

from levibot_core.models.plot_style import ACCENT, BAD, GOOD, MUTED, PRIMARY, add_legend, dress, new_figure, png_bytes
from levibot_core.validation.sequential import DECISIVE
from levibot_core.validation.sequential_verdict import EvidencePaths

_SHOWN = (1e-3, 1e5)


def evidence_png(blocks: pl.DataFrame, paths: EvidencePaths, title: str) -> bytes:
    """The evidence after every block on a logarithmic scale, and below it what the contender was better by so far.

    Args:
        blocks: Columns of `PAIRED_BLOCKS`, in order of time.
        paths: What `evidence_paths` gives for them.
        title: Which two models.
    """
    figure = new_figure(9.0, 6.5)
    upper, middle, lower = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
    times = blocks["settled_at"].dt.replace_time_zone(None).to_numpy()
    for path, color, label in (
        (paths.log_loss_better, GOOD, "better, log loss"),
        (paths.worse, BAD, "worse, both"),
        (paths.pnl_worse, ACCENT, "worse, return"),
    ):
        upper.plot(times, np.clip(path, *_SHOWN), color=color, label=label)
    upper.axhline(DECISIVE, color=MUTED, linestyle="--", linewidth=1.2)
    upper.set_yscale("log")
    gained = (blocks["reference_log_loss"] - blocks["contender_log_loss"]).cum_sum().to_numpy()
    earned = (blocks["contender_pnl"] - blocks["reference_pnl"]).cum_sum().to_numpy()
    for axes, values in ((middle, gained), (lower, 100.0 * earned)):
        axes.plot(times, values, color=PRIMARY)
        axes.axhline(0.0, color=MUTED, linewidth=1.0)
    dress(upper, title, "", f"e-value; decisive at {DECISIVE:g}")
    dress(middle, "", "", "log loss gained, nats")
    dress(lower, "", "settled, UTC", "return gained, %")
    add_legend(upper)
    return png_bytes(figure)
