"""Apply a feature set to candles and what is published: the one batch that lake, snapshots and leak checks share.

Inputs are assembled in `inputs`, values computed in `kernels`; reading and writing tables is the stores' work.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import polars as pl
from numba import njit

from levibot_core.features.folds import FloatArray
from levibot_core.features.inputs import Bars, BarsChunk, BoolArray, IntArray, assemble, origins_of
from levibot_core.features.kernels import FAMILIES, Kernel
from levibot_core.features.knowledge import views
from levibot_core.features.registry import FeatureSet, FeatureSpec, reach_of
from levibot_core.market.symbols import LEADER
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP

# Rows computed at a time: few enough for the processor's caches, enough that the interpreter is not felt. Values do
# not depend on it, because a row depends on its own window alone.
_CHUNK = 32768
# Up to so many rows per symbol, all symbols are computed side by side.
_FEW_ROWS = 64


def compute_features(
    candles: pl.DataFrame,
    funding: pl.DataFrame,
    feature_set: FeatureSet,
    timeframe: Timeframe,
    leader: str = LEADER,
    start_ms: int | None = None,
    end_ms: int | None = None,
    kernels: Mapping[str, Kernel] = FAMILIES,
    fear_greed: pl.DataFrame | None = None,
    threads: int = 1,
) -> pl.DataFrame:
    """Compute every feature at every existing bar with open time in `[start_ms, end_ms)`, for all symbols.

    All rows of `candles` are used as warm-up; `feature_set.warm_up` bars, 72 hours of funding and 12 days of the index
    before `start_ms` give the same bits as the whole history. A row's decision time is the close of its bar: it sees
    the revisions known then, and a later correction never changes it; a bar of its window that is missing, or became
    known only after that, makes the value NaN.

    Args:
        candles: One row per symbol, bar and revision: symbol, ts, open, high, low, close, volume, known_at, and
            revision where a bar has more than one (other columns are ignored).
        funding: One row per symbol, settlement and revision: symbol, ts, rate, known_at; may be empty. A settlement at
            the very close of the last bar counts, so give those with ts up to and including that close.
        feature_set: What to compute.
        timeframe: Length of a bar.
        leader: The leading market, inside spelling; without candles of it, the features that need it are NaN.
        start_ms: First open time to give, UTC milliseconds; None is the first there is.
        end_ms: Open time from which no row is given; None gives all.
        kernels: The families' kernels; another mapping than the platform's is for tests of the leak guard.
        fear_greed: One row per day and revision of the index: ts, value, known_at; None is the same as no rows.
        threads: Symbols computed at the same time; the bits do not depend on it.

    Returns:
        The schema of `feature_set.table()`, sorted by symbol and ts. A value is finite or NaN.

    Raises:
        SchemaError: an input lacks a column or repeats a row.
        DataQualityError: an open time is off the timeframe's grid.
        ConfigurationError: the set has features of higher timeframes and is not made for bars of this length.
    """
    feature_set.require_timeframe(timeframe)
    step = timeframe.milliseconds
    parts: list[pl.DataFrame] = []
    with ThreadPoolExecutor(threads) as pool:
        over_symbols = pool.map if threads > 1 else map
        for view in views(candles, feature_set.warm_up * step):
            begin = _latest(start_ms, None if view.from_ms is None else view.from_ms - step)
            end = _earliest(end_ms, None if view.until_ms is None else view.until_ms - step)
            everything = assemble(
                view.candles,
                funding,
                fear_greed,
                timeframe,
                leader,
                lead_in=feature_set.warm_up - 1,
                start_ms=begin,
                end_ms=end,
                side_by_side_up_to=_FEW_ROWS,
            )
            parts += over_symbols(lambda bars: _features_of(bars, feature_set, kernels), everything)
    if not parts:
        return feature_set.table().empty()
    frame = pl.concat(parts, rechunk=False)
    return frame if len(parts) == 1 or view.from_ms is None else frame.sort("symbol", "ts")


def _latest(first: int | None, second: int | None) -> int | None:
    return max((bound for bound in (first, second) if bound is not None), default=None)


def _earliest(first: int | None, second: int | None) -> int | None:
    return min((bound for bound in (first, second) if bound is not None), default=None)


def _features_of(bars: Bars, feature_set: FeatureSet, kernels: Mapping[str, Kernel]) -> pl.DataFrame:
    lead_in = feature_set.warm_up - 1
    exists = bars.exists("own")
    exists[:lead_in] = False
    places: IntArray = np.concatenate([[0], np.cumsum(exists.sum(axis=1))])
    values = np.empty((len(feature_set.features), int(places[-1])))
    edges = [*range(lead_in, bars.open_ms.size, _CHUNK), bars.open_ms.size]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for begin, end in pairwise(edges):
            target = values[:, places[begin] : places[end]]
            kept = None if exists[begin:end].all() else exists[begin:end]
            _fill(BarsChunk(bars, begin, end), kept, feature_set.features, kernels, target)
    # Markets one after the other, as `_keep` writes them.
    markets, rows = np.nonzero(exists.T)
    opens = pl.Series("ts", bars.open_ms[rows])
    # Columns are slices of one series: to make a series of each array takes longer than to compute a new bar's values.
    column_by_column, count = pl.Series(values.ravel()), values.shape[1]
    return pl.DataFrame(
        [
            pl.Series("symbol", bars.symbols, dtype=pl.String()).gather(markets),
            opens.cast(TIMESTAMP),
            (opens + bars.step_ms).cast(TIMESTAMP).alias("known_at"),
            *(
                column_by_column.slice(number * count, count).alias(name)
                for number, name in enumerate(feature_set.names)
            ),
        ]
    )


def _fill(
    chunk: BarsChunk,
    kept: BoolArray | None,
    features: Sequence[FeatureSpec],
    kernels: Mapping[str, Kernel],
    values: FloatArray,
) -> None:
    """Compute the features of the chunk's rows that are kept, None is all, into `values`, shape (features, kept)."""
    longer: dict[int, tuple[BarsChunk, IntArray]] = {}
    for feature, target in zip(features, values, strict=True):
        kernel = kernels[feature.family]
        if feature.step_ms is None:
            computed = _values(chunk, feature, kernel)
            whole = chunk.bars.whole_bars(origins_of(feature.inputs))[chunk.begin : chunk.end]
        else:
            higher = chunk.bars.at(feature.step_ms)
            if feature.step_ms not in longer:
                newest = higher.newest_closed[chunk.begin : chunk.end]
                first, last = int(newest[0]), int(newest[-1])
                longer[feature.step_ms] = BarsChunk(higher.bars, first, last + 1), newest - first
            longer_chunk, places = longer[feature.step_ms]
            computed = _values(longer_chunk, feature, kernel).take(places, axis=0)
            whole = higher.whole_bars[chunk.begin : chunk.end]
        _keep(computed, whole, reach_of(feature, kernel), kept, target)


