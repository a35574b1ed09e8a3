"""How often intervals held the return: over all rows, and in the worst week and month, where a mean hides nothing."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from levibot_core.errors import DataQualityError
from levibot_core.models.conformal import OnlineIntervals

FULL_SHARE = 0.5
"""A week or month counts among the worst if it has at least this share of the decision times of the fullest one."""


@dataclass(frozen=True, slots=True)
class PeriodCoverage:
    """One week (from Monday) or month, UTC: its first day, the share of rows covered, and its rows."""

    start: datetime
    coverage: float
    rows: int


@dataclass(frozen=True, slots=True)
class CoverageReport:
    """Coverage of intervals.

    Attributes:
        rows: Rows that were judged.
        coverage: Share of them within their interval.
        mean_quantile: Mean of the finite quantiles, in volatilities.
        infinite: Rows whose interval had no end.
        worst_week: The week with the lowest coverage.
        worst_month: The month with the lowest coverage.
    """

    rows: int
    coverage: float
    mean_quantile: float
    infinite: int
    worst_week: PeriodCoverage
    worst_month: PeriodCoverage


def coverage_report(intervals: OnlineIntervals, known_at_ms: np.ndarray) -> CoverageReport:
    """Summarise what `AdaptiveConformal.run` answered.

    Args:
        intervals: The answers, (n,).
        known_at_ms: Decision times of the same rows, UTC milliseconds, (n,).

    Raises:
        DataQualityError: no row was judged.
    """
    judged = pl.DataFrame(
        {"known_at": known_at_ms, "covered": intervals.covered, "quantile": intervals.quantiles}
    ).filter(pl.Series(intervals.judged))
    if judged.is_empty():
        raise DataQualityError("Expected rows with an interval to judge, was none. Take a longer history.")
    finite = judged.filter(pl.col("quantile").is_finite())
    return CoverageReport(
        rows=judged.height,
        coverage=float(judged["covered"].cast(pl.Float64).mean()),  # type: ignore[arg-type]
        mean_quantile=float(finite["quantile"].to_numpy().mean()) if finite.height else float("inf"),
        infinite=judged.height - finite.height,
        worst_week=_worst(judged, "1w"),
        worst_month=_worst(judged, "1mo"),
    )


def _worst(judged: pl.DataFrame, every: str) -> PeriodCoverage:
    instants = pl.from_epoch("known_at", time_unit="ms").dt.replace_time_zone("UTC")
    periods = (
        judged.group_by(start=instants.dt.truncate(every))
        .agg(coverage=pl.col("covered").cast(pl.Float64).mean(), rows=pl.len())
        .filter(pl.col("rows") >= FULL_SHARE * pl.col("rows").max())
        .sort("coverage", "start")
    )
    start, coverage, rows = periods.row(0)
    return PeriodCoverage(start, coverage, rows)
