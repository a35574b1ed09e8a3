"""Labels of training rows by either definition: 0 or 1, each with an end of its own within its longest look ahead."""

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from levibot_core.labels.definition import (
    DirectionLabel,
    LabelDefinition,
    TripleBarrierLabel,
    event_in_words,
    label_definition,
    longest_bars,
)
from levibot_core.labels.direction import direction_labels
from levibot_core.labels.labelling import label_rows
from levibot_core.labels.triple_barrier import triple_barrier_labels
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TRAINING_ROWS

FIVE_MINUTES = Timeframe.parse("5m")
_definitions = st.one_of(
    st.builds(DirectionLabel, horizon_bars=st.integers(1, 20)),
    st.builds(TripleBarrierLabel, profit_atr=st.sampled_from([0.5, 3.0]), max_bars=st.integers(1, 20)),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(definition=_definitions, seed=st.integers(0, 3))
def test_every_label_ends_within_its_longest_look_ahead(
    make_market: Callable[..., Any], definition: LabelDefinition, seed: int
) -> None:
    labels = label_rows(make_market(bars=150, seed=seed).candles, FIVE_MINUTES, definition)
    bars_ahead = (labels["label_end"] - labels["ts"]).dt.total_milliseconds() // FIVE_MINUTES.milliseconds - 1
    assert labels.height > 0
    assert bars_ahead.is_between(1, longest_bars(definition)).all()
    if isinstance(definition, DirectionLabel):
        assert (bars_ahead == definition.horizon_bars).all()
    assert set(labels["label"]) <= {0, 1}
    assert dict(labels.schema) == {name: TRAINING_ROWS.polars_schema[name] for name in labels.columns}


def test_the_event_is_a_rise_or_the_profit_before_the_stop(make_market: Callable[..., Any]) -> None:
    candles, barriers = make_market(bars=300).candles, TripleBarrierLabel()
    assert label_rows(candles, FIVE_MINUTES, DirectionLabel(horizon_bars=7)).equals(
        direction_labels(candles, FIVE_MINUTES, 7)
    )
    outcomes, labels = triple_barrier_labels(candles, FIVE_MINUTES), label_rows(candles, FIVE_MINUTES, barriers)
    assert set(outcomes["label"]) == {-1, 0, 1}
    assert labels.drop("label").equals(outcomes.drop("label"))
    assert labels.filter(pl.col("label") == 1)["ts"].equals(outcomes.filter(pl.col("label") == 1)["ts"])


@pytest.mark.parametrize("barriers", [None, TripleBarrierLabel(max_bars=60)])
def test_a_definition_says_how_far_it_looks_and_what_happens(barriers: TripleBarrierLabel | None) -> None:
    definition = label_definition(60, barriers)
    assert longest_bars(definition) == 60
    words = event_in_words(definition, "5m")
    assert ("higher 60 bars of 5m" in words) == (barriers is None)
    assert ("3 average true ranges above" in words) == (barriers is not None)
