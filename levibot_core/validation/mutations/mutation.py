"""What a planted mistake is: one stage, one switch, and the checks that have to catch it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from levibot_core.validation.attack.pipeline import Pipeline

Stage = Literal["features", "labels", "split", "statistics", "model", "calibration", "forecasts", "backtest"]


@dataclass(frozen=True)
class Mutation:
    """A mistake that lets a pipeline look ahead, and the same step done right.

    Attributes:
        name: Unique, for people.
        stage: Where it is planted.
        mistake: What is wrong, in words.
        caught_by: The checks that must fail, and no other: it is caught for what it is, not by accident.
        plant: From a pipeline to one with the step, wrong for True and right for False.
    """

    name: str
    stage: Stage
    mistake: str
    caught_by: tuple[str, ...]
    plant: Callable[[Pipeline, bool], Pipeline]
