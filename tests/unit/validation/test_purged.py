"""Purged splits: nothing leaks, nothing is lost, and each of the known mistakes is caught by the same properties."""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, assume, find, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from levibot_core.errors import ConfigurationError, DataQualityError
from levibot_core.validation.purged import CombinatorialPurgedCV, Fold, IntArray, PurgedSplitter, PurgedWalkForward

BAR_MS = 300_000
DAY_MS = 86_400_000
Rows = tuple[IntArray, IntArray]
FEW = settings(max_examples=60, deadline=None)


def rows_of(bars: list[int], spans: list[int]) -> Rows:
    known = np.array(bars, dtype=np.int64) * BAR_MS
    return known, known + np.resize(np.array(spans, dtype=np.int64), known.size) * BAR_MS


# Several rows at one time, gaps, labels of very different length, any order.
_rows = st.builds(
    rows_of,
    st.lists(st.integers(0, 60), min_size=20, max_size=60),
    st.lists(st.integers(0, 9), min_size=1, max_size=5),
)
_embargoes = st.integers(0, 6).map(lambda bars: bars * BAR_MS)


def leaks(folds: Iterable[Fold], rows: Rows, embargo_ms: int) -> set[str]:
    """What is wrong with folds, found row by row from the definition."""
    known, ends = rows
    found = set()
    for train, test in folds:
        if set(train.tolist()) & set(test.tolist()):
            found.add("row in both")
        trained = list(zip(known[train].tolist(), ends[train].tolist(), strict=True))
        tested = list(zip(known[test].tolist(), ends[test].tolist(), strict=True))
        if any(one <= last and first <= end for one, end in trained for first, last in tested):
            found.add("label overlaps")
        for last in last_labels(rows, test):
            if any(last < one <= last + embargo_ms for one, _ in trained):
                found.add("embargo broken")
    return found


def last_labels(rows: Rows, test: IntArray) -> list[int]:
    """The last label end of each run of tested decision times."""
    known, ends = rows
    runs: list[list[int]] = [[]]
    for time in sorted(set(known.tolist())):
        of_time = [int(ends[row]) for row in test if known[row] == time]
        runs = [*runs[:-1], [*runs[-1], *of_time]] if of_time else [*runs, []]
    return [max(run) for run in runs if run]


def mistaken(
    plan: CombinatorialPurgedCV,
    rows: Rows,
    *,
    ends_with: Callable[[IntArray], Any] = np.max,
    embargo_from: str = "label",
    purge_before: bool = True,
) -> list[Fold]:
    """The combinatorial splitter once more, with a mistake where one is asked for; by default it has none."""
    known, ends = rows
    groups = plan.groups(known)
    folds = []
    for chosen in plan.test_groups():
        test = np.isin(groups, chosen)
        keep = ~test
        for begin in (group for group in chosen if group - 1 not in chosen):
            end = next(group for group in range(begin, plan.n_groups + 1) if group not in chosen)
            block = np.flatnonzero((groups >= begin) & (groups < end))
            block = block[np.argsort(known[block], kind="stable")]
            first, last = known[block].min(), ends_with(ends[block])
            paused = (last if embargo_from == "label" else known[block].max()) + plan.embargo_ms
            before = ends < first if purge_before else known < first
            keep &= before | (known > max(last, paused))
        folds.append((np.flatnonzero(keep), np.flatnonzero(test)))
    return folds


_plans = st.builds(
    lambda groups, tested, embargo_ms: CombinatorialPurgedCV(
        n_groups=groups, n_test_groups=min(tested, groups - 1), embargo_ms=embargo_ms
    ),
    st.integers(2, 6),
    st.integers(1, 3),
    _embargoes,
)


def folds_of(plan: PurgedSplitter, rows: Rows) -> list[Fold]:
    try:
        return list(plan.split(*rows))
    except DataQualityError:
        assume(False)
        raise


