"""The picture of a backtest that was computed again, as PNG bytes.

The house style is in `levibot_core.models.plot_style`; the verdict is `levibot_core.validation.backtest_regression`'s.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from levibot_core.models.plot_style import ACCENT, BAD, MUTED, add_legend, dress, new_figure, png_bytes
from levibot_core.validation.backtest_regression import MAXIMUM_SHARPE_DROP, BacktestRecord


def regression_png(recorded: BacktestRecord, recomputed: BacktestRecord, title: str) -> bytes:
    """What the trades had earned, as recorded and as computed again, and both Sharpe ratios beside the limit."""
    figure = new_figure(9.0, 4.0)
    curves, ratios = figure.subplots(1, 2, width_ratios=(3, 1))
    then, now = (record.report.get("trades", ()) for record in (recorded, recomputed))
    _earned(curves, then, MUTED, 4.0, "when it was judged")
    _earned(curves, now, ACCENT, 1.5, "computed again")
    if not then and not now:
        curves.text(0.5, 0.5, "no trade, then and now", ha="center", va="center", transform=curves.transAxes)
        curves.set_xticks([])
        curves.set_yticks([])
    else:
        add_legend(curves)
        curves.tick_params(axis="x", rotation=30)
    dress(curves, title, "trade closed, UTC", "net gain so far, quote currency")
    found = [recorded.sharpe or 0.0, recomputed.sharpe or 0.0]
    ratios.bar(["judged", "again"], found, color=[MUTED, ACCENT], width=0.6)
    ratios.axhline(0.0, color=MUTED, linewidth=1.0)
    if recorded.sharpe is not None and recorded.sharpe > 0.0:
        ratios.axhline((1.0 - MAXIMUM_SHARPE_DROP) * recorded.sharpe, color=BAD, linestyle="--", linewidth=1.2)
    dress(ratios, "Sharpe ratio")
    return png_bytes(figure)


def _earned(axes: Axes, trades: Sequence[dict[str, Any]], color: str, width: float, label: str) -> None:
    """Sum of the net gains, a step at every exit."""
    if not trades:
        return
    ordered = sorted(trades, key=lambda trade: str(trade["exit_ts"]))
    times = np.array([datetime.fromisoformat(str(trade["exit_ts"])).replace(tzinfo=None) for trade in ordered])
    gains = np.cumsum([float(trade["net_pnl"]) for trade in ordered])
    axes.step(times, gains, where="post", color=color, linewidth=width, label=label)
