"""Labels and split held against their definitions, by other means than the code that made them.

Features, fitted statistics and positions are attacked in `levibot_core.validation.attack`.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import polars as pl

from levibot_core.labels.direction import direction_labels
from levibot_core.market.timeframe import Timeframe
from levibot_core.validation.leak_report import LeakCheck, verdict
from levibot_core.validation.split import SplitResult

_KEY = ("symbol", "ts")


def check_labels(candles: pl.DataFrame, timeframe: Timeframe, horizon_bars: int, rows: pl.DataFrame) -> LeakCheck:
    """Every label is the direction of the close at its horizon, and ends with that bar."""
    found: list[str] = []
    for (symbol,), part in rows.partition_by("symbol", as_dict=True).items():
        bars = candles.filter(pl.col("symbol") == symbol).sort("ts")
        found += (f"{symbol}: {problem}" for problem in _label_problems(part, bars, timeframe, horizon_bars))
    return verdict(
        "labels_match_the_closes",
        found,
        f"{rows.height:,} labels are the direction of the close {horizon_bars} bars later and end with that bar",
    )


def _label_problems(rows: pl.DataFrame, bars: pl.DataFrame, timeframe: Timeframe, horizon_bars: int) -> Iterator[str]:
    opens, closes = bars["ts"].dt.epoch("ms").to_numpy(), bars["close"].to_numpy()
    times = rows["ts"].dt.epoch("ms").to_numpy()
    decides = times + horizon_bars * timeframe.milliseconds
    now, later = (np.searchsorted(opens, moments) for moments in (times, decides))
    exists = (now < opens.size) & (later < opens.size)
    now, later = (np.minimum(index, opens.size - 1) for index in (now, later))
    exists &= (opens[now] == times) & (opens[later] == decides)
    if missing := int((~exists).sum()):
        yield f"{missing} labels without a close at both ends"
    returns = closes[later] / closes[now] - 1.0
    expected = (closes[later] > closes[now]).astype(np.int8)
    if wrong := int((expected != rows["label"].to_numpy())[exists].sum()):
        yield f"{wrong} labels are not the direction of the close {horizon_bars} bars later"
    if wrong := int((returns != rows["forward_return"].to_numpy())[exists].sum()):
        yield f"{wrong} forward returns are not those of the closes"
    ends = decides + timeframe.milliseconds
    if wrong := int((ends != rows["label_end"].dt.epoch("ms").to_numpy()).sum()):
        yield f"{wrong} labels do not end with the close of the bar that decides them"


Labelling = Callable[[pl.DataFrame, Timeframe, int], pl.DataFrame]
"""From candles, the timeframe and the horizon in bars to labels, as `direction_labels`."""


def check_labels_need_their_bar(
    candles: pl.DataFrame,
    timeframe: Timeframe,
    horizon_bars: int,
    instants_ms: Sequence[int],
    labelling: Labelling = direction_labels,
) -> LeakCheck:
    """Cutting the candles off at an instant takes away exactly the labels that end later, and changes none."""
    labels = labelling(candles, timeframe, horizon_bars)
    found = []
    for instant in instants_ms:
        known = candles.filter(pl.col("ts").dt.epoch("ms") + timeframe.milliseconds <= instant)
        expected = labels.filter(pl.col("label_end").dt.epoch("ms") <= instant)
        if not labelling(known, timeframe, horizon_bars).equals(expected):
            found.append(f"candles cut off at {instant} (UTC ms) give other labels than those that had ended")
    return verdict(
        "labels_need_their_bar",
        found,
        f"candles cut off at {len(instants_ms)} instants give exactly the labels that had ended",
    )


def check_split(split: SplitResult, embargo_ms: int = 0) -> LeakCheck:
    """The parts follow one another, share no row, and no label of a part reaches into the next or its embargo."""
    found = []
    starts = [split.boundaries[name] for name in split.parts]
    if any(start >= following for start, following in pairwise(starts)):
        found.append(f"the parts do not begin one after the other: {dict(split.boundaries)}")
    ends = [*starts[1:], None]
    for (name, part), start, end in zip(split.parts.items(), starts, ends, strict=True):
        decided, labelled = part["known_at"].dt.epoch("ms"), part["label_end"].dt.epoch("ms")
        if early := int((decided < start).sum()):
            found.append(f"{early} rows of {name} are decided before it begins")
        if end is not None and (late := int((labelled > end).sum())):
            found.append(f"{late} labels of {name} end after the next part begins")
        if end is not None and (near := int(labelled.is_between(end - embargo_ms, end, closed="right").sum())):
            found.append(f"{near} labels of {name} end within the embargo before the next part begins")
        if timeless := int((labelled <= decided).sum()):
            found.append(f"{timeless} labels of {name} end before they are decided")
    keys = pl.concat([part.select(_KEY) for part in split.parts.values()])
    if shared := keys.height - keys.n_unique():
        found.append(f"{shared} rows are in more than one part")
    rows = ", ".join(f"{name} {part.height:,}" for name, part in split.parts.items())
    return verdict(
        "split_is_ordered_and_purged", found, f"{rows}; purged {sum(split.purged.values()):,} by the end of their label"
    )
