"""Cross-validation that cannot flatter: walk-forward and combinatorial splits, purged by label intervals.

A row is decided at `known_at` and its label is known at `label_end`; both instants belong to its interval. A row is
trained on only if its interval shares no instant with a test block's, which reaches from the block's first decision to
the LAST of its label ends, whichever row that is of. The embargo begins where the purge ends and adds to it. After
M. Lopez de Prado, "Advances in Financial Machine Learning" (2018), sections 7.4 and 12.4.

The splitters work on index arrays, like those of scikit-learn, and look at times alone. The one chronological split
that a model is trained, calibrated and tested on is in `levibot_core.validation.split`.
"""

from collections.abc import Iterator
from itertools import combinations, pairwise
from math import comb
from typing import Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator

from levibot_core.errors import ConfigurationError, DataQualityError

IntArray = npt.NDArray[np.int64]
Fold = tuple[IntArray, IntArray]
"""Places of the rows to train on and of those to test on, int64, rising."""


class PurgedSplitter(Protocol):
    """What both splitters offer."""

    def split(self, known_at_ms: IntArray, label_end_ms: IntArray) -> Iterator[Fold]:
        """Folds of the rows; see the splitters."""
        ...

    def get_n_splits(self, known_at_ms: IntArray | None = None) -> int:
        """Number of folds that `split` gives."""
        ...


class PurgedWalkForward(BaseModel):
    """Train on the past, test on what follows, move on: test blocks follow one another without a gap.

    Either `n_folds` test blocks of equally many decision times, after a first training window of `first_train_share`
    of them; or, with `train_span_ms` and `test_span_ms`, as many whole test blocks as there is room for, the last one
    ending with the newest decision time. A rolling window is as long as the first one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_folds: int | None = Field(None, ge=1)
    first_train_share: float = Field(0.5, gt=0, lt=1, description="Of the decision times; used with `n_folds`")
    train_span_ms: int | None = Field(None, ge=1)
    test_span_ms: int | None = Field(None, ge=1)
    window: Literal["rolling", "expanding"] = "rolling"
    embargo_ms: int = Field(0, ge=0, description="Pause from the last training label to the first tested decision")

    @model_validator(mode="after")
    def _one_way_to_cut(self) -> Self:
        spans = (self.train_span_ms is not None) + (self.test_span_ms is not None)
        if spans != (2 if self.n_folds is None else 0):
            raise ValueError("expected either n_folds, or both train_span_ms and test_span_ms")
        return self

    def split(self, known_at_ms: IntArray, label_end_ms: IntArray) -> Iterator[Fold]:
        """Folds in order of time.

        Args:
            known_at_ms: Decision time of each row, UTC milliseconds, (n,); any order, any number of rows at one time.
            label_end_ms: Instant at which the row's label is known, (n,).

        Raises:
            DataQualityError: the arrays do not fit each other, or a fold has no row to train or to test on.
        """
        known, ends = _checked(known_at_ms, label_end_ms)
        edges, train_span_ms = self._edges(known)
        for number, (begin, end) in enumerate(pairwise(edges.tolist())):
            test = (known >= begin) & (known < end)
            first = known[test].min(initial=end)
            train = (known < begin) & (ends < first - self.embargo_ms)
            if self.window == "rolling":
                train &= known >= begin - train_span_ms
            yield _fold(train, test, number)

    def get_n_splits(self, known_at_ms: IntArray | None = None) -> int:
        """Number of folds; with spans it depends on the decision times, which have to be given then.

        Raises:
            ConfigurationError: they were not given.
            DataQualityError: there is no room for a fold.
        """
        if self.n_folds is not None:
            return self.n_folds
        if known_at_ms is None:
            raise ConfigurationError("Expected decision times to count the folds of spans, was none. Give known_at_ms.")
        return self._edges(np.asarray(known_at_ms, dtype=np.int64))[0].size - 1

    def _edges(self, known: IntArray) -> tuple[IntArray, int]:
        """Where test blocks begin, and where the last one ends, (folds + 1,); and the length of a rolling window."""
        times = np.unique(known)
        if self.train_span_ms is None or self.test_span_ms is None:
            folds = self.n_folds or 1
            places = np.rint(np.linspace(self.first_train_share * times.size, times.size, folds + 1)).astype(np.int64)
            if places[0] == 0 or np.unique(places).size < places.size:
                raise DataQualityError(
                    f"Expected decision times for a training window and {folds} test blocks, was {times.size}. "
                    "Take more days or fewer folds."
                )
            edges = np.append(times, times[-1] + 1)[places]
            return edges, int(edges[0] - times[0])
        # A decision time stands for the stretch up to the next one.
        end = int(times[-1]) + (int(np.diff(times).min()) if times.size > 1 else 1)
        folds = (end - int(times[0]) - self.train_span_ms) // self.test_span_ms
        if folds < 1:
            raise DataQualityError(
                f"Expected at least {self.train_span_ms + self.test_span_ms} ms of decision times for one fold, was "
                f"{end - int(times[0])} ms. Take more days or shorter spans."
            )
        return end - self.test_span_ms * np.arange(folds, -1, -1, dtype=np.int64), self.train_span_ms


class CombinatorialPurgedCV(BaseModel):
    """Every choice of `n_test_groups` of `n_groups` groups as a test set, the rest, purged, to train on.

    Groups have equally many decision times, in order. Neighbouring test groups are one block. A training set may lie
    after a test block, so this says how much a result depends on the path of the market, not what would have been
    earned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_groups: int = Field(6, ge=2)
    n_test_groups: int = Field(2, ge=1)
    embargo_ms: int = Field(0, ge=0, description="Left out of training after the last label of each test block")

    @model_validator(mode="after")
    def _leave_groups_to_train_on(self) -> Self:
        if self.n_test_groups >= self.n_groups:
            raise ValueError(f"expected fewer test groups than {self.n_groups} groups, was {self.n_test_groups}")
        return self

    def split(self, known_at_ms: IntArray, label_end_ms: IntArray) -> Iterator[Fold]:
        """Folds in the order of `test_groups`.

        Args:
            known_at_ms: Decision time of each row, UTC milliseconds, (n,); any order, any number of rows at one time.
            label_end_ms: Instant at which the row's label is known, (n,).

        Raises:
            DataQualityError: the arrays do not fit each other, there are fewer decision times than groups, or
                nothing is left to train on.
        """
        known, ends = _checked(known_at_ms, label_end_ms)
        groups = self.groups(known)
        for number, chosen in enumerate(self.test_groups()):
            train = ~np.isin(groups, chosen)
            for block in _neighbours(chosen):
                within = np.isin(groups, block)
                first, last = known[within].min(), ends[within].max()
                train &= (ends < first) | (known > last + self.embargo_ms)
            yield _fold(train, np.isin(groups, chosen), number)

    def get_n_splits(self, known_at_ms: IntArray | None = None) -> int:  # noqa: ARG002 - as the other splitter
        """Number of folds: n_groups choose n_test_groups."""
        return comb(self.n_groups, self.n_test_groups)

    def test_groups(self) -> tuple[tuple[int, ...], ...]:
        """The test groups of each fold."""
        return tuple(combinations(range(self.n_groups), self.n_test_groups))

    def groups(self, known_at_ms: IntArray) -> IntArray:
        """The group of each row, int64 (n,), counted from 0 in order of time.

        Raises:
            DataQualityError: there are fewer decision times than groups.
        """
        times = np.unique(known_at_ms)
        if times.size < self.n_groups:
            raise DataQualityError(
                f"Expected at least one decision time per group, was {times.size} for {self.n_groups} groups. "
                "Take more days or fewer groups."
            )
        begins = [part[0] for part in np.array_split(times, self.n_groups)]
        return (np.searchsorted(begins, known_at_ms, side="right") - 1).astype(np.int64)

    def paths(self) -> IntArray:
        """How folds make whole backtests, int64 (n_groups - 1 choose n_test_groups - 1, n_groups).

        Path p takes the forecasts of group g from fold `paths()[p, g]`, so that it has every row once, each from a
        model that was not trained on it, and no fold gives a group to two paths.
        """
        chosen = self.test_groups()
        columns = [[fold for fold, groups in enumerate(chosen) if group in groups] for group in range(self.n_groups)]
        return np.array(columns, dtype=np.int64).T


