"""The drawings on a model card's page, made from the card's own numbers: SVG that follows the page's colours.

Colours are CSS variables of the page (`--ink`, `--muted`, `--line`, `--primary`, `--accent`), so that one drawing is
right on light and on dark. Nothing here is measured.
"""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

_WIDTH, _MARGIN = 640.0, 46.0
_LEAST_RANGE = 0.02


def reliability_svg(card: dict[str, Any]) -> str:
    """Forecast against frequency on the test rows; a dot's area is the number of its rows."""
    curve, base_rate = card["reliability"], card["base_rate"]["probability"]
    values = [*curve["predicted"], *curve["observed"], base_rate]
    low, high = _range(values)
    size = 400.0
    scale = _Scale(low, high, _MARGIN + 14, size - 12)
    upright = _Scale(low, high, size - _MARGIN, 12)
    most = max(curve["counts"])
    dots = [
        f'<circle cx="{scale(x):.1f}" cy="{upright(y):.1f}" r="{3 + 5 * math.sqrt(count / most):.1f}" '
        f'class="dot"><title>forecast {x:.4f}, happened {y:.4f}, {count:,} rows</title></circle>'
        for x, y, count in zip(curve["predicted"], curve["observed"], curve["counts"], strict=True)
    ]
    points = " ".join(
        f"{scale(x):.1f},{upright(y):.1f}" for x, y in zip(curve["predicted"], curve["observed"], strict=True)
    )
    ticks = _ticks(low, high)
    left, right, bottom, top = scale(low), scale(high), upright(low), upright(high)
    parts = [
        *(_grid_line(scale(tick), bottom, scale(tick), top) for tick in ticks),
        *(_grid_line(left, upright(tick), right, upright(tick)) for tick in ticks),
        *(_label(scale(tick), bottom + 17, _number(tick), "middle") for tick in ticks),
        *(_label(left - 8, upright(tick) + 4, _number(tick), "end") for tick in ticks),
        f'<line x1="{left:.1f}" y1="{bottom:.1f}" x2="{right:.1f}" y2="{top:.1f}" class="even"/>',
        f'<line x1="{left:.1f}" y1="{upright(base_rate):.1f}" x2="{right:.1f}" y2="{upright(base_rate):.1f}" '
        'class="base"/>',
        f'<polyline points="{points}" class="line"/>',
        *dots,
        _label((left + right) / 2, size - 6, "forecast probability of a rise", "middle"),
        f'<text transform="translate(12 {(bottom + top) / 2:.1f}) rotate(-90)" text-anchor="middle">share of rises'
        "</text>",
    ]
    return _svg(size, size, "Forecast against frequency", parts)


def spread_svg(spread: dict[str, Any], figure: str, reference: float, words: str) -> str:
    """Every run of the spread as a dot, one line per fold, with the value that means no skill."""
    folds = sorted({run["fold"] for run in spread["runs"]})
    values = [run[figure] for run in spread["runs"]]
    low, high = min(*values, reference), max(*values, reference)
    margin = max(0.08 * (high - low), 1e-5)
    low, high = low - margin, high + margin
    step, top = 34.0, 26.0
    height = top + step * len(folds) + 34
    scale = _Scale(low, high, 66, _WIDTH - 16)
    bottom = top + step * len(folds)
    ticks = _ticks(low, high, 5)
    parts = [
        *(_grid_line(scale(tick), top - 8, scale(tick), bottom) for tick in ticks),
        *(_label(scale(tick), bottom + 17, _number(tick), "middle") for tick in ticks),
        f'<line x1="{scale(reference):.1f}" y1="{top - 8:.1f}" x2="{scale(reference):.1f}" y2="{bottom:.1f}" '
        'class="base"/>',
        _label(scale(reference), top - 13, escape(words), _anchor(scale(reference))),
    ]
    for place, fold in enumerate(folds):
        y = top + step * (place + 0.5)
        parts.append(_label(8, y + 4, f"fold {fold}", "start"))
        parts += [
            f'<circle cx="{scale(run[figure]):.1f}" cy="{y:.1f}" r="5.5" class="run"><title>fold {fold}, seed '
            f"{run['seed']}: {run[figure]:.5f}</title></circle>"
            for run in spread["runs"]
            if run["fold"] == fold
        ]
    return _svg(_WIDTH, height, f"{figure} of every fold and seed", parts)


def interval_svg(mean: float, lower: float, upper: float) -> str:
    """A difference of log loss with its interval, and 0, below which the model is better."""
    widest = max(abs(lower), abs(upper), 1e-9) * 1.15
    scale = _Scale(-widest, widest, 12, _WIDTH - 12)
    better = upper < 0.0
    ticks = _ticks(-widest, widest, 5)
    parts = [_grid_line(scale(tick), 24, scale(tick), 62) for tick in ticks]
    parts += [_label(scale(tick), 80, f"{tick:+.2g}" if tick else "0", "middle") for tick in ticks]
    parts += [
        f'<line x1="{scale(0):.1f}" y1="20" x2="{scale(0):.1f}" y2="62" class="base"/>',
        _label(scale(0) - 8, 14, "better", "end"),
        _label(scale(0) + 8, 14, "worse", "start"),
        f'<line x1="{scale(lower):.1f}" y1="43" x2="{scale(upper):.1f}" y2="43" '
        f'class="{"good" if better else "whisker"}"/>',
        f'<circle cx="{scale(mean):.1f}" cy="43" r="6.5" class="{"gooddot" if better else "dot"}"/>',
    ]
    return _svg(_WIDTH, 86, "Difference of log loss with its 95 % interval", parts)


class _Scale:
    """Maps values to places on the drawing, linearly."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._start = low, start
        self._factor = (end - start) / (high - low)

    def __call__(self, value: float) -> float:
        return self._start + (value - self._low) * self._factor


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = max(0.08 * (high - low), (_LEAST_RANGE - (high - low)) / 2)
    return max(0.0, low - margin), min(1.0, high + margin)


def _ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round values inside the range."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def _number(value: float) -> str:
    return f"{value:.6g}" if value else "0"


def _anchor(x: float) -> str:
    return "start" if x < _WIDTH / 3 else "end" if x > 2 * _WIDTH / 3 else "middle"


def _grid_line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="grid"/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">' + "".join(parts) + "</svg>"
    )
