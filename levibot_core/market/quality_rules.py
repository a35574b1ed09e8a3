"""The quality rules themselves: each looks at the candles of one symbol and yields what it finds.

What is reported about a whole frame is put together in `levibot_core.market.quality`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field

from levibot_core.config import SourceKind
from levibot_core.market.halts import Halt

Severity = Literal["error", "warning", "info"]


class QualityRules(BaseModel):
    """The limits of the rules."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_gap_bars: int = Field(12, ge=0, description="Longest unexplained gap that is only a warning, in bars")
    zero_volume_run_bars: int = Field(6, ge=1, description="Shortest run of bars without trades worth a warning")
    outlier_z: float = Field(40.0, gt=0, description="Robust z-score of a bar's log return that is an outlier")
    stale_after_bars: int = Field(3, ge=1, description="Bars after which the newest candle is stale")
    stale_severity: Severity = Field("warning", description="How grave stale candles are")

    @classmethod
    def for_source(cls, kind: SourceKind) -> Self:
        """The rules for a kind of source: old candles of a live exchange are an error, of a recording they are not."""
        return cls(stale_severity="error" if kind == "exchange" else "warning")


@dataclass(frozen=True, slots=True)
class Finding:
    """One observation: which rule, how grave, on which symbol, how many rows or bars, and where (UTC ms)."""

    rule: str
    severity: Severity
    symbol: str
    count: int
    message: str
    start_ms: int | None = None
    end_ms: int | None = None
    halt: str | None = None
    """The known halt that explains the finding, if one does."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a rule is told besides the candles of one symbol."""

    symbol: str
    step_ms: int
    halts: tuple[Halt, ...]
    now_ms: int
    rules: QualityRules


def _unique_monotonic(rows: pl.DataFrame, context: Context) -> Iterable[Finding]:
    repeated = rows.filter(pl.col("open_ms").is_duplicated())
    if repeated.height:
        surplus = repeated.height - repeated["open_ms"].n_unique()
        yield _over(
            repeated,
            context,
            "unique_monotonic",
            "error",
            surplus,
            f"{_bars(surplus)} too many: open times are repeated",
        )
    backwards = rows.filter(pl.col("open_ms").diff() < 0)
    if backwards.height:
        message = f"{_bars(backwards.height)} after a later one"
        yield _over(backwards, context, "unique_monotonic", "error", backwards.height, message)


def _on_grid(rows: pl.DataFrame, context: Context) -> Iterable[Finding]:
    off = rows.filter(pl.col("open_ms") % context.step_ms != 0)
    if off.height:
        message = f"{_bars(off.height)} opening off the grid of {context.step_ms} ms"
        yield _over(off, context, "on_grid", "error", off.height, message)


def _ohlc_consistency(rows: pl.DataFrame, context: Context) -> Iterable[Finding]:
    prices = ("open", "high", "low", "close")
    sound = (
        pl.all_horizontal([pl.col(name).is_finite() for name in (*prices, "volume")])
        & pl.all_horizontal([pl.col(name) > 0 for name in prices])
        & (pl.col("volume") >= 0)
        & (pl.col("low") <= pl.min_horizontal("open", "close"))
        & (pl.col("high") >= pl.max_horizontal("open", "close"))
    )
    broken = rows.filter(~sound)
    if broken.height:
        message = (
            f"{_bars(broken.height)} breaking low <= open, close <= high, prices > 0, volume >= 0, or holding a value "
            "that is not a finite number"
        )
        yield _over(broken, context, "ohlc_consistency", "error", broken.height, message)


def _unclosed(rows: pl.DataFrame, context: Context) -> Iterable[Finding]:
    closes = pl.col("open_ms") + context.step_ms
    unclosed = rows.filter(closes > context.now_ms)
    if unclosed.height:
        message = f"{_bars(unclosed.height)} not yet closed at {_utc(context.now_ms)}"
        yield _over(unclosed, context, "unclosed", "error", unclosed.height, message)
    early = rows.filter(pl.col("known_ms") < closes)
    if early.height:
        message = f"{_bars(early.height)} claiming to have been known before closing"
        yield _over(early, context, "unclosed", "error", early.height, message)


