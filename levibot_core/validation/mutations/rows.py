"""Mistakes in labels and in the split: what a row is said to know, and which part it is put into."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from levibot_core.labels.direction import direction_labels
from levibot_core.market.timeframe import Timeframe
from levibot_core.validation.attack.pipeline import Pipeline, PipelineSettings, boundaries_stage, split_stage
from levibot_core.validation.mutations.mutation import Mutation
from levibot_core.validation.split import PARTS, SplitResult

_MATCH, _NEED = "labels_match_the_closes", "labels_need_their_bar"
_ORDERED, _STILL = "split_is_ordered_and_purged", "boundaries_ignore_values"
_Labels = Callable[[pl.DataFrame, Timeframe, int], pl.DataFrame]


def _earlier_end(labels: pl.DataFrame, timeframe: Timeframe) -> pl.DataFrame:
    bar = pl.duration(milliseconds=timeframe.milliseconds)
    return labels.with_columns((pl.col("label_end") - bar).cast(labels.schema["label_end"]))


def _label_ends_a_bar_early(candles: pl.DataFrame, timeframe: Timeframe, horizon_bars: int) -> pl.DataFrame:
    return _earlier_end(direction_labels(candles, timeframe, horizon_bars), timeframe)


def _label_of_a_later_bar(candles: pl.DataFrame, timeframe: Timeframe, horizon_bars: int) -> pl.DataFrame:
    return _earlier_end(direction_labels(candles, timeframe, horizon_bars + 1), timeframe)


def _last_labels_invented(candles: pl.DataFrame, timeframe: Timeframe, horizon_bars: int) -> pl.DataFrame:
    labels = direction_labels(candles, timeframe, horizon_bars)
    ends = (pl.col("ts") + pl.duration(milliseconds=(horizon_bars + 1) * timeframe.milliseconds)).cast(
        labels.schema["label_end"]
    )
    bars = candles.select("symbol", "ts").join(labels, on=["symbol", "ts"], how="left")
    return bars.with_columns(
        pl.col("label").fill_null(0), pl.col("forward_return").fill_null(0.0), pl.col("label_end").fill_null(ends)
    ).sort("symbol", "ts")


def _labelled(wrong_labels: _Labels) -> Callable[[Pipeline, bool], Pipeline]:
    return lambda pipeline, wrong: replace(pipeline, labels=wrong_labels if wrong else direction_labels)


def _purged_by_start(_: PipelineSettings, rows: pl.DataFrame, boundaries: Mapping[str, int]) -> SplitResult:
    return _parts(rows, boundaries, lambda end: pl.col("known_at").dt.epoch("ms") < end)


def _embargo_in_purge(settings: PipelineSettings, rows: pl.DataFrame, boundaries: Mapping[str, int]) -> SplitResult:
    decided, labelled = (pl.col(name).dt.epoch("ms") for name in ("known_at", "label_end"))
    return _parts(rows, boundaries, lambda end: (labelled <= end) & (decided <= end - settings.plan.embargo_ms))


def _parts(rows: pl.DataFrame, boundaries: Mapping[str, int], keep: Callable[[int], pl.Expr]) -> SplitResult:
    """Parts by decision time, of which those before another keep only some rows."""
    decided = pl.col("known_at").dt.epoch("ms")
    ends = [boundaries[name] for name in PARTS[1:]]
    parts = {
        name: rows.filter((decided >= boundaries[name]) & (decided < end) & keep(end))
        for name, end in zip(PARTS, ends, strict=False)
    }
    return SplitResult(**parts, test=rows.filter(decided >= ends[-1]), boundaries=boundaries, purged={})


def _dealt_at_random(settings: PipelineSettings, rows: pl.DataFrame, boundaries: Mapping[str, int]) -> SplitResult:
    part = np.random.default_rng(settings.seed).choice(len(PARTS), size=rows.height, p=settings.plan.shares)
    parts = {name: rows.filter(pl.Series(part == place)) for place, name in enumerate(PARTS)}
    return SplitResult(**parts, boundaries=boundaries, purged={})


def _split(
    wrong_split: Callable[[PipelineSettings, pl.DataFrame, Mapping[str, int]], SplitResult],
) -> Callable[[Pipeline, bool], Pipeline]:
    return lambda pipeline, wrong: replace(pipeline, split=wrong_split if wrong else split_stage)


def _balanced_boundaries(settings: PipelineSettings, rows: pl.DataFrame) -> Mapping[str, int]:
    """Boundaries at shares of all the ground that prices covered, which only the end of the sample can tell."""
    moved = pl.col("forward_return").abs().cum_sum()
    by_time = rows.sort("known_at", "symbol").select(pl.col("known_at").dt.epoch("ms"), moved)
    ground = by_time["forward_return"].to_numpy()
    begins = np.concatenate([[0.0], np.cumsum(settings.plan.shares)[:-1]]) * ground[-1]
    places = np.searchsorted(ground, begins)
    return {name: int(by_time["known_at"][int(place)]) for name, place in zip(PARTS, places, strict=True)}


def _balanced(pipeline: Pipeline, wrong: bool) -> Pipeline:
    return replace(pipeline, boundaries=_balanced_boundaries if wrong else boundaries_stage)


MUTATIONS: Sequence[Mutation] = (
    Mutation(
        "label_ends_early",
        "labels",
        "a label said to end one bar before the close that decides it",
        (_MATCH, _NEED),
        _labelled(_label_ends_a_bar_early),
    ),
    Mutation(
        "label_of_a_later_bar",
        "labels",
        "a label decided one bar after the horizon it names",
        (_MATCH, _NEED),
        _labelled(_label_of_a_later_bar),
    ),
    Mutation(
        "last_labels_invented",
        "labels",
        "rows too young for a label counted as falls",
        (_MATCH, _NEED),
        _labelled(_last_labels_invented),
    ),
    Mutation(
        "purge_by_label_start",
        "split",
        "rows purged by when a label begins, not ends",
        (_ORDERED,),
        _split(_purged_by_start),
    ),
    Mutation(
        "embargo_within_purge",
        "split",
        "an embargo counted from the decision, over bars that the purge removes anyway",
        (_ORDERED,),
        _split(_embargo_in_purge),
    ),
    Mutation(
        "rows_dealt_at_random",
        "split",
        "a random instead of a chronological split",
        (_ORDERED,),
        _split(_dealt_at_random),
    ),
    Mutation(
        "boundaries_by_returns",
        "split",
        "boundaries placed so that each part has its share of all movement",
        (_STILL,),
        _balanced,
    ),
)
