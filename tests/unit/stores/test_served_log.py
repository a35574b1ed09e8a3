import json
import math
import struct
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from levibot_core.errors import HomeNotWritableError
from levibot_core.stores.served_log import (
    Entry,
    FurtherServings,
    ServedLog,
    ServedVector,
    UnreadableLine,
    read_entries,
)

NOON_MS = int(datetime(2026, 1, 2, 12, tzinfo=UTC).timestamp() * 1000)
VECTOR = ServedVector(
    symbol="BTC/USDT",
    ts_ms=NOON_MS - 300_000,
    known_at_ms=NOON_MS,
    feature_set="v1",
    source_kind="recorded",
    source_key="recorded",
    model="levibot-5m-h12",
    model_version=3,
    served_at_ms=NOON_MS + 1_000,
    close=97_310.5,
    values={"return_1": 0.1, "rsi_14": -0.0},
)
FURTHER = FurtherServings("BTC/USDT", VECTOR.ts_ms, "v1", 3, servings=41, served_at_ms=NOON_MS + 60_000)


def bits(number: float) -> bytes:
    return struct.pack("<d", number)


def read(path: Path) -> list[Entry | UnreadableLine]:
    return list(read_entries(path))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(number=st.floats(allow_nan=False, allow_infinity=False, width=64), name=st.text(min_size=1, max_size=8))
def test_every_number_reads_back_with_the_same_bits(tmp_path: Path, number: float, name: str) -> None:
    log = ServedLog(tmp_path)
    log.file_of(NOON_MS).unlink(missing_ok=True)
    log.append([replace(VECTOR, close=number, values={name: number, "other": -number})])
    (found,) = read(log.file_of(NOON_MS))
    assert isinstance(found, ServedVector)
    assert found.values.keys() == {name, "other"}
    assert (bits(found.values[name]), bits(found.close)) == (bits(number), bits(number))
    assert bits(found.values["other"]) == bits(-number)


def test_entries_go_to_the_file_of_the_utc_day_they_were_served_on(tmp_path: Path) -> None:
    log = ServedLog(tmp_path / "served")
    assert log.files() == {}
    midnight_ms = NOON_MS + 12 * 3_600_000
    tomorrow = replace(VECTOR, served_at_ms=midnight_ms)
    log.append([VECTOR, replace(VECTOR, served_at_ms=midnight_ms - 1), FURTHER, tomorrow])
    (log.folder / "notes.jsonl").write_text("not a day\n")

    assert list(log.files()) == [date(2026, 1, 2), date(2026, 1, 3)]
    assert read(log.files()[date(2026, 1, 2)]) == [VECTOR, replace(VECTOR, served_at_ms=midnight_ms - 1), FURTHER]
    assert read(log.files()[date(2026, 1, 3)]) == [tomorrow]

    log.remove_before(date(2026, 1, 3))
    assert list(log.files()) == [date(2026, 1, 3)]


@pytest.mark.parametrize("cut", [1, 2, 30, 200])
def test_a_line_cut_short_is_told_apart_and_the_next_append_does_not_touch_it(tmp_path: Path, cut: int) -> None:
    log, second = ServedLog(tmp_path), replace(VECTOR, symbol="ETH/USDT")
    log.append([VECTOR, second])
    path = log.file_of(NOON_MS)
    path.write_bytes(path.read_bytes()[:-cut])
    assert read(path) == [VECTOR, UnreadableLine(2)]

    log.append([FURTHER])
    # Of a line that lacked nothing but its end the next append makes a whole one.
    assert read(path) == [VECTOR, second if cut == 1 else UnreadableLine(2), FURTHER]


@pytest.mark.parametrize(
    "line",
    [
        "",
        "null",
        "[1]",
        "{}",
        '{"servings": 2}',
        json.dumps({"values": {"a": "x"}}),
        "\xff",
        '{"values": NaN}',
        '{"values": {"a": [1.0]}}',
    ],
)
def test_a_line_that_is_no_entry_is_unreadable_wherever_it_stands(tmp_path: Path, line: str) -> None:
    log = ServedLog(tmp_path)
    log.append([VECTOR])
    path = log.file_of(NOON_MS)
    path.write_bytes(line.encode("latin-1") + b"\n" + path.read_bytes())
    assert read(path) == [UnreadableLine(1), VECTOR]


def test_a_value_that_is_not_finite_is_not_logged(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        ServedLog(tmp_path).append([replace(VECTOR, values={"a": math.nan})])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeNotWritableError, match=r"part of its path is a file|a file stands"):
        ServedLog(tmp_path / "file" / "served").append([VECTOR])
