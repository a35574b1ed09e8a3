"""Draw the results of `model_table`: log loss beside the base rate's, and area under the curve, with their intervals.

    python -m benchmarks.model_table_plots [results.json] [folder]

Without arguments the kept result is drawn into `docs/images`.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.axes import Axes

from benchmarks.harness import ROOT, Outcome
from benchmarks.report import RESULTS
from levibot_core.models.plot_style import ACCENT, GOOD, INK, MUTED, PRIMARY, add_legend, dress, new_figure, png_bytes
from levibot_core.stores.files import write_bytes_atomically

COLOURS = (PRIMARY, ACCENT, GOOD)
Figures = Callable[[Outcome], tuple[float, float, float]]
"""Value, lower and upper end of a model's outcome."""


def main(results: Path = RESULTS / "model_table.json", folder: Path = ROOT / "docs" / "images") -> int:
    """Draw both plots and return the exit code."""
    if not results.exists():
        sys.stderr.write(f"Expected results in {results}, found none; run python -m benchmarks.model_table.\n")
        return 1
    cases = json.loads(results.read_text("utf-8"))["ours"]
    write_bytes_atomically(
        folder / "model_table_log_loss.png",
        plot(
            cases, "Log loss less that of the base rate, 1e-4 (left is better)", 0.0, (-95.0, 50.0), _against_base_rate
        ),
    )
    write_bytes_atomically(
        folder / "model_table_auc.png", plot(cases, "AUC (right is better)", 0.5, (0.46, 0.59), _area)
    )
    return 0


def plot(cases: Mapping[str, Outcome], label: str, reference: float, limits: tuple[float, float], of: Figures) -> bytes:
    """One panel per period, one row per model, one mark per horizon with its 95 % interval; PNG.

    Args:
        cases: `period, n bars` to outcome.
        label: Of the figure.
        reference: Where a line is drawn.
        limits: Of the axis; what lies beyond is written at its edge.
        of: The figure.
    """
    periods = list(dict.fromkeys(case.split(", ")[0] for case in cases))
    names = list(dict.fromkeys(name for outcome in cases.values() for name in outcome["models"]))
    figure = new_figure(5.2 * len(periods), 0.9 + 0.42 * len(names))
    panels = figure.subplots(1, len(periods), sharey=True, squeeze=False)[0]
    for period, axes in zip(periods, panels, strict=True):
        dress(axes, period, label)
        axes.axvline(reference, color=INK, linewidth=1.0)
        axes.set_xlim(*limits)
        own = {case.split(", ")[1]: outcome for case, outcome in cases.items() if case.split(", ")[0] == period}
        for number, (horizon, outcome) in enumerate(own.items()):
            _draw(axes, outcome["models"], names, horizon, (number - 1) * 0.22, COLOURS[number], limits, of)
        add_legend(axes)
    panels[0].set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    panels[0].invert_yaxis()
    return png_bytes(figure)


def _draw(
    axes: Axes,
    models: Mapping[str, Outcome],
    names: list[str],
    horizon: str,
    shift: float,
    colour: str,
    limits: tuple[float, float],
    of: Figures,
) -> None:
    axes.plot([], [], "o", color=colour, markersize=4, label=horizon)
    for name, outcome in models.items():
        value, lower, upper = of(outcome)
        y = names.index(name) + shift
        if not limits[0] <= value <= limits[1]:
            beyond = value > limits[1]
            axes.annotate(
                f"{value:+.0f} {'→' if beyond else '←'}", (limits[beyond], y), color=MUTED, fontsize=7,
                ha="right" if beyond else "left", va="center",
            )  # fmt: skip
            continue
        axes.plot([lower, upper], [y, y], color=colour, linewidth=1.4, clip_on=True)
        axes.plot([value], [y], "o", color=colour, markersize=4)


def _against_base_rate(outcome: Outcome) -> tuple[float, float, float]:
    return (
        outcome["against_base_rate_e4"]["mean"],
        outcome["against_base_rate_lower_95_e4"],
        outcome["against_base_rate_upper_95_e4"],
    )


def _area(outcome: Outcome) -> tuple[float, float, float]:
    return outcome["auc"]["mean"], outcome["auc_lower_95"], outcome["auc_upper_95"]


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:3])))
