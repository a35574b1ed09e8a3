"""The point-in-time join against an oracle that looks at every row, and against what may never change."""

from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import SchemaError
from levibot_core.features.point_in_time import join_as_known
from levibot_core.schemas import TIMESTAMP

SYMBOLS = ("ADA/USDT", "BTC/USDT", "ETH/USDT")
NAMES = ("x", "y")
SCHEMA = {
    "symbol": pl.String,
    "ts": pl.Int64,
    "known_at": pl.Int64,
    "revision": pl.Int32,
    "x": pl.Float64,
    "y": pl.Int8,
}

# symbol, ts, delay until known, revision, x
Row = tuple[str, int, int, int, float]
ROW = st.tuples(
    st.sampled_from(SYMBOLS),
    st.integers(0, 9),
    st.integers(1, 12),
    st.integers(0, 2),
    st.sampled_from([0.0, 1.5, -2.0]),
)
ROWS = st.lists(ROW, max_size=25, unique_by=lambda row: (row[0], row[1], row[3]))
QUESTION = st.tuples(st.sampled_from([*SYMBOLS, "XRP/USDT"]), st.integers(-2, 25))
QUESTIONS = st.lists(QUESTION, max_size=25)  # in any order, and repeated


def feature_frame(rows: Sequence[Row]) -> pl.DataFrame:
    table = [
        (symbol, ts, ts + delay, revision, x, number % 100)
        for number, (symbol, ts, delay, revision, x) in enumerate(rows)
    ]
    return pl.DataFrame(table, schema=SCHEMA, orient="row").with_columns(pl.col("ts", "known_at").cast(TIMESTAMP))


def spine_frame(questions: Sequence[tuple[str, int]]) -> pl.DataFrame:
    schema = {"symbol": pl.String, "time": pl.Int64}
    frame = pl.DataFrame(questions, schema=schema, orient="row").with_columns(pl.col("time").cast(TIMESTAMP))
    return frame.with_row_index("asked")


def oracle(spine: pl.DataFrame, features: pl.DataFrame, as_of: int | None, max_age: int | None) -> pl.DataFrame:
    """Ask the definition, one spine row at a time."""
    rows = features.with_columns(pl.col("ts", "known_at").to_physical()).rows(named=True)
    answers: list[dict[str, Any]] = []
    for question in spine.with_columns(pl.col("time").to_physical()).rows(named=True):
        limit = question["time"] if as_of is None else min(question["time"], as_of)
        known = [row for row in rows if row["symbol"] == question["symbol"] and row["known_at"] <= limit]
        best = max(known, key=lambda row: (row["ts"], row["revision"]), default=None)
        if best is None or (max_age is not None and question["time"] - best["ts"] > max_age):
            best = dict.fromkeys(SCHEMA)
        answers.append(
            question
            | {"feature_ts": best["ts"], "feature_known_at": best["known_at"]}
            | {name: best[name] for name in NAMES}
        )
    schema = {"asked": pl.UInt32, "symbol": pl.String, "time": pl.Int64, "feature_ts": pl.Int64}
    schema |= {"feature_known_at": pl.Int64} | {name: SCHEMA[name] for name in NAMES}
    times = pl.col("time", "feature_ts", "feature_known_at").cast(TIMESTAMP)
    return pl.DataFrame(answers, schema=schema).with_columns(times)


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, questions=QUESTIONS, as_of=st.none() | st.integers(-1, 25), max_age=st.none() | st.integers(0, 12))
def test_every_row_gets_the_newest_of_what_was_known(
    rows: list[Row], questions: list[tuple[str, int]], as_of: int | None, max_age: int | None
) -> None:
    spine, features = spine_frame(questions), feature_frame(rows)
    expected = oracle(spine, features, as_of, max_age)

    for given_features in (features, features.sort("symbol", "ts", "revision"), features.sort("known_at")):
        joined = join_as_known(spine, given_features, NAMES, as_of_ms=as_of, max_age_ms=max_age)
        assert joined.equals(expected)
        assert joined.schema == expected.schema


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, questions=QUESTIONS)
def test_a_sorted_spine_and_one_sorted_by_time_get_the_same_answers(
    rows: list[Row], questions: list[tuple[str, int]]
) -> None:
    spine, features = spine_frame(questions), feature_frame(rows)
    expected = oracle(spine, features, None, None)

    for order in (["symbol", "time"], ["time"], ["time", "symbol"]):
        joined = join_as_known(spine.sort(order, maintain_order=True), features, NAMES)
        assert joined.sort("asked").equals(expected)


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, later=ROWS, questions=QUESTIONS, as_of=st.integers(-1, 25))
def test_what_becomes_known_after_the_as_of_time_changes_no_answer(
    rows: list[Row], later: list[Row], questions: list[tuple[str, int]], as_of: int
) -> None:
    spine = spine_frame(questions)
    before = join_as_known(spine, feature_frame(rows), NAMES, as_of_ms=as_of)
    taken = {(symbol, ts, revision) for symbol, ts, _, revision, _ in rows}
    late = [
        (symbol, ts, max(delay, as_of + 1 - ts), revision, x)
        for symbol, ts, delay, revision, x in later
        if (symbol, ts, revision) not in taken
    ]

    after = feature_frame([*rows, *late])
    assert join_as_known(spine, after, NAMES, as_of_ms=as_of).equals(before)
    # Without an as-of time, each row is its own: what is asked about an earlier instant stays as it was.
    earlier = spine.filter(pl.col("time").to_physical() <= as_of)
    assert join_as_known(earlier, after, NAMES).equals(join_as_known(earlier, feature_frame(rows), NAMES))


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, questions=QUESTIONS)
def test_without_revision_numbers_what_was_known_later_is_the_correction(
    rows: list[Row], questions: list[tuple[str, int]]
) -> None:
    # Numbered in the order of knowledge, as the lake does.
    numbered = {
        (symbol, ts, ts + 2 * number + 1): (symbol, ts, 2 * number + 1, number, x) for symbol, ts, _, number, x in rows
    }
    spine, features = spine_frame(questions), feature_frame(list(numbered.values()))

    joined = join_as_known(spine, features.drop("revision"), NAMES)

    assert joined.equals(join_as_known(spine, features, NAMES))