def _neighbours(groups: tuple[int, ...]) -> list[list[int]]:
    """Runs of consecutive numbers."""
    blocks: list[list[int]] = []
    for group in groups:
        if blocks and blocks[-1][-1] == group - 1:
            blocks[-1].append(group)
        else:
            blocks.append([group])
    return blocks


def _checked(known_at_ms: IntArray, label_end_ms: IntArray) -> tuple[IntArray, IntArray]:
    known, ends = np.asarray(known_at_ms), np.asarray(label_end_ms)
    whole = np.issubdtype(known.dtype, np.integer) and np.issubdtype(ends.dtype, np.integer)
    if not whole or known.ndim != 1 or known.shape != ends.shape or not known.size:
        raise DataQualityError(
            f"Expected two arrays (n,) of whole milliseconds with at least one row, was {known.dtype} {known.shape} "
            f"and {ends.dtype} {ends.shape}. Give known_at and label_end of the same rows."
        )
    if early := int((ends < known).sum()):
        raise DataQualityError(
            f"Expected labels that end at or after their decision, was {early} that end before. Label the rows again."
        )
    return known.astype(np.int64), ends.astype(np.int64)


def _fold(train: npt.NDArray[np.bool_], test: npt.NDArray[np.bool_], number: int) -> Fold:
    places = np.flatnonzero(train), np.flatnonzero(test)
    if not (places[0].size and places[1].size):
        raise DataQualityError(
            f"Expected rows to train and to test on in fold {number}, was {places[0].size} and {places[1].size}. "
            "Take more days, fewer folds, a shorter horizon or a shorter embargo."
        )
    return places
