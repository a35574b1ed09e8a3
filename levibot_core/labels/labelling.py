"""The labels of training rows, by whatever definition: 1 where the event happened, else 0.

Of triple barriers the event is that the profit is touched first; stopped and timed out are both 0. What each kind of
label is computed from is in `.direction` and `.triple_barrier`.
"""

import polars as pl

from levibot_core.labels.definition import LabelDefinition, TripleBarrierLabel
from levibot_core.labels.direction import direction_labels
from levibot_core.labels.triple_barrier import triple_barrier_labels
from levibot_core.market.timeframe import Timeframe


def label_rows(candles: pl.DataFrame, timeframe: Timeframe, definition: LabelDefinition) -> pl.DataFrame:
    """Label every bar whose outcome is known.

    Args:
        candles: One row per symbol and open time, with symbol, ts, open, high, low and close.
        timeframe: Length of a bar.
        definition: What a label is.

    Returns:
        Columns symbol, ts (open time), label (Int8, 0 or 1), forward_return (fraction) and label_end (UTC, of each row
        its own), sorted by symbol and ts.
    """
    if not isinstance(definition, TripleBarrierLabel):
        return direction_labels(candles, timeframe, definition.horizon_bars)
    outcomes = triple_barrier_labels(candles, timeframe, definition)
    return outcomes.with_columns(label=(pl.col("label") == 1).cast(outcomes.schema["label"]))
