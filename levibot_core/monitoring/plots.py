"""The pictures of feature monitoring, as PNG bytes: correlation, importance, staleness, parity.

Drift has its own in `levibot_core.drift.plots`; style is in `levibot_core.models.plot_style`.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
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
from levibot_core.monitoring.correlation import CorrelationReport
from levibot_core.monitoring.staleness import StalenessReport

_NAMED_CLUSTERS = 12
_NAMES_FIT = 45
_SHOWN_VERSIONS = 30
_FEWEST_DAYS = 10
_LINES = (PRIMARY, ACCENT, GOOD, BAD, "#6c5ba7", "#2a9d8f", MUTED, "#8d6e4f")


def correlation_png(report: CorrelationReport, title: str) -> bytes:
    """The correlation matrix in the order of the clustering, with every cluster framed and the largest ones named."""
    count = len(report.features)
    figure = new_figure(12.5, 8.6)
    axes, side = figure.subplots(1, 2, width_ratios=(4.2, 1.0))
    image = axes.imshow(report.matrix, cmap="RdBu_r", vmin=-1.0, vmax=1.0, interpolation="nearest")
    dress(axes, title)
    axes.grid(visible=False)
    if count <= _NAMES_FIT:
        axes.set_xticks(range(count), report.features, rotation=90, fontsize=7)
        axes.set_yticks(range(count), report.features, fontsize=7)
    else:
        axes.set_xlabel(f"{count} features in the order of the clustering", fontsize=10, color=INK)
    side.set_axis_off()
    side.text(0.0, 1.0, "\n".join(_frame_clusters(axes, report)), fontsize=9, color=INK, va="top")
    bar = figure.colorbar(image, ax=side, location="bottom", shrink=0.9)
    bar.set_label("Spearman's rho", color=INK)
    return png_bytes(figure)


def _frame_clusters(axes: Axes, report: CorrelationReport) -> list[str]:
    """A frame around every cluster, and a number on the largest ones; gives the lines that explain the numbers."""
    place = {name: number for number, name in enumerate(report.features)}
    named = report.clusters[:_NAMED_CLUSTERS]
    lines: list[str] = []
    for cluster in sorted(report.clusters, key=lambda cluster: min(place[name] for name in cluster.members)):
        first, size = min(place[name] for name in cluster.members) - 0.5, len(cluster.members)
        axes.add_patch(Rectangle((first, first), size, size, fill=False, edgecolor=INK, linewidth=1.1))
        if cluster in named:
            number = f"{len(lines) + 1}"
            corner = (first + size, first)
            axes.annotate(
                number, corner, xytext=(3, 3), textcoords="offset points", fontsize=9, fontweight="bold", color=INK
            )
            lines.append(f"{number:>2}  {cluster.representative}\n      and {size - 1} like it")
    if len(report.clusters) > len(named):
        lines.append(f"and {len(report.clusters) - len(named)} smaller clusters")
    return lines or ["No two features\nrepeat each other."]


def shap_png(history: pl.DataFrame, title: str, top: int = 20) -> bytes:
    """The columns that move the newest version's forecasts most, with where they stood in the version before.

    Args:
        history: version, feature and share, as `ImportanceHistory.read` gives it.
        title: Says of which model.
        top: Columns shown at most.
    """
    versions = history["version"].unique().sort().to_list()
    newest = history.filter(pl.col("version") == versions[-1]).sort("share", "feature", descending=[True, False])
    shown = newest.filter((pl.col("share") > 0.0) | (pl.col("share").max() == 0.0)).head(top)
    figure = new_figure(8.0, 1.5 + 0.26 * shown.height)
    axes = figure.subplots()
    names, shares = shown["feature"].to_list(), (100.0 * shown["share"]).to_list()
    axes.barh(names, shares, color=PRIMARY, label=f"version {versions[-1]}")
    ends = dict(zip(names, shares, strict=True))
    if len(versions) > 1:
        earlier = history.filter((pl.col("version") == versions[-2]) & pl.col("feature").is_in(names))
        before = {name: 100.0 * share for name, share in earlier.select("feature", "share").iter_rows()}
        axes.plot(
            list(before.values()),
            list(before),
            linestyle="none",
            marker="D",
            markersize=4.5,
            markerfacecolor="white",
            markeredgecolor=ACCENT,
            label=f"version {versions[-2]}",
        )
        add_legend(axes)
        ends = {name: max(end, before.get(name, 0.0)) for name, end in ends.items()}
    for name, share in zip(names, shares, strict=True):
        end = (ends[name], name)
        axes.annotate(f"{share:.1f}", end, (6, 0), textcoords="offset points", va="center", fontsize=8, color=INK)
    axes.invert_yaxis()
    axes.margins(x=0.1, y=0.02)
    dress(axes, title, x_label="Share of the mean absolute SHAP value (%)")
    axes.grid(visible=False, axis="y")
    return png_bytes(figure)


def shap_history_png(history: pl.DataFrame, title: str, top: int = 8) -> bytes:
    """How much the newest version's strongest columns moved forecasts in each of the newest versions.

    Args:
        history: As for `shap_png`.
        title: Says of which model.
        top: Columns shown at most; every one is named at the end of its line.
    """
    versions = history["version"].unique().sort().to_list()[-_SHOWN_VERSIONS:]
    newest = history.filter(pl.col("version") == versions[-1]).sort("share", "feature", descending=[True, False])
    figure = new_figure(9.0, 5.0)
    axes = figure.subplots()
    ends = []
    for number, name in enumerate(newest["feature"].head(top)):
        shares = dict(history.filter(pl.col("feature") == name).select("version", "share").iter_rows())
        line = [100.0 * shares.get(version, np.nan) for version in versions]
        colour = _LINES[number % len(_LINES)]
        axes.plot(range(len(versions)), line, "o-", color=colour, markersize=4, linewidth=1.6)
        ends.append((line[-1], name, colour))
    dress(axes, title, x_label="Version", y_label="Share of the mean absolute SHAP value (%)")
    axes.set_xticks(range(len(versions)), [str(version) for version in versions], fontsize=8)
    axes.set_xlim(-0.3, len(versions) - 0.95)
    axes.set_ylim(bottom=0.0)
    _name_ends(axes, ends, len(versions) - 1)
    return png_bytes(figure)


def _name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], x: int) -> None:
    """Names beside the ends of lines, moved apart where two would cover each other."""
    low, high = axes.get_ylim()
    apart = 0.055 * (high - low)
    heights: list[float] = []
    for value, _, _ in sorted(ends):
        heights.append(max(value, heights[-1] + apart) if heights else value)
    for (value, name, colour), height in zip(sorted(ends), heights, strict=True):
        axes.annotate(
            name,
            xy=(x, value),
            xytext=(1.03, height),
            textcoords=("axes fraction", "data"),
            fontsize=9,
            color=colour,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "relpos": (0.0, 0.5)},
        )


def staleness_png(report: StalenessReport, title: str, top: int = 20) -> bytes:
    """The oldest values there are, against the limit; one line of text where nothing is old.

    Args:
        report: Ages of every feature of every symbol.
        title: Says which features.
        top: Values shown at most.
    """
    old = report.table.filter(pl.col("age_s").is_null() | (pl.col("age_s") > 0.0)).head(top)
    clock = f"{datetime.fromtimestamp(report.clock_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
    if old.is_empty():
        symbols = report.table["symbol"].n_unique()
        told = f"All {report.table.height:,} values ({symbols} symbols) are as new as the newest bar, {clock}."
        return _words_png(title, told, GOOD)
    figure = new_figure(8.5, 1.8 + 0.26 * old.height)
    axes = figure.subplots()
    limit_min = report.limit_s / 60
    # A feature without any value gets a bar to the edge of the picture, and says so.
    longest = max(float(old["age_s"].max() or 0.0) / 60, 2 * limit_min)  # type: ignore[arg-type]
    names = [f"{symbol}  {feature}" for symbol, feature in old.select("symbol", "feature").iter_rows()]
    ages = [longest if age is None else age / 60 for age in old["age_s"]]
    words = ["no value" if age is None else f"{age / 60:,.1f}" for age in old["age_s"]]
    colours = [BAD if age is None or age > report.limit_s else GOOD for age in old["age_s"]]
    bars = axes.barh(names, ages, color=colours)
    axes.bar_label(bars, labels=words, padding=3, fontsize=8, color=INK)
    axes.axvline(limit_min, color=BAD, linestyle=":", label=f"stale above {limit_min:g} min")
    axes.invert_yaxis()
    axes.margins(x=0.12, y=0.02)
    dress(axes, title, x_label=f"Age at {clock} (minutes)")
    axes.grid(visible=False, axis="y")
    add_legend(axes)
    return png_bytes(figure)


def parity_png(days: Sequence[Mapping[str, Any]], title: str, shown: int = 60) -> bytes:
    """Values compared per day, and days with a value that differs.

    Args:
        days: day (ISO), compared and mismatches, oldest first, as `ParityReport.by_day` gives them.
        title: Says what was compared.
        shown: Newest days shown at most.
    """
    newest = list(days)[-shown:]
    if not newest:
        return _words_png(title, "Nothing was served yet.", MUTED)
    figure = new_figure(9.0, 3.6)
    axes = figure.subplots()
    places, compared = range(len(newest)), [int(day["compared"]) for day in newest]
    axes.bar(places, compared, color=GOOD, label="compared")
    wrong = [place for place in places if newest[place]["mismatches"]]
    if wrong:
        red = axes.bar(wrong, [compared[place] for place in wrong], color=BAD, label="with so many different ones")
        words = [f"{newest[place]['mismatches']:,}" for place in wrong]
        axes.bar_label(red, labels=words, padding=3, fontsize=8, color=BAD)
    dress(axes, title, x_label="Day served (UTC)", y_label="Values")
    step = -(-len(newest) // 13)
    axes.set_xticks(list(places)[::step], [str(day["day"])[5:] for day in newest][::step], fontsize=8)
    axes.set_xlim(-0.7, max(len(newest), _FEWEST_DAYS) - 0.3)
    axes.set_ylim(0, 1.25 * max(1, *compared))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.grid(visible=False, axis="x")
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, ncols=2, loc="upper left")
    return png_bytes(figure)


def _words_png(title: str, told: str, colour: str) -> bytes:
    """A picture for when there is nothing to draw."""
    figure = new_figure(8.5, 1.1)
    axes = figure.subplots()
    axes.set_axis_off()
    axes.set_title(title, loc="left", fontsize=12, color=INK, fontweight="bold")
    axes.text(0.0, 0.5, told, fontsize=11, color=colour, va="center", transform=axes.transAxes)
    return png_bytes(figure)
