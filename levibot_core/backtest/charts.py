"""The pictures of a backtest report, as SVG that stands inside a page.

No script, no outside font, and the same bytes for the same result.
"""

from io import StringIO

import numpy as np
import polars as pl
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from levibot_core.backtest.engine import BacktestResult
from levibot_core.models.plot_style import ACCENT, BAD, GOOD, INK, MUTED, PRIMARY, add_legend, dress, new_figure

_LONGEST_SERIES = 1500
# Inches. Narrow enough that the text is still read on a phone.
_WIDTH = 7.5
_NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def equity_svg(result: BacktestResult) -> str:
    """Equity of the strategy and of buying and holding, both starting at 100."""
    figure = new_figure(_WIDTH, 2.9)
    axes = figure.subplots()
    for account, name, colour in (
        (result.buy_and_hold, "buy and hold", MUTED),
        (result.strategy, "strategy", PRIMARY),
    ):
        shown = _thinned(account.equity)
        axes.plot(
            shown["ts"].to_numpy(), shown["equity"] / result.parameters.initial_equity * 100, color=colour, label=name
        )
    axes.axhline(100, color=INK, linewidth=0.8, linestyle=":")
    dress(axes, "Equity after costs", y_label="start = 100")
    _date_axis(axes)
    add_legend(axes)
    return _svg(figure, "equity")


def drawdown_svg(result: BacktestResult) -> str:
    """How far each account was below its highest equity so far, percent."""
    figure = new_figure(_WIDTH, 2.1)
    axes = figure.subplots()
    holding, strategy = _thinned(result.buy_and_hold.equity), _thinned(result.strategy.equity)
    axes.plot(holding["ts"].to_numpy(), holding["drawdown"] * 100, color=MUTED, linewidth=1, label="buy and hold")
    axes.fill_between(strategy["ts"].to_numpy(), strategy["drawdown"] * 100, 0, color=BAD, alpha=0.35, label="strategy")
    dress(axes, "Below the highest equity", y_label="percent")
    _date_axis(axes)
    add_legend(axes)
    return _svg(figure, "drawdown")


def monthly_svg(result: BacktestResult) -> str:
    """Return of the strategy per calendar month (UTC), percent; a part month counts as it is."""
    months = monthly_returns(result)
    years = sorted(months["year"].unique())
    cells = np.full((len(years), 12), np.nan)
    for year, month, value in months.iter_rows():
        cells[years.index(year), month - 1] = value * 100
    limit = max(float(np.nanmax(np.abs(cells))), 0.1)
    figure = new_figure(_WIDTH, 0.9 + 0.45 * len(years))
    axes = figure.subplots()
    axes.imshow(cells, cmap="RdYlGn", vmin=-limit, vmax=limit, aspect="auto")
    for row, column in zip(*np.nonzero(~np.isnan(cells)), strict=True):
        value = float(cells[row, column])
        colour = "white" if abs(value) > 0.7 * limit else INK
        axes.text(float(column), float(row), f"{value:+z.1f}", ha="center", va="center", fontsize=9, color=colour)
    dress(axes, "Return per month, percent")
    axes.set_xticks(range(12), _MONTHS)
    axes.set_yticks(range(len(years)), [str(year) for year in years])
    axes.grid(visible=False)
    return _svg(figure, "monthly")


def trades_svg(result: BacktestResult) -> str:
    """How the net returns of trades are distributed, percent of their notional."""
    returns = (result.strategy.trades["return"] * 100).to_numpy()
    figure = new_figure(_WIDTH, 2.4)
    axes = figure.subplots()
    edges = np.histogram_bin_edges(returns, bins=min(40, max(10, returns.size // 5)))
    _, _, bars = axes.hist(returns, bins=edges.tolist(), color=GOOD)
    for patch, left in zip(bars, edges[:-1], strict=True):  # type: ignore[arg-type]
        patch.set_facecolor(BAD if left < 0 else GOOD)
    axes.axvline(float(returns.mean()), color=ACCENT, linestyle="--", label=f"mean {returns.mean():+.2f} %")
    axes.axvline(0, color=INK, linewidth=0.8)
    dress(axes, "Net return per trade", x_label="percent of the notional", y_label="trades")
    add_legend(axes)
    return _svg(figure, "trades")


def monthly_returns(result: BacktestResult) -> pl.DataFrame:
    """`year`, `month` and `return` (fraction) of the strategy per calendar month, UTC."""
    # A bar that closes at midnight belongs to the month that ends there.
    within = pl.col("ts").dt.offset_by("-1ms")
    return (
        result.strategy.equity.group_by(
            within.dt.year().cast(pl.Int64).alias("year"),
            within.dt.month().cast(pl.Int64).alias("month"),
            maintain_order=True,
        )
        .agg(pl.col("equity").last())
        .select(
            "year",
            "month",
            (pl.col("equity") / pl.col("equity").shift(1).fill_null(result.parameters.initial_equity) - 1.0).alias(
                "return"
            ),
        )
    )


def _date_axis(axes: Axes) -> None:
    """Few and short dates, so that neighbours do not overlap; UTC."""
    locator = AutoDateLocator(maxticks=8)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def _thinned(equity: pl.DataFrame) -> pl.DataFrame:
    """At most so many points that a screen shows them all; the last one always."""
    step = max(1, equity.height // _LONGEST_SERIES)
    return pl.concat([equity.gather_every(step), equity.tail(1)]).unique("ts", maintain_order=True)


def _svg(figure: Figure, name: str) -> str:
    buffer = StringIO()
    # Text as text, in the reader's own font; ids from the name, so that two pictures on one page do not clash.
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA, facecolor="none")
    text = buffer.getvalue()
    return text[text.index("<svg") :]
