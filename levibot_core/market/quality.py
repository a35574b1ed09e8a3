"""Quality of candles: what is wrong with them, where, and how grave it is. Nothing is repaired here.

The rules look at one frame of newest revisions. Which findings block a stage is decided by their severity: an
`error` blocks, a `warning` is shown, an `info` is only kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

from levibot_core.market.halts import Halt
from levibot_core.market.quality_rules import RULES_OF_ROWS, RULES_OF_SERIES, Context, Finding, QualityRules
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import CANDLES, TIMESTAMP

__all__ = ["RULES", "Finding", "QualityReport", "QualityRules", "assess_candles"]

RULES: Mapping[str, str] = {
    "schema": "Columns, types and nulls are those of the catalogue.",
    "unique_monotonic": "Open times rise, and no bar is there twice.",
    "on_grid": "Every bar opens on the grid of its timeframe.",
    "ohlc_consistency": "High and low enclose open and close, and prices are positive.",
    "gaps": "No bar is missing, but for known halts of the exchange, which are named.",
    "unclosed": "Every bar had closed when it was taken in.",
    "zero_volume_runs": "No long run of bars without a trade, but for known halts.",
    "outliers": "No return is far outside of what the series shows otherwise.",
    "staleness": "The newest bar is recent.",
}
"""Every rule by name, and what it asks for."""


@dataclass(frozen=True, slots=True)
class QualityReport:
    """What the rules found in one frame of candles."""

    rows: int
    symbols: tuple[str, ...]
    evaluated: tuple[str, ...]
    """Rules that could be judged: all of them, or `schema` alone when the frame does not fit it."""
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that block."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def of(self, rule: str) -> tuple[Finding, ...]:
        """The findings of one rule.

        Raises:
            ValueError: there is no such rule.
        """
        if rule not in RULES:
            raise ValueError(f"Expected a rule of {', '.join(RULES)}, was {rule!r}.")
        return tuple(finding for finding in self.findings if finding.rule == rule)

    def passed(self, rule: str) -> bool:
        """Whether the rule was judged and found no error."""
        return all(finding.severity != "error" for finding in self.of(rule)) and rule in self.evaluated

    def to_frame(self) -> pl.DataFrame:
        """One row per finding: rule, severity, symbol, count, message, start, end (UTC, null when nowhere), halt."""
        schema = {
            "rule": pl.String,
            "severity": pl.String,
            "symbol": pl.String,
            "count": pl.Int64,
            "message": pl.String,
            "start_ms": pl.Int64,
            "end_ms": pl.Int64,
            "halt": pl.String,
        }
        frame = pl.DataFrame([asdict(finding) for finding in self.findings], schema=schema)
        start, end = (pl.col(name).cast(TIMESTAMP).alias(name.removesuffix("_ms")) for name in ("start_ms", "end_ms"))
        return frame.select("rule", "severity", "symbol", "count", "message", start, end, "halt")

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return {
            "rows": self.rows,
            "symbols": list(self.symbols),
            "passed": {rule: self.passed(rule) for rule in RULES},
            "findings": [asdict(finding) for finding in self.findings],
        }


def assess_candles(
    candles: pl.DataFrame,
    timeframe: Timeframe,
    halts: Sequence[Halt],
    now_ms: int,
    rules: QualityRules | None = None,
) -> QualityReport:
    """Judge candles by every rule.

    Args:
        candles: Schema `CANDLES`, newest revision only, in the order they are stored, any number of symbols.
        timeframe: Length of their bars.
        halts: Known halts; a gap or a run without trades inside one is a warning that names it.
        now_ms: Time against which closing and staleness are judged, UTC milliseconds.
        rules: Limits; the defaults of `QualityRules` when omitted.

    Returns:
        The report. A frame that lacks columns, has other types, nulls or no rows at all is judged by `schema` only.
    """
    limits = rules or QualityRules()
    problems = _schema_problems(candles)
    if problems:
        findings = tuple(Finding("schema", "error", "*", candles.height, problem) for problem in problems)
        return QualityReport(candles.height, (), ("schema",), findings)
    found: list[Finding] = []
    frame = candles.with_columns(
        pl.col("ts").dt.epoch("ms").alias("open_ms"), pl.col("known_at").dt.epoch("ms").alias("known_ms")
    )
    symbols = tuple(frame["symbol"].unique().sort().to_list())
    for symbol in symbols:
        rows = frame.filter(pl.col("symbol") == symbol)
        venue = str(rows["venue"][0])
        concerned = tuple(halt for halt in halts if halt.concerns(venue, symbol))
        context = Context(symbol, timeframe.milliseconds, concerned, now_ms, limits)
        for rule in RULES_OF_ROWS:
            found += rule(rows, context)
        ordered = rows.unique("open_ms", keep="last").sort("open_ms")
        for rule in RULES_OF_SERIES:
            found += rule(ordered, context)
    return QualityReport(candles.height, symbols, tuple(RULES), tuple(found))


def _schema_problems(candles: pl.DataFrame) -> list[str]:
    shape = CANDLES.violations(candles.clear())
    if shape:
        return shape
    if not candles.height:
        return ["expected candles, was a frame without rows"]
    return CANDLES.violations(candles.unique(CANDLES.key))