def _gaps(rows: pl.DataFrame, context: Context) -> Iterable[Finding]:
    before = pl.col("open_ms").shift()
    breaks = rows.select(before.alias("before"), "open_ms").filter(pl.col("open_ms") - before > context.step_ms)
    for previous, next_open in breaks.iter_rows():
        start, end = previous + context.step_ms, next_open
        missing = -(-(end - start) // context.step_ms)
        halts = [halt for halt in context.halts if halt.start_ms < end and start < halt.end_ms]
        explained = sum(_bars_within(start, end, context.step_ms, halt) for halt in halts)
        names = "; ".join(map(str, halts)) or None
        where = f"{_bars(missing)} missing from {_utc(start)} to {_utc(end)}"
        unexplained = max(0, missing - explained)
        severity: Severity = "error" if unexplained > context.rules.max_gap_bars else "warning"
        reason = f"{unexplained} of them without a known reason" if unexplained else f"known halt: {names}"
        yield Finding("gaps", severity, context.symbol, missing, f"{where}, {reason}", start, end, names)


def _bars_within(start_ms: int, end_ms: int, step_ms: int, halt: Halt) -> int:
    """Missing bars, opening in [start_ms, end_ms), that overlap the halt."""
    first = max(start_ms, halt.start_ms - (halt.start_ms - start_ms) % step_ms)
    last = min(end_ms, halt.end_ms)
    return max(0, -(-(last - first) // step_ms))


def _zero_volume_runs(rows: pl.DataFrame, context: Context) -> Iterable[Finding]:
    runs = (
        rows.with_columns(pl.col("volume").eq(0.0).alias("silent"), pl.col("volume").eq(0.0).rle_id().alias("run"))
        .filter("silent")
        .group_by("run", maintain_order=True)
        .agg(pl.col("open_ms").min().alias("first"), pl.col("open_ms").max().alias("last"), pl.len().alias("bars"))
        .filter(pl.col("bars") >= context.rules.zero_volume_run_bars)
    )
    for _, first, last, bars in runs.iter_rows():
        end = last + context.step_ms
        names = "; ".join(str(h) for h in context.halts if h.start_ms <= first and end <= h.end_ms) or None
        message = f"{_bars(bars)} in a row without a trade from {_utc(first)} to {_utc(end)}"
        message += f", known halt: {names}" if names else ""
        yield Finding("zero_volume_runs", "warning", context.symbol, bars, message, first, end, names)


def _outliers(rows: pl.DataFrame, context: Context) -> Iterable[Finding]:
    adjacent = pl.col("open_ms").diff() == context.step_ms
    returns = rows.filter(pl.col("close") > 0).with_columns(
        pl.when(adjacent).then(pl.col("close").log().diff()).alias("log_return")
    )
    deviation = pl.col("log_return") - pl.col("log_return").median()
    scale = 1.4826 * deviation.abs().median()
    scored = returns.with_columns((deviation.abs() / scale).alias("z")).filter(
        pl.col("z").is_finite() & (pl.col("z") > context.rules.outlier_z)
    )
    if scored.height:
        worst = scored.sort("z").row(-1, named=True)
        message = (
            f"{_bars(scored.height)} with a return more than {context.rules.outlier_z:g} robust deviations out, the "
            f"largest {worst['log_return']:+.2%} at {_utc(worst['open_ms'])}"
        )
        yield _over(scored, context, "outliers", "warning", scored.height, message)


def _staleness(rows: pl.DataFrame, context: Context) -> Iterable[Finding]:
    newest = int(rows["open_ms"][-1]) + context.step_ms
    late = (context.now_ms - newest) // context.step_ms
    if late > context.rules.stale_after_bars:
        message = f"the newest bar closed at {_utc(newest)}, {_bars(late)} before {_utc(context.now_ms)}"
        yield Finding("staleness", context.rules.stale_severity, context.symbol, late, message, newest, context.now_ms)


Rule = Callable[[pl.DataFrame, Context], Iterable[Finding]]
RULES_OF_ROWS: tuple[Rule, ...] = (_unique_monotonic, _on_grid, _ohlc_consistency, _unclosed)
RULES_OF_SERIES: tuple[Rule, ...] = (_gaps, _zero_volume_runs, _outliers, _staleness)


def _over(rows: pl.DataFrame, context: Context, rule: str, severity: Severity, count: int, message: str) -> Finding:
    opens = rows["open_ms"].sort()
    first, last = int(opens[0]), int(opens[-1])
    text = f"{message}, first at {_utc(first)}"
    return Finding(rule, severity, context.symbol, count, text, first, last + context.step_ms)


def _bars(count: int) -> str:
    return "1 bar" if count == 1 else f"{count} bars"


def _utc(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M} UTC"
