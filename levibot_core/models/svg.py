"""Pieces of the drawings on pages: SVG text that follows the page's colours, on light and on dark.

Colours are CSS variables of the page, set in `page.css` with the classes used here. What is drawn is said in
`.card_charts` and `levibot_core.validation.certificate_charts`.
"""

import math
from collections.abc import Sequence
from html import escape


class Scale:
    """Maps values to places on a drawing, linearly."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self._low, self._start = low, start
        self._factor = (end - start) / (high - low)

    def __call__(self, value: float) -> float:
        """The place of a value."""
        return self._start + (value - self._low) * self._factor


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round values inside the range."""
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def number(value: float) -> str:
    """A value for a tick, as short as it can be."""
    return f"{value:.6g}" if value else "0"


def grid_line(x1: float, y1: float, x2: float, y2: float) -> str:
    """A thin line from the one point to the other."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="grid"/>'


def label(x: float, y: float, text: str, anchor: str) -> str:
    """Text at a point, which is its `start`, `middle` or `end`; the caller escapes it."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'


def drawing(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """The whole, as wide as the page lets it."""
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">' + "".join(parts) + "</svg>"
    )
