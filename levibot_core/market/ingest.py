"""Move market data from a source into the lake, idempotently.

Fetching is the source's work and merging the lake's; this module decides what to ask for and counts what changed.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from levibot_core.errors import MarketDataUnavailableError
from levibot_core.market.sources import MarketSource
from levibot_core.market.timeframe import Timeframe
from levibot_core.stores.lake import Lake, WriteReport
from levibot_core.stores.paths import Dataset

OnProgress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Slice:
    """A stretch of one symbol's history, `[start_ms, end_ms)` in UTC milliseconds."""

    symbol: str
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What an ingestion changed in the lake."""

    rows_new: int = 0
    rows_revised: int = 0
    rows_unchanged: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def rows_seen(self) -> int:
        """Rows the source delivered."""
        return self.rows_new + self.rows_revised + self.rows_unchanged

    def plus(self, written: WriteReport) -> "IngestReport":
        """This report with one more write counted."""
        return replace(
            self,
            rows_new=self.rows_new + written.rows_new,
            rows_revised=self.rows_revised + written.rows_revised,
            rows_unchanged=self.rows_unchanged + written.rows_unchanged,
        )

    def noting(self, note: str) -> "IngestReport":
        """This report with one more remark."""
        return replace(self, notes=(*self.notes, note))


def ingest_candles(
    source: MarketSource,
    lake: Lake,
    dataset: Dataset,
    market: str,
    timeframe: Timeframe,
    slices: Iterable[Slice],
    observed_at_ms: int,
    on_progress: OnProgress,
) -> IngestReport:
    """Fetch closed candles for every slice and merge them into the lake.

    A slice that begins after the newest candle of the source is left out with a note: there is nothing yet.

    Raises:
        MarketDataUnavailableError: the source has no candle in a slice that ends before its newest one.
        SourceUnreachableError: the source stopped answering.
    """
    report = IngestReport()
    for part in slices:
        latest = source.latest_close_ms(part.symbol, market, timeframe)
        if latest <= part.start_ms:
            report = report.noting(f"{part.symbol}: the source has nothing this recent yet")
            continue
        candles = source.candles(part.symbol, market, timeframe, part.start_ms, part.end_ms)
        if candles.is_empty() and part.end_ms <= latest:
            raise MarketDataUnavailableError(
                f"Expected {timeframe} {market} candles of {part.symbol} from {source.identity.description}, "
                "but it has none in the months asked for. Ask for later months."
            )
        report = report.plus(lake.append(dataset, candles, observed_at_ms))
        on_progress(f"{part.symbol}: {candles.height:,} candles")
    return report


def ingest_funding(
    source: MarketSource,
    lake: Lake,
    dataset: Dataset,
    slices: Iterable[Slice],
    observed_at_ms: int,
    on_progress: OnProgress,
) -> IngestReport:
    """Fetch settled funding rates for every slice and merge them into the lake. A source may have none."""
    report = IngestReport()
    for part in slices:
        rates = source.funding_rates(part.symbol, part.start_ms, part.end_ms)
        report = report.plus(lake.append(dataset, rates, observed_at_ms))
        on_progress(f"{part.symbol}: {rates.height:,} funding rates")
    return report
