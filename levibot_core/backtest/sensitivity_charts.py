"""The drawings of what a backtest's result hangs on: costs, capital, luck, and what forecasts promised.

The account itself is drawn in `.charts`, what is drawn is computed in `.sensitivity`.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from levibot_core.backtest.analysis import RandomEntryFigures
from levibot_core.backtest.charts import LEFT, RIGHT, WIDTH, heat_cell, histogram_svg, legend
from levibot_core.backtest.sensitivity import CapacityPoint, CostSurface, ForecastEdges
from levibot_core.models.svg import Scale, drawing, grid_line, label, number, ticks

_BOTTOM: Final = 170.0


def surface_svg(surface: CostSurface, fee_bps: float, slippage_bps: float) -> str:
    """Return by fee and slippage, percent; what is charged now has a frame."""
    limit = max(*(abs(value) for row in surface.total_return for value in row), 1e-4) * 100
    left, height = 64.0, 30.0
    width = (WIDTH - left - 4) / len(surface.fees_bps)
    parts = [
        label(left + width * (place + 0.5), 14.0, f"{fee:g}", "middle") for place, fee in enumerate(surface.fees_bps)
    ]
    for row, slippage in enumerate(surface.slippages_bps):
        y = 20.0 + height * row
        parts.append(label(left - 8, y + height * 0.63, f"{slippage:g}", "end"))
        for column, fee in enumerate(surface.fees_bps):
            value, ratio = surface.total_return[row][column], surface.sharpe[row][column]
            sharpe = "none" if ratio is None else f"{ratio:.2f}"
            told = f"fee {fee:g}, slippage {slippage:g} bps: {value:+z.2%}, Sharpe ratio {sharpe}"
            x = left + width * column
            parts.append(heat_cell(x, y, width, height, value * 100, limit, f"{value * 100:+z.3g}", told))
            if math.isclose(fee, fee_bps, abs_tol=1e-9) and math.isclose(slippage, slippage_bps, abs_tol=1e-9):
                parts.append(
                    f'<rect x="{x + 1:.1f}" y="{y + 1:.1f}" width="{width - 2:.1f}" height="{height - 2:.1f}" rx="3" '
                    'class="frame"/>'
                )
    end = 20.0 + height * len(surface.slippages_bps)
    parts += [
        label(left + (WIDTH - left) / 2, end + 18, "fee of a fill, bps", "middle"),
        f'<text transform="translate(14 {(20 + end) / 2:.1f}) rotate(-90)" text-anchor="middle">slippage, bps</text>',
    ]
    return drawing(WIDTH, end + 24, "Return after costs by fee and slippage, percent", parts)


def capacity_svg(points: Sequence[CapacityPoint], what: str) -> str:
    """Return (percent) or Sharpe ratio by the money put in; `what` is `return` or `sharpe`."""
    known = [(point.capital, point.total_return * 100 if what == "return" else point.sharpe) for point in points]
    shown = [(capital, value) for capital, value in known if value is not None]
    if not shown:
        return ""
    values = [value for _, value in shown]
    low, high = min(*values, 0.0), max(*values, 0.0)
    margin = max((high - low) * 0.08, 1e-3)
    across = Scale(math.log10(shown[0][0]), math.log10(shown[-1][0]) + 1e-9, LEFT + 4, WIDTH - RIGHT - 8)
    upright = Scale(low - margin, high + margin, _BOTTOM, 26.0)
    marks = ticks(low - margin, high + margin, 4)
    parts = [grid_line(LEFT, upright(mark), WIDTH - RIGHT, upright(mark)) for mark in marks]
    parts += [label(LEFT - 7, upright(mark) + 4, number(mark), "end") for mark in marks]
    decades = [capital for capital, _ in shown if math.isclose(math.log10(capital) % 1.0, 0.0, abs_tol=1e-9)]
    parts += [label(across(math.log10(capital)), _BOTTOM + 17, short_amount(capital), "middle") for capital in decades]
    parts.append(
        f'<line x1="{LEFT}" y1="{upright(0.0):.1f}" x2="{WIDTH - RIGHT}" y2="{upright(0.0):.1f}" class="even"/>'
    )
    line = " ".join(f"{across(math.log10(capital)):.1f},{upright(value):.1f}" for capital, value in shown)
    parts.append(f'<polyline points="{line}" class="line"/>')
    parts += [
        f'<circle cx="{across(math.log10(capital)):.1f}" cy="{upright(value):.1f}" r="4" class="dot">'
        f"<title>{capital:,.0f}: {value:.3g}</title></circle>"
        for capital, value in shown
    ]
    title = "Return, percent" if what == "return" else "Sharpe ratio"
    parts += [*legend([("line", title)], 14.0), label(WIDTH / 2, _BOTTOM + 34, "money put in", "middle")]
    return drawing(WIDTH, _BOTTOM + 40, f"{title} by capital", parts)


def random_entries_svg(entries: RandomEntryFigures) -> str:
    """Returns of the random runs, with that of the backtest, percent."""
    return histogram_svg(
        np.array(entries.random_returns) * 100,
        entries.total_return * 100,
        "backtest",
        "return of a run, percent",
        "Returns of random entries",
    )


def edges_svg(edges: ForecastEdges) -> str:
    """The share of forecasts that would pay a round trip of each cost, on a logarithmic scale, with what it costs."""
    floor = 0.5 / edges.forecasts
    across = Scale(0.0, edges.curve_bps[-1], LEFT + 8, WIDTH - RIGHT)
    upright = Scale(math.log10(floor), 0.0, _BOTTOM, 26.0)
    decades = [10.0**-power for power in range(math.ceil(-math.log10(floor)))]
    parts = [
        grid_line(LEFT + 8, upright(math.log10(mark)), WIDTH - RIGHT, upright(math.log10(mark))) for mark in decades
    ]
    parts += [label(LEFT, upright(math.log10(mark)) + 4, f"{mark * 100:g} %", "end") for mark in decades]
    parts += [label(across(tick), _BOTTOM + 17, number(tick), "middle") for tick in ticks(0.0, edges.curve_bps[-1], 6)]
    end = edges.curve_share.index(0.0) + 1  # where none is left, which the last cost is chosen to be
    points = " ".join(
        f"{across(cost):.1f},{upright(math.log10(max(share, floor))):.1f}"
        for cost, share in zip(edges.curve_bps[:end], edges.curve_share[:end], strict=True)
    )
    at = across(edges.round_trip_bps)
    parts += [
        f'<polyline points="{points}" class="line"/>',
        f'<line x1="{at:.1f}" y1="20" x2="{at:.1f}" y2="{_BOTTOM}" class="base"/>',
        label(at - 5, 15.0, f"a round trip costs {edges.round_trip_bps:g} bps", "end"),
        label(WIDTH / 2, _BOTTOM + 34, "cost of a round trip, bps", "middle"),
    ]
    return drawing(WIDTH, _BOTTOM + 40, "Share of forecasts that would pay, by cost", parts)


def short_amount(capital: float) -> str:
    """Money in few letters: 10k, 1M."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if capital >= unit:
            return f"{capital / unit:g}{name}"
    return f"{capital:g}"