def _values(chunk: BarsChunk, feature: FeatureSpec, kernel: Kernel) -> FloatArray:
    values = kernel.compute([chunk.series(name) for name in feature.inputs], feature.window, feature.parameters)
    expected = (chunk.end - chunk.begin, len(chunk.bars.symbols))
    if values.shape != expected:  # compiled code does not look where an array ends
        raise ValueError(f"Expected kernel {feature.family!r} to give shape {expected}, was {values.shape}.")
    return values


def _keep(computed: FloatArray, whole: FloatArray, reach: float, kept: BoolArray | None, target: FloatArray) -> None:
    """Of the rows that are kept, the value where its window is whole and the value finite, else NaN.

    Shapes (rows, k), but for the target: the kept rows of one market after those of the other. None keeps all rows.
    """
    if kept is not None:
        computed, whole = computed.T[kept.T], whole.T[kept.T]
    _keep_whole(computed.T.ravel(), whole.T.ravel(), reach, target)


@njit(cache=True, nogil=True)
def _keep_whole(computed: FloatArray, whole: FloatArray, reach: float, target: FloatArray) -> None:
    """Shapes (n,). Every NaN gets the same bit pattern."""
    for row in range(target.size):
        value = computed[row]
        # A number minus itself is 0, except for an infinity and a NaN.
        target[row] = value if whole[row] >= reach and value - value == 0.0 else np.nan
