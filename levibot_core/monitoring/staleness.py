"""Staleness: how old the newest value of every feature of every symbol is. How it is shown is in `.plots`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl

from levibot_core.config import SourceKind
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP

SHORTEST_LIMIT_S = 300.0

_COLUMNS = pl.Schema({"symbol": pl.String(), "feature": pl.String(), "newest": TIMESTAMP, "age_s": pl.Float64()})


@dataclass(frozen=True, slots=True)
class StalenessReport:
    """Ages of all features against one clock.

    Attributes:
        clock_ms: The instant that ages are measured against, UTC milliseconds.
        limit_s: Age above which a value is stale, seconds.
        table: symbol, feature, newest (instant from which its newest value was known; null when there is none) and
            age_s (seconds; null as well), oldest first, those without a value before all others.
    """

    clock_ms: int
    limit_s: float
    table: pl.DataFrame

    @property
    def stale(self) -> pl.DataFrame:
        """The rows of `table` that are older than the limit, or have no value at all."""
        return self.table.filter(pl.col("age_s").is_null() | (pl.col("age_s") > self.limit_s))

    @property
    def by_symbol(self) -> pl.DataFrame:
        """symbol, features, stale (number of features), newest, and oldest_s (age of its oldest feature)."""
        is_stale = pl.col("age_s").is_null() | (pl.col("age_s") > self.limit_s)
        return (
            self.table.group_by("symbol")
            .agg(
                features=pl.len(),
                stale=is_stale.sum(),
                newest=pl.col("newest").max(),
                oldest_s=pl.when(pl.col("age_s").is_null().any()).then(None).otherwise(pl.col("age_s").max()),
            )
            .sort("symbol")
        )

    def to_dict(self, listed: int = 50) -> dict[str, object]:
        """For JSON: clock (ISO), limit_s, values and stale (how many), and the oldest values, at most `listed`."""
        return {
            "clock": datetime.fromtimestamp(self.clock_ms / 1000, UTC).isoformat(),
            "limit_s": self.limit_s,
            "values": self.table.height,
            "stale": self.stale.height,
            "oldest": [
                {**row, "newest": row["newest"] and row["newest"].isoformat()}
                for row in self.table.head(listed).iter_rows(named=True)
            ],
        }


def staleness_limit_s(timeframe: Timeframe) -> float:
    """Five minutes or one bar, whichever is longer: a value cannot be younger than its bar."""
    return max(SHORTEST_LIMIT_S, timeframe.milliseconds / 1000)


def clock_of(kind: SourceKind, now_ms: int, newest_bar_ms: int) -> int:
    """The instant that ages of a source are measured against, UTC milliseconds.

    An exchange goes on while nobody asks it: its clock is now. A recording ended long ago, and a simulated market
    goes on only when it is asked: their clock is the newest close there is of any symbol.
    """
    return now_ms if kind == "exchange" else newest_bar_ms


def measure_staleness(
    features: pl.DataFrame, symbols: Sequence[str], names: Sequence[str], clock_ms: int, timeframe: Timeframe
) -> StalenessReport:
    """The age of the newest value of each feature of each symbol.

    Args:
        features: symbol, known_at and a column per feature, NaN where a value could not be computed; the newest
            stretch is enough, a feature without a value in it counts as having none.
        symbols: Every symbol that should have features, inside spelling.
        names: Feature columns.
        clock_ms: See `clock_of`.
        timeframe: Length of a bar.
    """
    newest = features.group_by("symbol").agg(
        pl.col("known_at").filter(pl.col(name).is_not_nan() & pl.col(name).is_not_null()).max().alias(name)
        for name in names
    )
    clock = pl.lit(clock_ms, dtype=pl.Int64).cast(TIMESTAMP)
    table = (
        pl.DataFrame({"symbol": symbols}, schema={"symbol": pl.String()})
        .join(newest, on="symbol", how="left")
        .unpivot(on=names, index="symbol", variable_name="feature", value_name="newest")
        .with_columns(age_s=(clock - pl.col("newest")).dt.total_milliseconds() / 1000)
        .cast(_COLUMNS)
        .sort("age_s", "symbol", "feature", descending=[True, False, False], nulls_last=False)
    )
    return StalenessReport(clock_ms, staleness_limit_s(timeframe), table)