@FEW
@given(rows=_rows, plan=_plans)
def test_combinatorial_folds_do_not_leak_and_leave_out_no_more_than_they_must(
    rows: Rows, plan: CombinatorialPurgedCV
) -> None:
    folds = folds_of(plan, rows)
    assert len(folds) == plan.get_n_splits()
    assert leaks(folds, rows, plan.embargo_ms) == set()
    assert [[part.tolist() for part in fold] for fold in folds] == (
        [[part.tolist() for part in fold] for fold in mistaken(plan, rows)]
    )
    assert all(part.dtype == np.int64 for fold in folds for part in fold)


@pytest.mark.parametrize(
    ("mistake", "found"),
    [
        # The purge ends with the label of the block's first row, where a later one reaches further.
        ({"ends_with": lambda ends: ends[0]}, "label overlaps"),
        # The same with the last row's: a row before it may have the longer label.
        ({"ends_with": lambda ends: ends[-1]}, "label overlaps"),
        # The embargo counts from the last decision, so that the purge uses it up.
        ({"embargo_from": "decision"}, "embargo broken"),
        # A label of a training row reaches into the test block.
        ({"purge_before": False}, "label overlaps"),
    ],
)
def test_the_known_mistakes_are_caught(mistake: dict[str, Any], found: str) -> None:
    def caught(case: tuple[Rows, CombinatorialPurgedCV]) -> bool:
        rows, plan = case
        if np.unique(rows[0]).size < plan.n_groups:
            return False
        return found in leaks(mistaken(plan, rows, **mistake), rows, plan.embargo_ms)

    # Any example will do: looking for the smallest takes much longer.
    find(st.tuples(_rows, _plans), caught, settings=settings(max_examples=500, deadline=None, phases=[Phase.generate]))


def repeated(path: IntArray, plan: CombinatorialPurgedCV, known: IntArray) -> bool:
    """Whether a path takes a row twice or leaves one out, or takes it from a fold that did not test it."""
    groups, tested = plan.groups(known), plan.test_groups()
    taken = [row for row in range(known.size) for fold in path[groups[row]] if groups[row] in tested[fold]]
    return sorted(taken) != list(range(known.size))


