"""The chronological split: train, validation, calibration and test, one after the other, purged by `label_end`.

The boundaries are instants that hold for all symbols; they depend on times alone, never on a value. Proving that a
split keeps its promise is the work of `levibot_core.validation.definition_checks`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Self

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, model_validator

from levibot_core.errors import SnapshotError

PARTS = ("train", "validation", "calibration", "test")
_TOLERANCE = 1e-9


class SplitPlan(BaseModel):
    """Shares of the decision times that each part spans, which sum to 1, and the pause between parts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: float = Field(0.60, gt=0, lt=1)
    validation: float = Field(0.15, gt=0, lt=1)
    calibration: float = Field(0.10, gt=0, lt=1)
    test: float = Field(0.15, gt=0, lt=1)
    embargo_ms: int = Field(0, ge=0, description="Pause from a part's last label to the next part's first decision")

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if abs(sum(self.shares) - 1.0) > _TOLERANCE:
            raise ValueError(f"expected shares that sum to 1, was {sum(self.shares)}")
        return self

    @property
    def shares(self) -> tuple[float, float, float, float]:
        """The shares in the order of `PARTS`."""
        return self.train, self.validation, self.calibration, self.test


@dataclass(frozen=True, slots=True)
class SplitResult:
    """The parts, each with the columns and the row order of what was split.

    Attributes:
        train: Rows to fit on.
        validation: Rows to choose on: early stopping, hyper-parameters.
        calibration: Rows to choose a calibration method on, and to calibrate on.
        test: Rows that nothing was fitted or chosen on.
        boundaries: Part name to its first decision time, UTC milliseconds.
        purged: Part name to the number of its rows left out, because their label reaches into the next part or the
            embargo before it.
        source: What was split, with the rows that were purged: their features were known all the same, and windows of
            later rows reach over them. None where the parts were changed since.
    """

    train: pl.DataFrame
    validation: pl.DataFrame
    calibration: pl.DataFrame
    test: pl.DataFrame
    boundaries: Mapping[str, int]
    purged: Mapping[str, int]
    source: pl.DataFrame | None = None

    @property
    def history(self) -> pl.DataFrame:
        """The rows that windows of a part's rows are cut from: `source`, or all parts after another."""
        return pl.concat(self.parts.values()) if self.source is None else self.source

    @property
    def parts(self) -> Mapping[str, pl.DataFrame]:
        """The parts by name, in order of time."""
        return {name: getattr(self, name) for name in PARTS}

    def with_parts(self, parts: Mapping[str, pl.DataFrame]) -> Self:
        """The same split with other rows in the parts that are named."""
        whole = {**self.parts, **parts}
        return type(self)(**whole, boundaries=self.boundaries, purged=self.purged)


_DEFAULT_PLAN = SplitPlan()


def chronological_split(rows: pl.DataFrame, plan: SplitPlan = _DEFAULT_PLAN) -> SplitResult:
    """Cut training rows at instants of time into four parts that follow one another.

    See `split_boundaries` for the instants and `split_at` for the rows.

    Args:
        rows: Training rows with known_at (decision time) and label_end, of any number of symbols, in any order.
        plan: The shares and the embargo.

    Raises:
        SnapshotError: a part would have no row; the message says how many each has.
    """
    return split_at(rows, split_boundaries(rows, plan), plan.embargo_ms)


def split_boundaries(rows: pl.DataFrame, plan: SplitPlan = _DEFAULT_PLAN) -> dict[str, int]:
    """Each part's first decision time, UTC milliseconds: the shares are shares of the distinct decision times.

    Args:
        rows: Training rows with known_at, in any order.
        plan: The shares.

    Raises:
        SnapshotError: there are too few decision times for four parts.
    """
    times = rows.select(pl.col("known_at").dt.epoch("ms").unique().sort()).to_series()
    firsts = [0, *(round(share * times.len()) for share in accumulate(plan.shares[:-1]))]
    starts = [times[first] for first in firsts if first < times.len()]
    if len(set(starts)) < len(PARTS):
        raise SnapshotError(
            f"Expected rows at enough decision times for {len(PARTS)} parts, was {times.len()}. Take more days."
        )
    return dict(zip(PARTS, starts, strict=True))


def split_at(rows: pl.DataFrame, boundaries: Mapping[str, int], embargo_ms: int = 0) -> SplitResult:
    """Cut training rows at given instants.

    A row belongs to the part in which its `known_at` lies; it is purged if its `label_end` is later than the next
    part's first decision time less the embargo.

    Args:
        rows: Training rows with known_at and label_end, in any order.
        boundaries: Each part's first decision time, UTC milliseconds, rising in the order of `PARTS`.
        embargo_ms: Pause between a part's last label and the next part's first decision, milliseconds.

    Raises:
        SnapshotError: a part would have no row; the message says how many were purged.
    """
    decided, labelled = pl.col("known_at").dt.epoch("ms"), pl.col("label_end").dt.epoch("ms")
    starts = [boundaries[name] for name in PARTS]
    parts, purged = {}, {}
    for name, start, end in zip(PARTS, starts, [*starts[1:], None], strict=True):
        within = rows.filter(decided >= start if end is None else decided.is_between(start, end, closed="left"))
        parts[name] = within if end is None else within.filter(labelled <= end - embargo_ms)
        purged[name] = within.height - parts[name].height
    if empty := [name for name, part in parts.items() if part.is_empty()]:
        raise SnapshotError(
            f"Expected rows in every part of the split, was none in {', '.join(empty)} (purged {purged}). "
            "Take more days or a shorter horizon."
        )
    return SplitResult(**parts, boundaries=dict(zip(PARTS, starts, strict=True)), purged=purged, source=rows)
