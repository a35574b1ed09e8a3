"""A small simulated market to attack a pipeline on, with what real data has: gaps, late corrections, daily values."""

import numpy as np
import polars as pl

from levibot_core.market.simulator import ANCHOR_MS, SimulationParameters
from levibot_core.market.sources.simulated import SimulatedSource
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.schemas import CANDLES, TIMESTAMP
from levibot_core.validation.perturbation import MarketTables

# The index needs a week of prices and funding two days.
_START_MS = ANCHOR_MS + 10 * MILLISECONDS_PER_DAY
_GAPS, _LONGEST_GAP = 4, 4
_CORRECTED_AFTER_MS = 45 * 60_000


def small_market(
    seed: int,
    edge: float,
    symbols: tuple[str, ...],
    timeframe: Timeframe,
    bars: int = 1_000,
    corrections: int = 1,
) -> MarketTables:
    """Candles, funding and the fear and greed index of a simulated market, in catalogue schema.

    Args:
        seed: Chooses the market, its gaps and its corrections.
        edge: Edge planted in it; 0 is a market with none.
        symbols: Symbols of the simulator. Bars are missing and corrected in all but the first, which leads.
        timeframe: Length of a bar.
        bars: Bars of each symbol, the missing ones included.
        corrections: Bars that were corrected later, of each symbol but the first.
    """
    end_ms = _START_MS + bars * timeframe.milliseconds
    source = SimulatedSource(SimulationParameters(seed=seed, edge=edge), timeframe, clock=lambda: end_ms)
    random = np.random.default_rng([seed, bars])
    candles = [source.candles(symbol, "spot", timeframe, _START_MS, end_ms) for symbol in symbols]
    followers = [_corrected(_with_gaps(part, bars, random), bars, corrections, random) for part in candles[1:]]
    funding = [source.funding_rates(symbol, _START_MS - 3 * MILLISECONDS_PER_DAY, end_ms) for symbol in symbols]
    fear_greed = source.fear_greed(_START_MS - 3 * MILLISECONDS_PER_DAY, end_ms)
    return MarketTables(CANDLES.enforce(pl.concat([candles[0], *followers])), pl.concat(funding), fear_greed)


def _with_gaps(candles: pl.DataFrame, bars: int, random: np.random.Generator) -> pl.DataFrame:
    """A few runs of missing bars, in the middle four fifths."""
    starts = random.choice(np.arange(bars // 10, bars - bars // 10, 2 * _LONGEST_GAP), size=_GAPS, replace=False)
    missing = np.concatenate([np.arange(start, start + random.integers(1, _LONGEST_GAP + 1)) for start in starts])
    return candles.with_row_index("place").filter(~pl.col("place").is_in(missing.tolist())).drop("place")


def _corrected(candles: pl.DataFrame, bars: int, corrections: int, random: np.random.Generator) -> pl.DataFrame:
    """A few bars of the first half with a second revision that became known later."""
    places = random.choice(np.arange(bars // 8, bars // 2), size=corrections, replace=False)
    moved = pl.Series(random.uniform(0.98, 1.02, places.size))
    late = candles[sorted(places.tolist())].with_columns(
        *(pl.col(name) * moved for name in ("open", "high", "low", "close")),
        known_at=(pl.col("known_at").dt.epoch("ms") + _CORRECTED_AFTER_MS).cast(TIMESTAMP),
        revision=pl.lit(1, dtype=pl.Int32),
    )
    return pl.concat([candles, late])