@FEW
@given(rows=_rows, plan=_plans)
def test_every_path_has_every_row_once_and_every_forecast_is_in_one_path(
    rows: Rows, plan: CombinatorialPurgedCV
) -> None:
    known = rows[0]
    assume(np.unique(known).size >= plan.n_groups)
    paths = plan.paths()
    assert paths.shape == (plan.get_n_splits() * plan.n_test_groups // plan.n_groups, plan.n_groups)
    assert not any(repeated(path[:, np.newaxis], plan, known) for path in paths)
    used = [(int(fold), group) for path in paths for group, fold in enumerate(path)]
    assert sorted(used) == [(fold, group) for fold, groups in enumerate(plan.test_groups()) for group in groups]


def test_a_path_made_of_whole_folds_sees_rows_twice_and_is_caught() -> None:
    plan = CombinatorialPurgedCV(n_groups=4, n_test_groups=2)
    known = np.arange(8, dtype=np.int64) * BAR_MS
    # Folds 0 and 1 test the groups (0, 1) and (0, 2): whoever joins them has group 0 twice.
    assert repeated(np.array([[0, 1, 5]] * 4), plan, known)


@FEW
@given(
    rows=_rows,
    folds=st.integers(1, 5),
    window=st.sampled_from(["rolling", "expanding"]),
    embargo_ms=_embargoes,
    spans=st.tuples(st.integers(5, 30), st.integers(3, 10)),
    by_span=st.booleans(),
)
def test_walking_forward_never_looks_ahead_and_tests_every_row_at_most_once(
    rows: Rows, folds: int, window: Any, embargo_ms: int, spans: tuple[int, int], by_span: bool
) -> None:
    known, ends = rows
    cut: dict[str, Any] = {"n_folds": folds}
    if by_span:
        cut = {"train_span_ms": spans[0] * BAR_MS, "test_span_ms": spans[1] * BAR_MS}
    plan = PurgedWalkForward(window=window, embargo_ms=embargo_ms, **cut)
    found = folds_of(plan, rows)
    assert len(found) == plan.get_n_splits(known)
    assert leaks(found, rows, embargo_ms) == set()
    tested = np.concatenate([test for _, test in found])
    assert np.unique(tested).size == tested.size
    assert set(np.flatnonzero(known >= known[tested].min())) == set(tested.tolist())
    for train, test in found:
        first = known[test].min()
        assert (ends[train] + embargo_ms < first).all()
        left_out = np.setdiff1d(np.flatnonzero(known < first), train)
        reaching = ends[left_out] + embargo_ms >= first
        if window == "expanding":
            assert reaching.all()
        else:  # the others lie before the window, and the window is the same for all folds
            assert (known[left_out][~reaching] < known[train].min()).all()
            if by_span:
                assert known[train].min() > known[test].max() - (spans[0] + spans[1]) * BAR_MS


def test_sixty_days_of_training_and_seven_of_test_give_sixteen_folds_of_172_days() -> None:
    bars = np.arange(1, 172 * 288 + 1, dtype=np.int64)
    known = bars * BAR_MS
    plan = PurgedWalkForward(train_span_ms=60 * DAY_MS, test_span_ms=7 * DAY_MS)
    folds = list(plan.split(known, known + 12 * BAR_MS))
    assert len(folds) == plan.get_n_splits(known) == 16
    assert {test.size for _, test in folds} == {7 * 288}
    assert {train.size for train, _ in folds} == {60 * 288 - 12}
    assert folds[-1][1][-1] == known.size - 1


def test_embargo_adds_to_the_purge_on_both_sides() -> None:
    known = np.arange(30, dtype=np.int64) * BAR_MS
    ends = known + 3 * BAR_MS
    plan = CombinatorialPurgedCV(n_groups=3, n_test_groups=1, embargo_ms=2 * BAR_MS)
    train, test = list(plan.split(known, ends))[1]
    assert test.tolist() == list(range(10, 20))
    # Labels up to bar 9 end before the block; the block's last label ends at bar 22, the embargo with bar 24.
    assert train.tolist() == [*range(7), *range(25, 30)]
    walking = PurgedWalkForward(n_folds=1, embargo_ms=2 * BAR_MS)
    assert next(walking.split(known, ends))[0].tolist() == list(range(10))


@pytest.mark.parametrize(
    ("known", "ends", "message"),
    [
        ([0, 1], [1], "same rows"),
        ([0.0, 1.0], [1.0, 2.0], "whole milliseconds"),
        ([], [], "at least one row"),
        ([5, 6, 7, 8], [6, 7, 8, 7], "1 that end before"),
        ([5, 6], [6, 7], "one decision time per group"),
        ([5, 6, 7, 8, 9, 10], [99] * 6, "to train and to test on in fold 0, was 0 and 2"),
    ],
)
def test_rows_that_cannot_be_split_are_refused(known: list[Any], ends: list[Any], message: str) -> None:
    with pytest.raises(DataQualityError, match=message):
        list(CombinatorialPurgedCV(n_groups=6).split(np.array(known), np.array(ends)))


def test_too_little_room_for_the_folds_is_refused() -> None:
    known = np.arange(10, dtype=np.int64)
    with pytest.raises(DataQualityError, match="fewer folds"):
        list(PurgedWalkForward(n_folds=9).split(known, known))
    with pytest.raises(DataQualityError, match="shorter spans"):
        PurgedWalkForward(train_span_ms=8, test_span_ms=3).get_n_splits(known)
    with pytest.raises(ConfigurationError, match="known_at_ms"):
        PurgedWalkForward(train_span_ms=8, test_span_ms=3).get_n_splits()


@pytest.mark.parametrize("cut", [{}, {"n_folds": 2, "test_span_ms": 1}, {"train_span_ms": 1}, {"n_folds": 0}])
def test_a_plan_that_does_not_say_how_to_cut_is_refused(cut: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PurgedWalkForward(**cut)
    with pytest.raises(ValidationError):
        CombinatorialPurgedCV(n_groups=3, n_test_groups=3)