def test_a_late_old_bar_never_hides_a_newer_one() -> None:
    features = feature_frame([("BTC/USDT", 1, 9, 0, 1.0), ("BTC/USDT", 5, 1, 0, 5.0)])

    joined = join_as_known(spine_frame([("BTC/USDT", 20), ("BTC/USDT", 5)]), features, ["x"])

    assert joined["x"].to_list() == [5.0, None]


def test_a_value_is_taken_at_the_very_instant_it_becomes_known() -> None:
    features = feature_frame([("BTC/USDT", 1, 5, 0, 1.0)])

    joined = join_as_known(spine_frame([("BTC/USDT", 5), ("BTC/USDT", 6)]), features, ["x"])

    assert joined["x"].to_list() == [None, 1.0]


def test_a_value_that_could_not_be_computed_stays_apart_from_one_that_was_not_known() -> None:
    features = feature_frame([("BTC/USDT", 1, 1, 0, float("nan"))])

    joined = join_as_known(spine_frame([("BTC/USDT", 1), ("BTC/USDT", 2)]), features, ["x"])

    assert str(joined["x"].to_list()) == "[None, nan]"


def test_far_away_instants_do_not_reach_into_another_symbol() -> None:
    features = feature_frame([(symbol, 3, 1, 0, float(number)) for number, symbol in enumerate(SYMBOLS)])
    extremes = [(symbol, time) for symbol in ("AAA/USDT", *SYMBOLS, "ZZZ/USDT") for time in (-(2**52), 2**52)]

    joined = join_as_known(spine_frame(extremes), features, ["x"])

    assert joined["x"].to_list() == [None, None, None, 0.0, None, 1.0, None, 2.0, None, None]


SPINE = spine_frame([("BTC/USDT", 3)])
FEATURES = feature_frame([("BTC/USDT", 1, 1, 0, 1.0)])


@pytest.mark.parametrize(
    ("spine", "features", "names", "message"),
    [
        (SPINE.drop("time"), FEATURES, ["x"], "column time is missing"),
        (SPINE.with_columns(pl.col("time").cast(pl.Datetime("ms"))), FEATURES, ["x"], "column time expected .*cast it"),
        (SPINE.with_columns(symbol=pl.lit(None, pl.String)), FEATURES, ["x"], "column symbol has 1 nulls"),
        (SPINE.with_columns(x=1), FEATURES, ["x"], "column x is one that the result adds; rename it"),
        (SPINE, FEATURES, ["x", "x"], "column x would stand there twice"),
        (SPINE, FEATURES, ["z"], "Expected features .* column z is missing"),
        (SPINE, FEATURES.drop("known_at"), ["x"], "column known_at is missing"),
        (SPINE, FEATURES.with_columns(known_at=pl.lit(0).cast(TIMESTAMP)), ["x"], "was earlier in 1 rows"),
        (SPINE, pl.concat([FEATURES, FEATURES]), ["x"], "one feature row per symbol, ts and revision, was 1 repeated"),
        (SPINE, pl.concat([FEATURES, FEATURES]).drop("revision"), ["x"], "was 1 repeated"),
    ],
)
def test_what_cannot_be_joined_is_refused(
    spine: pl.DataFrame, features: pl.DataFrame, names: list[str], message: str
) -> None:
    with pytest.raises(SchemaError, match=message):
        join_as_known(spine, features, names)
