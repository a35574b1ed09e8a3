from collections.abc import Sequence

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import SchemaError
from levibot_core.market.revisions import latest_as_of, merge_revisions
from levibot_core.schemas import FEATURES, FUNDING_RATES, TIMESTAMP

TABLE = FUNDING_RATES
HOUR = 3_600_000

# A batch: at which hour each row settles, and its rate; a batch has at most one row per symbol and hour.
Row = tuple[str, int, float]
ROWS = st.tuples(st.sampled_from(["BTC/USDT", "ETH/USDT"]), st.integers(0, 5), st.sampled_from([0.0, 0.1, 0.2]))
BATCH = st.lists(ROWS, max_size=8, unique_by=lambda row: row[:2])
HISTORY = st.lists(BATCH, min_size=1, max_size=5)


def frame(rows: Sequence[Row]) -> pl.DataFrame:
    return (
        pl.DataFrame(rows, schema={"symbol": pl.String, "ts": pl.Int64, "rate": pl.Float64}, orient="row")
        .with_columns((pl.col("ts") * HOUR).cast(TIMESTAMP))
        .with_columns(
            pl.col("ts").alias("known_at"),
            pl.lit(0, pl.Int32).alias("revision"),
            pl.lit("test").alias("venue"),
        )
    )


def merged(history: Sequence[Sequence[Row]]) -> pl.DataFrame:
    """The batches merged one after another, the n-th observed at hour 10 + n."""
    table = TABLE.empty()
    for number, batch in enumerate(history):
        table = merge_revisions(table, frame(batch), TABLE, (10 + number) * HOUR).frame
    return table


def rates(table: pl.DataFrame, as_of_ms: int | None) -> dict[tuple[str, int], float]:
    newest = latest_as_of(table, TABLE, as_of_ms)
    hours = newest["ts"].dt.epoch("ms") // HOUR
    return {(s, t): r for s, t, r in zip(newest["symbol"], hours, newest["rate"], strict=True)}


@settings(max_examples=40, deadline=None)
@given(history=HISTORY)
def test_merging_the_same_rows_again_changes_nothing(history: list[list[Row]]) -> None:
    table = merged(history)

    again = merge_revisions(table, frame(history[-1]), TABLE, 99 * HOUR)

    assert again.frame.equals(table)
    assert (again.rows_new, again.rows_revised, again.rows_unchanged) == (0, 0, len(history[-1]))


@settings(max_examples=40, deadline=None)
@given(truth=BATCH, data=st.data())
def test_the_order_in_which_parts_of_the_same_truth_arrive_does_not_matter(
    truth: list[Row], data: st.DataObject
) -> None:
    parts = data.draw(st.lists(st.lists(st.sampled_from(truth), unique=True), max_size=4)) if truth else []

    assert merged([*parts, truth]).equals(merged([truth, *parts]))
    assert merged([*parts, truth]).equals(merged([truth]))


@settings(max_examples=60, deadline=None)
@given(history=HISTORY, later=BATCH, as_of=st.integers(0, 20))
def test_a_later_observation_never_changes_what_an_earlier_reader_saw_of_known_rows(
    history: list[list[Row]], later: list[Row], as_of: int
) -> None:
    table = merged(history)
    before = rates(table, as_of * HOUR)

    after = rates(merge_revisions(table, frame(later), TABLE, 21 * HOUR).frame, as_of * HOUR)

    assert {key: after[key] for key in before} == before


@settings(max_examples=40, deadline=None)
@given(history=HISTORY)
def test_the_newest_revision_is_what_was_seen_last_and_every_key_is_there_once(history: list[list[Row]]) -> None:
    table = merged(history)

    last_seen = {row[:2]: row[2] for batch in history for row in batch}
    assert rates(table, None) == last_seen
    assert TABLE.violations(table) == []
    revisions = table.group_by("symbol", "ts").agg(pl.col("revision").sort())["revision"].to_list()
    assert all(numbers == list(range(len(numbers))) for numbers in revisions)


def test_a_changed_row_is_appended_as_the_next_revision_known_when_it_was_observed() -> None:
    result = merge_revisions(
        frame([("BTC/USDT", 1, 0.1), ("BTC/USDT", 2, 0.1)]),
        frame([("BTC/USDT", 2, 0.2), ("BTC/USDT", 3, 0.3)]),
        TABLE,
        50 * HOUR,
    )

    assert (result.rows_new, result.rows_revised, result.rows_unchanged) == (1, 1, 0)
    assert result.frame.height == 4
    revised = result.frame.filter(pl.col("revision") == 1).row(0, named=True)
    assert (revised["rate"], revised["known_at"].timestamp()) == (0.2, 50 * 3600)
    assert rates(result.frame, 50 * HOUR - 1)["BTC/USDT", 2] == 0.1
    assert rates(result.frame, 50 * HOUR)["BTC/USDT", 2] == 0.2


def test_a_revision_is_never_known_before_the_one_it_replaces_even_if_the_clock_went_back() -> None:
    first = merge_revisions(frame([("BTC/USDT", 1, 0.1)]), frame([("BTC/USDT", 1, 0.2)]), TABLE, 50 * HOUR)

    second = merge_revisions(first.frame, frame([("BTC/USDT", 1, 0.3)]), TABLE, 40 * HOUR)

    assert rates(second.frame, 50 * HOUR)["BTC/USDT", 1] == 0.2
    assert rates(second.frame, 50 * HOUR + 1)["BTC/USDT", 1] == 0.3


def test_a_value_that_changes_back_is_another_revision() -> None:
    table = merged([[("BTC/USDT", 1, 0.1)], [("BTC/USDT", 1, 0.2)], [("BTC/USDT", 1, 0.1)]])

    assert table["rate"].to_list() == [0.1, 0.2, 0.1]
    assert table["revision"].to_list() == [0, 1, 2]


def test_incoming_rows_that_claim_to_be_revisions_are_refused() -> None:
    claiming = frame([("BTC/USDT", 1, 0.1)]).with_columns(pl.lit(3, pl.Int32).alias("revision"))

    with pytest.raises(SchemaError, match=r"expected revision 0, was \[3\]"):
        merge_revisions(TABLE.empty(), claiming, TABLE, 0)


def test_rows_that_do_not_fit_the_table_are_refused() -> None:
    with pytest.raises(SchemaError, match="column rate is missing"):
        merge_revisions(TABLE.empty(), frame([("BTC/USDT", 1, 0.1)]).drop("rate"), TABLE, 0)


def test_a_table_without_revisions_is_refused() -> None:
    with pytest.raises(SchemaError, match="expected a key that ends with revision"):
        latest_as_of(FEATURES.empty(), FEATURES, None)
