"""The split: in order of time, disjoint, purged by the end of the label, nothing lost."""

from typing import Any

import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from levibot_core.errors import SnapshotError
from levibot_core.schemas import TIMESTAMP
from levibot_core.validation.definition_checks import check_split
from levibot_core.validation.split import PARTS, SplitPlan, chronological_split, split_at

BAR_MS = 300_000


def rows_of(bars_by_symbol: list[set[int]], spans: list[int]) -> pl.DataFrame:
    """Training rows at these bars; the label of row i ends `spans[i mod len]` bars after its decision."""
    keys = [(f"S{number}/USDT", bar) for number, bars in enumerate(bars_by_symbol) for bar in sorted(bars)]
    decided = [(bar + 1) * BAR_MS for _, bar in keys]
    ends = [known + spans[index % len(spans)] * BAR_MS for index, known in enumerate(decided)]
    return pl.DataFrame(
        {
            "symbol": pl.Series([symbol for symbol, _ in keys], dtype=pl.String),
            "ts": pl.Series([bar * BAR_MS for _, bar in keys], dtype=pl.Int64).cast(TIMESTAMP),
            "known_at": pl.Series(decided, dtype=pl.Int64).cast(TIMESTAMP),
            "label_end": pl.Series(ends, dtype=pl.Int64).cast(TIMESTAMP),
        }
    )


_bars = st.sets(st.integers(0, 300), min_size=40, max_size=150)


@settings(max_examples=60, deadline=None)
@given(
    bars=st.lists(_bars, min_size=1, max_size=3),
    spans=st.lists(st.integers(1, 15), min_size=1, max_size=5),
    embargo_bars=st.integers(0, 8),
    seed=st.integers(0, 99),
)
def test_parts_follow_one_another_share_nothing_and_lose_nothing(
    bars: list[set[int]], spans: list[int], embargo_bars: int, seed: int
) -> None:
    rows = rows_of(bars, spans).sample(fraction=1.0, shuffle=True, seed=seed)
    embargo_ms = embargo_bars * BAR_MS
    try:
        split = chronological_split(rows, SplitPlan(embargo_ms=embargo_ms))
    except SnapshotError:
        assume(False)
    parts = list(split.parts.values())
    starts = [split.boundaries[name] for name in PARTS]
    assert starts == sorted(set(starts))
    for part, start, end in zip(parts, starts, [*starts[1:], None], strict=True):
        assert all(decided >= start for decided in part["known_at"].dt.epoch("ms"))
        assert end is None or all(ends <= end - embargo_ms for ends in part["label_end"].dt.epoch("ms"))
    assert check_split(split, embargo_ms).passed
    kept = pl.concat(parts)
    assert kept.select("symbol", "ts").is_duplicated().sum() == 0
    assert kept.height + sum(split.purged.values()) == rows.height
    purged = rows.join(kept, on=["symbol", "ts"], how="anti").with_columns(
        decided=pl.col("known_at").dt.epoch("ms"), ends=pl.col("label_end").dt.epoch("ms")
    )
    for decided, ends in purged.select("decided", "ends").rows():
        assert any(decided < start < ends + embargo_ms for start in starts[1:])
    for part in parts:  # each part keeps the order of what was split
        assert part.equals(rows.join(part, on=["symbol", "ts"], how="semi", maintain_order="left"))


def test_shares_are_shares_of_the_decision_times() -> None:
    split = chronological_split(rows_of([set(range(1_000)), set(range(500, 1_000))], [12]))
    assert [split.boundaries[name] // BAR_MS - 1 for name in PARTS] == [0, 600, 750, 850]
    assert dict(split.purged) == {"train": 22, "validation": 22, "calibration": 22, "test": 0}
    other = chronological_split(
        rows_of([set(range(1_000))], [1]), SplitPlan(train=0.25, validation=0.25, calibration=0.25, test=0.25)
    )
    assert [part.height for part in other.parts.values()] == [250, 250, 250, 250]


def test_given_boundaries_and_other_rows_in_a_part() -> None:
    rows = rows_of([set(range(100))], [1])
    split = chronological_split(rows)
    assert split_at(rows.filter(pl.col("ts").dt.epoch("ms") < 95 * BAR_MS), split.boundaries).train.equals(split.train)
    emptied = split.with_parts({"test": split.test.clear()})
    assert (emptied.test.height, emptied.train.height, emptied.boundaries) == (0, split.train.height, split.boundaries)
    with pytest.raises(SnapshotError, match="none in train, validation"):
        split_at(split.test, split.boundaries)


@pytest.mark.parametrize(("bars", "span"), [(0, 1), (3, 1), (40, 30)])
def test_too_few_rows_are_refused(bars: int, span: int) -> None:
    with pytest.raises(SnapshotError, match="Take more days"):
        chronological_split(rows_of([set(range(bars))], [span]))


@pytest.mark.parametrize("shares", [{"train": 0.7}, {"train": 0.0, "test": 0.75}, {"holdout": 0.1}])
def test_a_plan_that_is_no_partition_is_refused(shares: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SplitPlan(**shares)
