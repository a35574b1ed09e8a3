"""Walk-forward over recorded candles: blocks that follow one another, and every forecaster's scores of rows ahead.

A forecaster is trained on what was known at the begin of a block, forecasts that block and perhaps a few more, and
never sees later rows. Scores are kept in files as they are made (`forecast_files`), so that an interrupted run goes on
where it was. Calibration, ensembles and what it all is worth are `model_scores`' business.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from benchmarks.forecast_files import ForecastFiles
from benchmarks.forecasters import Fit, Known, Score
from benchmarks.periods import Recording, thinned
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.validation.purged import PurgedWalkForward

BLOCK_MS = 27 * MILLISECONDS_PER_DAY // 4
EARLIER_BLOCKS, BLOCKS = 6, 16
"""Blocks that only calibrators and ensembles learn from, and blocks that count."""


@dataclass(frozen=True, slots=True)
class Entry:
    """How a forecaster takes part.

    Attributes:
        fit: Trains it.
        days: Days of rows before a block that it is trained on; None takes all, the older ones too, and thins them.
        retrained_every: Blocks that one training forecasts.
        calibrated: Whether its scores are calibrated, as ours are, or taken as they come.
        seeds: With how many seeds it is trained at most; 1 where a seed changes nothing.
    """

    fit: Fit
    days: int | None
    retrained_every: int
    calibrated: bool
    seeds: int


@dataclass(frozen=True, slots=True)
class Block:
    """Rows to forecast, and those that may be learnt from.

    Attributes:
        number: Counted from 0.
        begin_ms: First decision, UTC milliseconds.
        known: Rows whose label ended before, in order of time.
        ahead: The block's own rows.
    """

    number: int
    begin_ms: int
    known: pl.DataFrame
    ahead: pl.DataFrame


def blocks_of(rows: pl.DataFrame, count: int = EARLIER_BLOCKS + BLOCKS) -> list[Block]:
    """The last `count` blocks of labelled rows in order of time; what is before them is learnt from only."""
    known_ms, ends_ms = (rows[column].dt.epoch("ms").to_numpy() for column in ("known_at", "label_end"))
    times = np.unique(known_ms)
    first_ms = int(times[-1] + np.diff(times).min() - times[0]) - count * BLOCK_MS
    splitter = PurgedWalkForward(train_span_ms=first_ms, test_span_ms=BLOCK_MS, window="expanding")
    return [
        Block(number, int(known_ms[test].min()), rows[train], rows[test])
        for number, (train, test) in enumerate(splitter.split(known_ms, ends_ms))
    ]


def known_to(entry: Entry, block: Block, recording: Recording, horizon: int) -> Known:
    """What an entry is trained on before a block."""
    if entry.days is None:
        rows = thinned(block.known, recording.period)
    else:
        since_ms = block.begin_ms - entry.days * MILLISECONDS_PER_DAY
        rows = block.known.filter(pl.col("known_at").dt.epoch("ms") >= since_ms)
    return Known(recording, rows, block.begin_ms, horizon)


def scores(
    recording: Recording,
    blocks: list[Block],
    entry: Entry,
    horizon: int,
    seeds: int,
    files: ForecastFiles,
    *,
    kept_only: bool = False,
) -> list[pl.DataFrame]:
    """Scores per seed, of all blocks, or of those that count where the entry is not calibrated.

    Args:
        recording: Where the rows are from.
        blocks: In order.
        entry: The forecaster.
        horizon: Bars ahead.
        seeds: How many, at most.
        files: Where scores are kept.
        kept_only: Train nothing; seeds that were not forecast for all blocks are left out.

    Returns:
        Frames of place, fold, seed and score, NaN where there is no forecast.
    """
    seeds = min(seeds, entry.seeds)
    found: list[list[pl.DataFrame]] = [[] for _ in range(seeds)]
    for group, train in _groups(recording, blocks, entry, horizon):
        for seed, parts in enumerate(found):
            name = f"seed_{seed}/from_block_{group[0].number:02d}"
            if not kept_only or files.has(name):
                parts.append(files.kept(name, _Forecast(group, seed, train)))
    groups = max(map(len, found))
    whole = [pl.concat(parts) for parts in found if parts and len(parts) == groups]
    return [frame for frame in whole if frame["fold"].max() == blocks[-1].number]


def _groups(
    recording: Recording, blocks: list[Block], entry: Entry, horizon: int
) -> Iterator[tuple[list[Block], "_Training"]]:
    first = 0 if entry.calibrated else max(0, len(blocks) - BLOCKS)
    for start in range(first, len(blocks), entry.retrained_every):
        yield blocks[start : start + entry.retrained_every], _Training(recording, blocks[start], entry, horizon)


class _Training:
    """A training that is prepared when the first seed needs it."""

    def __init__(self, recording: Recording, block: Block, entry: Entry, horizon: int) -> None:
        self._arguments = entry, block, recording, horizon
        self._prepared: Callable[[int], Score] | None = None

    def with_seed(self, seed: int) -> Score:
        if self._prepared is None:
            self._prepared = self._arguments[0].fit(known_to(*self._arguments))
        return self._prepared(seed)


@dataclass(frozen=True, slots=True)
class _Forecast:
    """Makes the scores of a group of blocks by one seed."""

    group: list[Block]
    seed: int
    training: _Training

    def __call__(self) -> pl.DataFrame:
        score = self.training.with_seed(self.seed)
        return pl.concat(
            block.ahead.select(
                "place",
                fold=pl.lit(block.number, pl.Int32),
                seed=pl.lit(self.seed, pl.Int32),
                score=pl.Series(score(block.ahead), dtype=pl.Float64),
            )
            for block in self.group
        )
