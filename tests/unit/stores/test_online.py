"""What is true of the SQLite backend alone; what every backend does is in tests/integration/test_online_store.py."""

import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levibot_core.errors import HomeNotWritableError, LakeCorruptionError, OnlineStoreError
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_core.stores.online_vector import encode


def vector(symbol: str = "BTC/USDT", ts_ms: int = 1_000) -> FeatureVector:
    values = {"a": 0.5, "b": -1.25e-7}
    return FeatureVector(symbol, ts_ms, ts_ms + 300_000, "v1", "recorded", 93_576.0, values)


@pytest.fixture
def store(tmp_path: Path) -> SqliteOnlineStore:
    return SqliteOnlineStore(tmp_path / "online.sqlite")


def test_reading_a_store_that_nobody_wrote_creates_nothing(store: SqliteOnlineStore, tmp_path: Path) -> None:
    assert store.get("BTC/USDT") is None
    assert store.last_known_at_ms(["BTC/USDT"]) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_reader_notices_that_the_file_was_deleted_and_written_anew(store: SqliteOnlineStore, tmp_path: Path) -> None:
    store.put([vector(ts_ms=1_000)])
    assert store.get("BTC/USDT") == vector(ts_ms=1_000)
    files = [path for path in tmp_path.iterdir() if path.name.startswith("online")]
    for path in files:
        path.rename(path.with_name(f"old-{path.name}"))
    writer = SqliteOnlineStore(tmp_path / "online.sqlite")
    writer.put([vector(ts_ms=5_000)])
    writer.close()

    assert store.get("BTC/USDT") == vector(ts_ms=5_000)


def test_a_file_of_an_earlier_version_is_emptied_and_used(store: SqliteOnlineStore, tmp_path: Path) -> None:
    before = sqlite3.connect(tmp_path / "online.sqlite")
    before.execute("CREATE TABLE vectors (symbol TEXT PRIMARY KEY, feature_values TEXT)")
    before.execute("INSERT INTO vectors VALUES ('BTC/USDT', '{}')")
    before.commit()
    before.close()
    assert store.get("BTC/USDT") is None
    store.put([vector()])
    assert store.get("BTC/USDT") == vector()


def test_names_are_kept_once_and_not_beside_every_vector(store: SqliteOnlineStore, tmp_path: Path) -> None:
    store.put([vector(f"S{number}/USDT") for number in range(15)])
    store.close()
    connection = sqlite3.connect(tmp_path / "online.sqlite")
    assert connection.execute("SELECT count(*), max(names) FROM feature_names").fetchall() == [(1, '["a", "b"]')]
    assert connection.execute("SELECT DISTINCT length(feature_values) FROM vectors").fetchall() == [(16,)]
    connection.close()


def test_values_that_are_cut_short_are_refused(store: SqliteOnlineStore, tmp_path: Path) -> None:
    store.put([vector()])
    connection = sqlite3.connect(tmp_path / "online.sqlite")
    connection.execute("UPDATE vectors SET feature_values = substr(feature_values, 1, 8)")
    connection.commit()
    connection.close()
    with pytest.raises(OnlineStoreError, match=r"2 values of BTC/USDT in .*online\.sqlite, was 8 bytes"):
        store.get("BTC/USDT")


def test_two_readings_are_equal_by_their_bits_and_to_what_was_put_by_their_numbers(store: SqliteOnlineStore) -> None:
    def reading(value: float) -> FeatureVector:
        store.put([replace(vector(), values={"a": value, "b": 1.0})])
        found = store.get("BTC/USDT")
        assert found is not None
        return found

    assert reading(0.0) == reading(0.0)
    assert reading(0.0) != reading(-0.0)
    assert reading(-0.0) == replace(vector(), values={"a": 0.0, "b": 1.0})
    assert reading(0.0) != replace(vector(), values={"a": 0.0})
    assert reading(0.0).values != "something else"


@given(values=st.dictionaries(st.text(min_size=1), st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_values_that_are_read_are_the_mapping_that_was_put_in_every_way_a_mapping_can_be_read(
    values: dict[str, float],
) -> None:
    encoded = encode(replace(vector(), values=values), ttl_s=None)
    read = encoded.names.unpack(encoded.packed, "BTC/USDT", "a test")

    assert dict(read) == dict(read.items()) == values
    assert list(read) == list(read.keys()) == list(values)
    assert list(read.values()) == list(read.unpacked()) == list(values.values())
    assert len(read) == len(read.values()) == len(read.items()) == len(values)
    backwards = tuple(reversed(values))
    assert read.pick(backwards) == read.pick(backwards) == tuple(values[name] for name in backwards)
    with pytest.raises(KeyError):
        read.pick((*backwards, "".join(values) + "!"))


def test_the_change_token_is_another_one_after_every_put_of_whoever_and_the_same_without(
    store: SqliteOnlineStore, tmp_path: Path
) -> None:
    assert store.change_token() is None
    other, tokens = SqliteOnlineStore(tmp_path / "online.sqlite", ttl_s=60.0), []
    for number, writer in enumerate([other, store, other, other]):
        writer.put([vector(ts_ms=1_000 + number)])
        tokens.append(store.change_token())
        assert store.change_token() == tokens[-1]
        assert store.get("BTC/USDT") is not None
        assert store.change_token() == tokens[-1]
    assert None not in tokens
    assert len(set(tokens)) == 4
    assert store.expires_at_ms("BTC/USDT") is None
    other.put([replace(vector("ETH/USDT"), source_kind="exchange")])
    assert store.expires_at_ms("ETH/USDT") is not None
    for file in tmp_path.glob("online.sqlite*"):
        file.unlink()
    assert store.change_token() is None
    store.close()
    other.close()


def test_a_file_that_is_no_database_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "online.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(LakeCorruptionError, match=r"online\.sqlite.*delete it"):
        SqliteOnlineStore(path).get("BTC/USDT")


def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(HomeNotWritableError, match=r"online store .* cannot be opened"):
        SqliteOnlineStore(tmp_path).get("BTC/USDT")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    with pytest.raises(HomeNotWritableError, match="file/online"):
        SqliteOnlineStore(blocker / "online.sqlite").put([vector()])


def test_importing_the_module_loads_neither_a_data_frame_library_nor_a_client_of_a_server() -> None:
    code = (
        "import sys, levibot_core.stores.online; "
        "sys.exit(sum(name in sys.modules for name in ('polars', 'pandas', 'numpy', 'sklearn', 'redis')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
