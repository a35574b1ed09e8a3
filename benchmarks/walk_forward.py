"""Walk-forward over recorded candles: rows with features and labels, folds, and every forecaster's untouched scores.

A forecaster is trained anew for every block of test days on what was known before it, and never sees later rows. Its
calibrator is fitted on the scores it gave earlier blocks, whose labels were known by then. What the forecasts are worth
is told by `model_table`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from rich.progress import track

from benchmarks.forecasters import Fit
from benchmarks.market import TIMEFRAME, market_data_folder
from levibot_core.features.compute import compute_features
from levibot_core.features.registry import load_registry, newest_version
from levibot_core.labels.direction import direction_labels
from levibot_core.market.sources.recorded import RecordedSource
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.models.calibration_fitting import evidence_of, fit_cautious_platt
from levibot_core.models.design import label_vector
from levibot_core.validation.purged import PurgedWalkForward

FUNDING_BEFORE_MS, FEAR_GREED_BEFORE_MS = 7 * MILLISECONDS_PER_DAY, 60 * MILLISECONDS_PER_DAY
FEATURES = load_registry(newest_version()).names


@dataclass(frozen=True, slots=True)
class Period:
    """Candles of a stretch of time: which symbols, from when (UTC milliseconds) until when."""

    symbols: tuple[str, ...]
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Entry:
    """How a forecaster takes part.

    Attributes:
        fit: Trains it.
        days: Days of rows before a block that it is trained on; None takes all, and the history too.
        calibrated: Whether its scores are calibrated, as ours are, or taken as they come.
    """

    fit: Fit
    days: int | None
    calibrated: bool


def read_features(period: Period) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Candles, and their features of the newest set without the rows that lack one."""
    source, feature_set = RecordedSource(market_data_folder()), load_registry(newest_version())
    candles = pl.concat(
        source.candles(symbol, "spot", TIMEFRAME, period.start_ms, period.end_ms) for symbol in period.symbols
    )
    funding = pl.concat(
        source.funding_rates(symbol, period.start_ms - FUNDING_BEFORE_MS, period.end_ms + 1)
        for symbol in period.symbols
    )
    fear_greed = source.fear_greed(period.start_ms - FEAR_GREED_BEFORE_MS, period.end_ms)
    features = compute_features(candles, funding, feature_set, TIMEFRAME, fear_greed=fear_greed)
    return candles, features.filter(pl.all_horizontal(pl.col(feature_set.names).is_finite()))


def labelled(candles: pl.DataFrame, features: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """Training rows at one horizon, sorted by time."""
    labels = direction_labels(candles, TIMEFRAME, horizon)
    return features.join(labels, on=["symbol", "ts"], maintain_order="left").sort("known_at", "symbol")


def every(rows: pl.DataFrame, bars: int) -> pl.DataFrame:
    """One bar of so many, of all symbols: neighbouring labels share most of their future."""
    return rows.filter(pl.col("ts").dt.epoch("ms") // TIMEFRAME.milliseconds % bars == 0)


def walk_forward(
    rows: pl.DataFrame,
    history: pl.DataFrame,
    splitter: PurgedWalkForward,
    entry: Entry,
    symbols: Sequence[str],
    *,
    scored_from: int,
    every_bars: int,
    seed: int,
    name: str,
) -> pl.DataFrame:
    """Forecasts of every block from number `scored_from` on.

    Args:
        rows: Training rows in order of time, also those that are forecast.
        history: Older rows to train on as well, thinned already.
        splitter: Gives the blocks.
        entry: The forecaster.
        symbols: Symbols a model tells apart.
        scored_from: Earlier blocks are forecast for the calibrator alone.
        every_bars: How the rows to train on are thinned.
        seed: Of the training.
        name: For the progress bar.

    Returns:
        symbol, known_at, label_end, label, forward_return, expected_move (fraction) and base_rate of the rows trained
        on, fold, score and prob_up.
    """
    known_ms, ends_ms = (rows[column].dt.epoch("ms").to_numpy() for column in ("known_at", "label_end"))
    blocks: list[pl.DataFrame] = []
    folds = list(splitter.split(known_ms, ends_ms))
    for number, (train, test) in enumerate(track(folds, description=name)):
        if not entry.calibrated and number < scored_from:
            continue
        begin_ms = int(known_ms[test].min())
        if entry.days is None:
            known = pl.concat([history, every(rows[train], every_bars)])
        else:
            recent = train[known_ms[train] >= begin_ms - entry.days * MILLISECONDS_PER_DAY]
            known = rows[recent]
        block = rows[test].select("symbol", "known_at", "label_end", "label", "forward_return")
        score = entry.fit(known, FEATURES, symbols, seed)(rows[test])
        share = float(label_vector(known, "train").mean())
        moves = known.group_by("symbol").agg(expected_move=pl.col("forward_return").abs().mean())
        block = block.join(moves, on="symbol", how="left", maintain_order="left")
        block = block.with_columns(pl.Series("score", score), fold=pl.lit(number), base_rate=pl.lit(share))
        blocks.append(block.with_columns(prob_up=pl.Series(_probabilities(blocks, block, begin_ms, entry))))
    return pl.concat(blocks).filter(pl.col("fold") >= scored_from)


def _probabilities(earlier: list[pl.DataFrame], block: pl.DataFrame, begin_ms: int, entry: Entry) -> np.ndarray:
    score = block["score"].to_numpy()
    if not entry.calibrated or not earlier:
        return score
    settled = pl.concat([part.drop("prob_up") for part in earlier]).filter(
        pl.col("label_end").dt.epoch("ms") <= begin_ms
    )
    known_ms, ends_ms = (settled[column].dt.epoch("ms").to_numpy() for column in ("known_at", "label_end"))
    curve = fit_cautious_platt(
        settled["score"].to_numpy(), settled["label"].cast(pl.Float64).to_numpy(), evidence_of(known_ms, ends_ms)
    )
    return curve.apply(score)
