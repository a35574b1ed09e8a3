"""The plots of a search for parameters, as PNG bytes: its history, its two objectives, and what parameters matter.

Style is in `.plot_style`; the plots of a model are in `.plots`.
"""

from collections.abc import Mapping

import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from levibot_core.models.plot_style import (
    ACCENT,
    BAD,
    GOOD,
    INK,
    MUTED,
    PRIMARY,
    add_legend,
    dress,
    new_figure,
    png_bytes,
)
from levibot_core.models.tuning import TuningResult


def tuning_plots(tuning: TuningResult, base_rate_log_loss: float, family: str) -> dict[str, bytes]:
    """All plots of a search by name: `tuning_history`, `tuning_objectives` and `tuning_parameters`.

    Args:
        tuning: What the search found.
        base_rate_log_loss: Log loss of always saying the base rate on the validation rows, nats.
        family: Family that was searched, for the titles.
    """
    return {
        "tuning_history": tuning_history_png(tuning.trials, base_rate_log_loss, f"Trials of {family}"),
        "tuning_objectives": objectives_png(
            tuning.trials, tuning.best_trial, base_rate_log_loss, f"Two objectives of {family}"
        ),
        "tuning_parameters": parameters_png(tuning.importances, f"What matters to {family}"),
    }


def tuning_history_png(trials: pl.DataFrame, base_rate_log_loss: float, title: str) -> bytes:
    """Validation log loss of every trial, the best so far, and the trials that were given up.

    Args:
        trials: `trial`, `state` (complete or pruned) and `log_loss` of each trial, as `TuningResult.trials`.
        base_rate_log_loss: Log loss of always saying the base rate on the same rows.
        title: Says of which study.
    """
    completed, pruned = _by_state(trials)
    best = completed["log_loss"].cum_min().to_numpy()
    figure = new_figure(8.0, 4.5)
    axes = figure.subplots()
    axes.plot(completed["trial"].to_numpy(), completed["log_loss"].to_numpy(), "o", color=PRIMARY, label="trial")
    axes.step(completed["trial"].to_numpy(), best, where="post", color=INK, label=f"lowest so far, {best[-1]:.5f}")
    axes.axhline(base_rate_log_loss, color=ACCENT, linestyle=":", label=f"base rate, {base_rate_log_loss:.5f}")
    if not pruned.is_empty():
        label = f"{pruned.height} given up"
        axes.plot(pruned["trial"].to_numpy(), pruned["log_loss"].to_numpy(), "x", color=BAD, label=label)
    dress(axes, title, x_label="Trial", y_label="Validation log loss (nats)")
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(axes)
    return png_bytes(figure)


def objectives_png(trials: pl.DataFrame, best: Mapping[str, float], base_rate_log_loss: float, title: str) -> bytes:
    """Log loss against after-cost Sharpe ratio of every completed trial, their Pareto front and the trial taken.

    Args:
        trials: `state`, `log_loss` and `sharpe_per_day` of each trial, as `TuningResult.trials`.
        best: `log_loss` and `sharpe_per_day` of the trial taken.
        base_rate_log_loss: Log loss of always saying the base rate on the same rows.
        title: Says of which study.
    """
    completed, _ = _by_state(trials)
    front = pareto_front(completed)
    figure = new_figure(8.0, 4.5)
    axes = figure.subplots()
    axes.axhline(0.0, color=MUTED, linewidth=1.0, label="staying flat")
    axes.axvline(base_rate_log_loss, color=ACCENT, linestyle=":", label=f"base rate, {base_rate_log_loss:.5f}")
    _points(axes, completed, "o", PRIMARY, "trial")
    axes.step(
        front["log_loss"].to_numpy(), front["sharpe_per_day"].to_numpy(), where="post", color=INK, label="Pareto front"
    )
    axes.plot([best["log_loss"]], [best["sharpe_per_day"]], "*", color=GOOD, markersize=16, label="taken")
    dress(axes, title, x_label="Validation log loss (nats)", y_label="Sharpe ratio per day after costs")
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    add_legend(axes)
    return png_bytes(figure)


def pareto_front(completed: pl.DataFrame) -> pl.DataFrame:
    """The trials that none other beats in both objectives, by rising log loss; of equal ones the first."""
    ordered = completed.sort("log_loss", "sharpe_per_day", descending=[False, True], maintain_order=True)
    highest_before = pl.col("sharpe_per_day").cum_max().shift(1)
    return ordered.filter(highest_before.is_null() | (pl.col("sharpe_per_day") > highest_before))


def parameters_png(importances: Mapping[str, float], title: str) -> bytes:
    """How much each parameter says about the log loss.

    Args:
        importances: Parameter to share, highest first; empty where too few trials differ to tell.
        title: Says of which study.
    """
    figure = new_figure(8.0, 1.2 + 0.35 * max(2, len(importances)))
    axes = figure.subplots()
    bars = axes.barh(list(importances), [100.0 * share for share in importances.values()], color=PRIMARY)
    axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8, color=INK)
    axes.invert_yaxis()
    axes.margins(x=0.1)
    note = "Share of what the parameters say about the log loss (%)"
    dress(axes, title, x_label=note if importances else "Too few trials differ to tell")
    axes.grid(visible=False, axis="y")
    return png_bytes(figure)


def _by_state(trials: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The completed trials, and the others."""
    complete = pl.col("state") == "complete"
    return trials.filter(complete), trials.filter(~complete)


def _points(axes: Axes, trials: pl.DataFrame, marker: str, color: str, label: str) -> None:
    axes.plot(trials["log_loss"].to_numpy(), trials["sharpe_per_day"].to_numpy(), marker, color=color, label=label)
