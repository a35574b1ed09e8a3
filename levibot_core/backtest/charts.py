"""The drawings of a backtest's account: equity, drawdown, months and trades, as SVG that follows the page's colours.

What its result hangs on is drawn in `.sensitivity_charts`. The pieces are in `levibot_core.models.svg`; nothing here
is measured, and the same result gives the same text.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from levibot_core.backtest.engine import Account, BacktestResult
from levibot_core.models.svg import Scale, drawing, grid_line, label, number, ticks

FloatArray = npt.NDArray[np.float64]

WIDTH: Final = 440.0
"""Narrow, so that the text is still read on a phone."""
LEFT, RIGHT, TOP = 46.0, 12.0, 14.0
_MOST_POINTS: Final = 360
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def equity_svg(result: BacktestResult, champion: Account | None = None) -> str:
    """Equity of the strategy, of buying and holding and perhaps of the champion, all starting at 100."""
    lines = [("hold", "buy and hold", result.buy_and_hold)]
    lines += [("champion", "champion", champion)] if champion is not None else []
    lines += [("line", "strategy", result.strategy)]
    start = result.parameters.initial_equity
    series = [(css, name, *_series(account, "equity", 100.0 / start)) for css, name, account in lines]
    return _over_time(series, "Equity after costs, start = 100", level=100.0)


def drawdown_svg(result: BacktestResult) -> str:
    """How far each account was below its highest equity so far, percent."""
    series = [
        (css, name, *_series(account, "drawdown", 100.0))
        for css, name, account in (
            ("hold", "buy and hold", result.buy_and_hold),
            ("fall", "strategy", result.strategy),
        )
    ]
    return _over_time(series, "Below the highest equity, percent", level=0.0)


def monthly_svg(result: BacktestResult) -> str:
    """Return of the strategy per calendar month (UTC), percent; a part month counts as it is."""
    months = monthly_returns(result)
    years = sorted(months["year"].unique())
    width, height = (WIDTH - 40.0) / 12, 30.0
    limit = max(float(months["return"].abs().max() or 0.0) * 100, 0.1)  # type: ignore[arg-type]
    parts = [label(40.0 + width * (place + 0.5), 12.0, name, "middle") for place, name in enumerate(_MONTHS)]
    parts += [label(34.0, 20.0 + height * (row + 0.62), str(year), "end") for row, year in enumerate(years)]
    for year, month, value in months.drop_nulls().iter_rows():
        x, y = 40.0 + width * (month - 1), 20.0 + height * years.index(year)
        told = f"{_MONTHS[month - 1]} {year}: {value:+z.2%}"
        shown = f"{value * 100:+z.1f}" if limit >= 1.0 else f"{value * 100:+z.2f}"
        parts.append(heat_cell(x, y, width, height, value * 100, limit, shown, told))
    return drawing(WIDTH, 24.0 + height * len(years), "Return per month, percent", parts)


def trades_svg(result: BacktestResult) -> str:
    """How the net returns of trades are distributed, percent of their notional."""
    returns = (result.strategy.trades["return"] * 100).to_numpy()
    return histogram_svg(
        returns, float(returns.mean()), "mean", "net return of a trade, percent", "Net return per trade"
    )


def monthly_returns(result: BacktestResult) -> pl.DataFrame:
    """`year`, `month` and `return` (fraction; null where nothing was left) of the strategy per calendar month, UTC."""
    # A bar that closes at midnight belongs to the month that ends there.
    within = pl.col("ts").dt.offset_by("-1ms")
    before = pl.col("equity").shift(1).fill_null(result.parameters.initial_equity)
    return (
        result.strategy.equity.group_by(
            within.dt.year().cast(pl.Int64).alias("year"),
            within.dt.month().cast(pl.Int64).alias("month"),
            maintain_order=True,
        )
        .agg(pl.col("equity").last())
        .select("year", "month", pl.when(before > 0.0).then(pl.col("equity") / before - 1.0).alias("return"))
    )


def histogram_svg(values: FloatArray, marked: float, mark: str, x_label: str, title: str) -> str:
    """Counts of values, those below 0 in another colour, with one value marked."""
    low, high = min(float(values.min()), marked, 0.0), max(float(values.max()), marked, 0.0)
    margin = max((high - low) * 0.02, 1e-9)
    counts, edges = np.histogram(values, bins=min(40, max(12, values.size // 5)), range=(low - margin, high + margin))
    across = Scale(edges[0], edges[-1], LEFT - 12, WIDTH - RIGHT)
    upright = Scale(0.0, float(counts.max()), 150.0, 24.0)
    parts = [grid_line(LEFT - 12, 150.0, WIDTH - RIGHT, 150.0)]
    for count, left, right in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if count:
            css = "loss" if (left + right) / 2 < 0.0 else "gain"
            x, y = across(left), upright(count)
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(across(right) - x - 1.0, 0.8):.1f}" '
                f'height="{150.0 - y:.1f}" class="{css}"><title>{left:.3g} to {right:.3g}: {count}</title></rect>'
            )
    parts += [label(across(tick), 166.0, number(tick), "middle") for tick in ticks(edges[0], edges[-1], 5)]
    parts += [
        f'<line x1="{across(marked):.1f}" y1="16" x2="{across(marked):.1f}" y2="150" class="base"/>',
        label(
            *_beside(across(marked), 12.0), f"{mark} {marked:+.3g}", "start" if across(marked) < WIDTH / 2 else "end"
        ),
        label(WIDTH / 2, 184.0, x_label, "middle"),
    ]
    return drawing(WIDTH, 190.0, title, parts)


def heat_cell(x: float, y: float, width: float, height: float, value: float, limit: float, text: str, told: str) -> str:
    """A cell that is the stronger coloured the further its value is from 0."""
    strength = 0.08 + 0.55 * min(abs(value) / limit, 1.0)
    css = "loss" if value < 0.0 else "gain"
    return (
        f'<rect x="{x + 1:.1f}" y="{y + 1:.1f}" width="{width - 2:.1f}" height="{height - 2:.1f}" rx="3" class="{css}" '
        f'fill-opacity="{strength if value else 0.05:.2f}"><title>{told}</title></rect>'
        f'<text x="{x + width / 2:.1f}" y="{y + height / 2 + 4:.1f}" text-anchor="middle" class="cell">{text}</text>'
    )


def legend(names: Sequence[tuple[str, str]], y: float) -> list[str]:
    """Names of lines beside a piece of each, from the left; `names` are classes and texts."""
    parts, x = [], LEFT
    for css, name in names:
        parts.append(f'<line x1="{x:.1f}" y1="{y - 4:.1f}" x2="{x + 16:.1f}" y2="{y - 4:.1f}" class="{css} key"/>')
        parts.append(label(x + 21, y, name, "start"))
        x += 34 + 6.6 * len(name)
    return parts


def _over_time(series: Sequence[tuple[str, str, FloatArray, FloatArray]], title: str, level: float) -> str:
    """Lines over the same time; of class `fall`, an area down from the level."""
    values = np.concatenate([values for *_, values in series])
    low, high = min(float(values.min()), level), max(float(values.max()), level)
    margin = max((high - low) * 0.06, abs(level) * 1e-3, 0.01)
    times = series[0][2]
    bottom = 178.0
    across = Scale(float(times[0]), float(times[-1]) + 1.0, LEFT, WIDTH - RIGHT)
    top = high + (margin if level else 0.0)
    upright = Scale(low - margin, top, bottom, TOP + 14)
    marks = ticks(low - margin, top, 4)
    parts = [grid_line(LEFT, upright(mark), WIDTH - RIGHT, upright(mark)) for mark in marks]
    parts += [label(LEFT - 7, upright(mark) + 4, number(mark), "end") for mark in marks]
    parts += [label(across(float(instant)), bottom + 17, text, anchor) for instant, text, anchor in _dates(times)]
    parts.append(
        f'<line x1="{LEFT}" y1="{upright(level):.1f}" x2="{WIDTH - RIGHT}" y2="{upright(level):.1f}" class="even"/>'
    )
    for css, name, instants, line in series:
        points = " ".join(
            f"{across(instant):.1f},{upright(value):.1f}"
            for instant, value in zip(instants.tolist(), line.tolist(), strict=True)
        )
        if css == "fall":
            corners = (
                f"{across(instants[0]):.1f},{upright(level):.1f}",
                f"{across(instants[-1]):.1f},{upright(level):.1f}",
            )
            parts.append(
                f'<polygon points="{corners[0]} {points} {corners[1]}" class="fall"><title>{name}</title></polygon>'
            )
        else:
            parts.append(f'<polyline points="{points}" class="{css}"><title>{name}</title></polyline>')
    parts += legend([(css, name) for css, name, *_ in series], TOP)
    return drawing(WIDTH, bottom + 24, title, parts)


def _series(account: Account, column: str, factor: float) -> tuple[FloatArray, FloatArray]:
    """Times (UTC milliseconds) and values of a curve, at most so many that a screen shows them all."""
    curve = account.equity
    step = max(1, curve.height // _MOST_POINTS)
    shown = pl.concat([curve.gather_every(step), curve.tail(1)]).unique("ts", maintain_order=True)
    times = shown["ts"].dt.epoch("ms").cast(pl.Float64).to_numpy()
    return times, shown[column].to_numpy() * factor


def _dates(times: FloatArray) -> list[tuple[float, str, str]]:
    """Four instants, evenly apart, as dates; with the hour where all are within two days."""
    first, last = float(times[0]), float(times[-1])
    layout = "%d %b %H:%M" if last - first < 2 * 86_400_000 else "%d %b" if last - first < 300 * 86_400_000 else "%b %Y"
    found = []
    for place, anchor in enumerate(("start", "middle", "middle", "end")):
        instant = first + (last - first) * place / 3
        found.append((instant, f"{datetime.fromtimestamp(instant / 1000, UTC):{layout}}", anchor))
    return found


def _beside(x: float, y: float) -> tuple[float, float]:
    return (x + 5.0, y) if x < WIDTH / 2 else (x - 5.0, y)
