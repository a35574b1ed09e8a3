"""The drawings on a model card's page, made from the card's own numbers: SVG that follows the page's colours.

The pieces they are made of are in `.svg`. Nothing here is measured.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from levibot_core.models.svg import Scale, drawing, grid_line, label, number, ticks

_WIDTH, _MARGIN = 640.0, 46.0
_LEAST_RANGE = 0.02


def reliability_svg(
    predicted: Sequence[float],
    observed: Sequence[float],
    counts: Sequence[int],
    base_rate: float,
    bands: Sequence[tuple[float, float]] = (),
) -> str:
    """Forecast against frequency; a dot's area is the number of its rows.

    Args:
        predicted: Mean forecast per bin.
        observed: Share of rises per bin.
        counts: Rows per bin.
        base_rate: Share of rises in the training rows.
        bands: Per bin, what the share may be off by chance: lower and upper limit. None are drawn where none are given.
    """
    values = [*predicted, *observed, base_rate, *(limit for band in bands for limit in band)]
    low, high = _range(values)
    size = 400.0
    scale = Scale(low, high, _MARGIN + 14, size - 12)
    upright = Scale(low, high, size - _MARGIN, 12)
    most = max(counts)
    dots = [
        f'<circle cx="{scale(x):.1f}" cy="{upright(y):.1f}" r="{3 + 5 * math.sqrt(count / most):.1f}" '
        f'class="dot"><title>forecast {x:.4f}, happened {y:.4f}, {count:,} rows</title></circle>'
        for x, y, count in zip(predicted, observed, counts, strict=True)
    ]
    points = " ".join(f"{scale(x):.1f},{upright(y):.1f}" for x, y in zip(predicted, observed, strict=True))
    whiskers = [
        f'<line x1="{scale(x):.1f}" y1="{upright(lower):.1f}" x2="{scale(x):.1f}" y2="{upright(upper):.1f}" '
        'class="band"/>'
        for x, (lower, upper) in zip(predicted, bands, strict=False)
    ]
    marks = ticks(low, high)
    left, right, bottom, top = scale(low), scale(high), upright(low), upright(high)
    parts = [
        *(grid_line(scale(tick), bottom, scale(tick), top) for tick in marks),
        *(grid_line(left, upright(tick), right, upright(tick)) for tick in marks),
        *(label(scale(tick), bottom + 17, number(tick), "middle") for tick in marks),
        *(label(left - 8, upright(tick) + 4, number(tick), "end") for tick in marks),
        f'<line x1="{left:.1f}" y1="{bottom:.1f}" x2="{right:.1f}" y2="{top:.1f}" class="even"/>',
        f'<line x1="{left:.1f}" y1="{upright(base_rate):.1f}" x2="{right:.1f}" y2="{upright(base_rate):.1f}" '
        'class="base"/>',
        *whiskers,
        f'<polyline points="{points}" class="line"/>',
        *dots,
        label((left + right) / 2, size - 6, "forecast probability of a rise", "middle"),
        f'<text transform="translate(12 {(bottom + top) / 2:.1f}) rotate(-90)" text-anchor="middle">share of rises'
        "</text>",
    ]
    return drawing(size, size, "Forecast against frequency", parts)


def spread_svg(spread: dict[str, Any], figure: str, reference: float, words: str) -> str:
    """Every run of the spread as a dot, one line per fold, with the value that means no skill."""
    folds = sorted({run["fold"] for run in spread["runs"]})
    values = [run[figure] for run in spread["runs"]]
    low, high = min(*values, reference), max(*values, reference)
    margin = max(0.08 * (high - low), 1e-5)
    low, high = low - margin, high + margin
    step, top = 34.0, 26.0
    height = top + step * len(folds) + 34
    scale = Scale(low, high, 66, _WIDTH - 16)
    bottom = top + step * len(folds)
    marks = ticks(low, high, 5)
    parts = [
        *(grid_line(scale(tick), top - 8, scale(tick), bottom) for tick in marks),
        *(label(scale(tick), bottom + 17, number(tick), "middle") for tick in marks),
        f'<line x1="{scale(reference):.1f}" y1="{top - 8:.1f}" x2="{scale(reference):.1f}" y2="{bottom:.1f}" '
        'class="base"/>',
        label(scale(reference), top - 13, escape(words), _anchor(scale(reference))),
    ]
    for place, fold in enumerate(folds):
        y = top + step * (place + 0.5)
        parts.append(label(8, y + 4, f"fold {fold}", "start"))
        parts += [
            f'<circle cx="{scale(run[figure]):.1f}" cy="{y:.1f}" r="5.5" class="run"><title>fold {fold}, seed '
            f"{run['seed']}: {run[figure]:.5f}</title></circle>"
            for run in spread["runs"]
            if run["fold"] == fold
        ]
    return drawing(_WIDTH, height, f"{figure} of every fold and seed", parts)


def interval_svg(mean: float, lower: float, upper: float) -> str:
    """A difference of log loss with its interval, and 0, below which the model is better."""
    widest = max(abs(lower), abs(upper), 1e-9) * 1.15
    scale = Scale(-widest, widest, 12, _WIDTH - 12)
    better = upper < 0.0
    marks = ticks(-widest, widest, 5)
    parts = [grid_line(scale(tick), 24, scale(tick), 62) for tick in marks]
    parts += [label(scale(tick), 80, f"{tick:+.2g}" if tick else "0", "middle") for tick in marks]
    parts += [
        f'<line x1="{scale(0):.1f}" y1="20" x2="{scale(0):.1f}" y2="62" class="base"/>',
        label(scale(0) - 8, 14, "better", "end"),
        label(scale(0) + 8, 14, "worse", "start"),
        f'<line x1="{scale(lower):.1f}" y1="43" x2="{scale(upper):.1f}" y2="43" '
        f'class="{"good" if better else "whisker"}"/>',
        f'<circle cx="{scale(mean):.1f}" cy="43" r="6.5" class="{"gooddot" if better else "dot"}"/>',
    ]
    return drawing(_WIDTH, 86, "Difference of log loss with its 95 % interval", parts)


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = max(0.08 * (high - low), (_LEAST_RANGE - (high - low)) / 2)
    return max(0.0, low - margin), min(1.0, high + margin)


def _anchor(x: float) -> str:
    return "start" if x < _WIDTH / 3 else "end" if x > 2 * _WIDTH / 3 else "middle"
