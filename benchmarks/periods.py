"""The stretches of time that `model_table` covers, and their candles as arrays: features once, labels per horizon.

How they are cut into blocks is `walk_forward`'s business.
"""

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from benchmarks.market import END_MS, START_MS, TIMEFRAME, market_data_folder
from levibot_core.features.compute import compute_features
from levibot_core.features.registry import load_registry, newest_version
from levibot_core.labels.direction import direction_labels
from levibot_core.market.sources.recorded import RecordedSource
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.models.design import design_matrix
from levibot_core.models.tft.features import tft_features
from levibot_core.schemas import FUNDING_RATES

FUNDING_BEFORE_MS, FEAR_GREED_BEFORE_MS = 7 * MILLISECONDS_PER_DAY, 60 * MILLISECONDS_PER_DAY
OLDER_EVERY_BARS = 16
_2025_MS, _2025_END_MS = 1_735_689_600_000, 1_750_204_800_000


@dataclass(frozen=True, slots=True)
class Stretch:
    """Candles of some symbols, from when (UTC milliseconds) until when."""

    symbols: tuple[str, ...]
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Period:
    """What one table is about.

    Attributes:
        name: As in the table.
        older: Trained on only, and thinned: neighbouring labels share most of their future.
        recent: Every bar is kept; cut into blocks, which are forecast.
        every_bars: Ours are trained on one of so many recent bars.
        with_funding: Whether funding rates are among the features; not where a symbol has none.
    """

    name: str
    older: Stretch
    recent: Stretch
    every_bars: int
    with_funding: bool

    @property
    def symbols(self) -> tuple[str, ...]:
        """All of them, sorted: a symbol's place is its code."""
        return tuple(sorted({*self.older.symbols, *self.recent.symbols}))

    @property
    def features(self) -> tuple[str, ...]:
        """The features of the newest set that every symbol has."""
        specs = load_registry(newest_version()).features
        return tuple(
            each.name
            for each in specs
            if self.with_funding or not any(name.startswith("funding") for name in each.inputs)
        )


_SEVEN = ("ADA/USDT", "BTC/USDT", "DOGE/USDT", "ETH/USDT", "LTC/USDT", "SOL/USDT", "XRP/USDT")
_2025 = Stretch(("BTC/USDT", "ETH/USDT", "SOL/USDT"), _2025_MS, _2025_END_MS)
_CUT_MS = END_MS - (_2025_END_MS - _2025_MS)
PERIODS = {
    # Of the symbols recorded in 2022 and 2023, those with funding rates: a row that lacks a feature is left out.
    "2025": Period("2025", Stretch(("ADA/USDT", "BTC/USDT", "ETH/USDT", "LTC/USDT"), START_MS, END_MS), _2025, 4, True),
    # As long a stretch, cut alike, and nothing of 2025; twice as many symbols, so every second row of theirs.
    "2022-2023": Period(
        "2022-2023", Stretch(_SEVEN, START_MS, _CUT_MS), Stretch(_SEVEN, _CUT_MS, END_MS), 8, with_funding=False
    ),
}


def shortened(period: Period) -> Period:
    """The same with 40 days of older candles, to see that everything works."""
    older = replace(period.older, start_ms=period.older.end_ms - 40 * MILLISECONDS_PER_DAY)
    return replace(period, older=older)


@dataclass(frozen=True, slots=True)
class Recording:
    """Candles of a period as arrays.

    Attributes:
        period: Which.
        candles: All of them.
        rows: symbol, ts, known_at and `place` (in the matrix) of the rows kept: every recent bar with a value for every
            feature, and of the older ones one of `OLDER_EVERY_BARS`; in order of time.
        matrix: Their design matrix, float64 (n, features + 1).
        bars: symbol, ts, known_at and the transformer's features of all bars, older ones too: its windows have no
            holes.
    """

    period: Period
    candles: pl.DataFrame
    rows: pl.DataFrame
    matrix: np.ndarray
    bars: pl.DataFrame

    def labelled(self, horizon: int) -> pl.DataFrame:
        """`rows` with label, forward_return and label_end, those that have one."""
        return self._with_labels(self.rows, horizon)

    def labelled_bars(self, horizon: int) -> pl.DataFrame:
        """`bars` with label, forward_return and label_end, those that have one."""
        return self._with_labels(self.bars, horizon)

    def _with_labels(self, rows: pl.DataFrame, horizon: int) -> pl.DataFrame:
        labels = direction_labels(self.candles, TIMEFRAME, horizon)
        return rows.join(labels, on=["symbol", "ts"], maintain_order="left")


def read_recording(period: Period) -> Recording:
    """Candles of a period, and their features."""
    read = [_read(stretch, period) for stretch in _contiguous(period)]
    features = pl.concat(part for _, part in read)
    names = period.features
    recent = pl.col("ts").dt.epoch("ms") >= period.recent.start_ms
    kept = features.filter(recent | _every(OLDER_EVERY_BARS)).sort("known_at", "symbol")
    bars = features.select("symbol", "ts", "known_at", *tft_features(names)).sort("known_at", "symbol")
    rows = kept.select("symbol", "ts", "known_at").with_columns(place=pl.int_range(pl.len()))
    matrix = design_matrix(kept, names, period.symbols)
    return Recording(period, pl.concat(candles for candles, _ in read), rows, matrix, bars)


def thinned(rows: pl.DataFrame, period: Period) -> pl.DataFrame:
    """The rows that ours are trained on: older ones as they are, of the recent one in `every_bars`."""
    return rows.filter((pl.col("ts").dt.epoch("ms") < period.recent.start_ms) | _every(period.every_bars))


def _every(bars: int) -> pl.Expr:
    return pl.col("ts").dt.epoch("ms") // TIMEFRAME.milliseconds % bars == 0


def _contiguous(period: Period) -> list[Stretch]:
    """Stretches that follow one another as one: features look back."""
    older, recent = period.older, period.recent
    if older.end_ms == recent.start_ms and older.symbols == recent.symbols:
        return [Stretch(recent.symbols, older.start_ms, recent.end_ms)]
    return [older, recent]


def _read(stretch: Stretch, period: Period) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Candles, and their features without the rows that lack one."""
    source, feature_set = RecordedSource(market_data_folder()), load_registry(newest_version())
    candles = pl.concat(
        source.candles(symbol, "spot", TIMEFRAME, stretch.start_ms, stretch.end_ms) for symbol in stretch.symbols
    )
    funding = [
        source.funding_rates(symbol, stretch.start_ms - FUNDING_BEFORE_MS, stretch.end_ms + 1)
        for symbol in stretch.symbols
        if period.with_funding
    ]
    fear_greed = source.fear_greed(stretch.start_ms - FEAR_GREED_BEFORE_MS, stretch.end_ms)
    features = compute_features(
        candles, pl.concat(funding) if funding else FUNDING_RATES.empty(), feature_set, TIMEFRAME, fear_greed=fear_greed
    )
    return candles, features.filter(pl.all_horizontal(pl.col(period.features).is_finite())).select(
        "symbol", "ts", "known_at", *period.features
    )
