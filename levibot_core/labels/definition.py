"""What a label is: its definition as snapshots hash it and models carry it, and its event in words.

Definitions only, so that serving can read them: labels are computed in `.direction` and `.triple_barrier`.
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

LabelKind = Literal["direction", "triple_barrier"]
SampleWeights = Literal["none", "uniqueness"]


class DirectionLabel(BaseModel):
    """Definition of the label, as snapshots hash it: 1 when the close `horizon_bars` later is above the close now."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["direction"] = "direction"
    horizon_bars: int = Field(ge=1, description="Bars from the close of the decision to the close that decides")


class TripleBarrierLabel(BaseModel):
    """Definition of the label, as snapshots hash it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["triple_barrier"] = "triple_barrier"
    profit_atr: float = Field(3.0, gt=0, description="Average true ranges from the close up to the profit")
    stop_atr: float = Field(2.0, gt=0, description="Average true ranges from the close down to the stop")
    max_bars: int = Field(60, ge=1, description="Bars after the decision, with whose last close the time is up")
    atr_bars: int = Field(14, ge=1, description="Bars of the average true range, the bar of the decision included")


LabelDefinition = DirectionLabel | TripleBarrierLabel


def label_definition(horizon_bars: int, triple_barrier: TripleBarrierLabel | None) -> LabelDefinition:
    """The definition that a snapshot or a model carries as two fields, of which the second came later."""
    return DirectionLabel(horizon_bars=horizon_bars) if triple_barrier is None else triple_barrier


def longest_bars(definition: LabelDefinition) -> int:
    """Bars after the decision that a label looks at, at most."""
    return definition.max_bars if isinstance(definition, TripleBarrierLabel) else definition.horizon_bars


def event_in_words(definition: LabelDefinition, timeframe: str) -> str:
    """What the probability of a model trained on such labels is the probability of."""
    if isinstance(definition, TripleBarrierLabel):
        return (
            f"within {definition.max_bars} bars of {timeframe} after a closed bar, the price reaches "
            f"{definition.profit_atr:g} average true ranges above that bar's close, and does not fall "
            f"{definition.stop_atr:g} below it before"
        )
    return f"the close is higher {definition.horizon_bars} bars of {timeframe} after a closed bar"
