"""The online store: whole vectors, newest wins, many threads and processes."""

import math
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import HomeNotWritableError, LakeCorruptionError, MissingFeatureError
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore


def vector(symbol: str = "BTC/USDT", ts_ms: int = 1_000, value: float = 0.5, **changes: object) -> FeatureVector:
    given_fields = {
        "symbol": symbol,
        "ts_ms": ts_ms,
        "known_at_ms": ts_ms + 300_000,
        "feature_set": "v1",
        "source_kind": "recorded",
        "close": 93_576.0,
        "values": {"a": value, "b": -1.25e-7},
    }
    return FeatureVector(**(given_fields | changes))  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> SqliteOnlineStore:
    return SqliteOnlineStore(tmp_path / "online.sqlite")


def test_a_store_that_nobody_wrote_finds_nothing_and_creates_nothing(store: SqliteOnlineStore, tmp_path: Path) -> None:
    assert store.get("BTC/USDT") is None
    assert store.get_many(["BTC/USDT", "ETH/USDT"]) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_vector_comes_back_as_it_was_put(store: SqliteOnlineStore) -> None:
    store.put([vector(), vector("ETH/USDT")])
    assert store.get("BTC/USDT") == vector()
    assert store.get_many(["ETH/USDT", "SOL/USDT"]) == {"ETH/USDT": vector("ETH/USDT")}


def test_values_keep_their_64_bits(tmp_path_factory: pytest.TempPathFactory) -> None:
    store = SqliteOnlineStore(tmp_path_factory.mktemp("bits") / "online.sqlite")

    @settings(max_examples=60, deadline=None)
    @given(st.floats(allow_nan=False, allow_infinity=False))
    def check(value: float) -> None:
        store.put([vector(value=value)])
        read = store.get("BTC/USDT")
        assert read is not None
        assert read.values["a"].hex() == value.hex()

    check()
    store.close()


def test_an_older_vector_never_overwrites_a_newer_one(store: SqliteOnlineStore) -> None:
    store.put([vector(ts_ms=2_000, value=2.0)])
    store.put([vector(ts_ms=1_000, value=1.0)])
    assert store.get("BTC/USDT") == vector(ts_ms=2_000, value=2.0)


def test_a_correction_of_the_same_bar_wins_and_an_earlier_knowledge_does_not(store: SqliteOnlineStore) -> None:
    store.put([vector(value=1.0, known_at_ms=500_000)])
    store.put([vector(value=2.0, known_at_ms=600_000)])
    store.put([vector(value=3.0, known_at_ms=400_000)])
    assert store.get("BTC/USDT") == vector(value=2.0, known_at_ms=600_000)


def test_another_source_starts_anew_even_when_its_clock_is_behind(store: SqliteOnlineStore) -> None:
    store.put([vector(ts_ms=2_000, source_kind="simulated")])
    store.put([vector(ts_ms=1_000, source_kind="recorded")])
    assert store.get("BTC/USDT") == vector(ts_ms=1_000, source_kind="recorded")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_vector_with_a_hole_is_refused_by_name_and_nothing_of_the_batch_is_stored(
    store: SqliteOnlineStore, bad: float
) -> None:
    with pytest.raises(MissingFeatureError, match=r"ETH/USDT.*without a"):
        store.put([vector(), vector("ETH/USDT", value=bad)])
    assert store.get_many(["BTC/USDT", "ETH/USDT"]) == {}


def test_a_vector_without_features_or_close_is_refused(store: SqliteOnlineStore) -> None:
    with pytest.raises(MissingFeatureError, match="without any feature"):
        store.put([vector(values={})])
    with pytest.raises(MissingFeatureError, match="without close"):
        store.put([vector(close=math.nan)])


def test_threads_share_a_store(store: SqliteOnlineStore) -> None:
    def write_then_read(number: int) -> FeatureVector | None:
        symbol = f"S{number % 4}/USDT"
        store.put([vector(symbol, ts_ms=number)])
        return store.get(symbol)

    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(write_then_read, range(80)))
    assert all(found is not None and found.ts_ms >= number for number, found in enumerate(read))
    newest = store.get_many([f"S{number}/USDT" for number in range(4)])
    assert sorted(found.ts_ms for found in newest.values()) == [76, 77, 78, 79]
    store.close()


_WRITER = """
import sys
from pathlib import Path
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
store = SqliteOnlineStore(Path(sys.argv[1]))
for ts in range(150):
    store.put([FeatureVector("BTC/USDT", ts, ts, "v1", "recorded", 1.0, {"a": float(ts), "b": float(ts)})])
"""


def test_a_reader_never_sees_half_a_vector_while_other_processes_write(
    store: SqliteOnlineStore, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "online.sqlite")]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        found = store.get("BTC/USDT")
        if found is not None:
            assert found.values["a"] == found.values["b"] == found.ts_ms >= seen
            seen = found.ts_ms
    assert [writer.communicate()[1] for writer in writers] == [b"", b""]
    last = store.get("BTC/USDT")
    assert last is not None
    assert last.ts_ms == 149
    store.close()


def test_a_closed_store_can_be_used_again(store: SqliteOnlineStore) -> None:
    store.put([vector()])
    store.close()
    assert store.get("BTC/USDT") == vector()
    store.close()


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


def test_a_file_that_is_no_database_is_named_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "online.sqlite"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(LakeCorruptionError, match=r"online\.sqlite.*delete it"):
        SqliteOnlineStore(path).get("BTC/USDT")


def test_a_put_that_fails_in_the_middle_leaves_the_store_as_it_was(store: SqliteOnlineStore) -> None:
    store.put([vector(), vector("ETH/USDT")])
    store.put([])
    with pytest.raises(OverflowError):
        store.put([vector(ts_ms=2_000), vector("ETH/USDT", ts_ms=2**70)])
    assert store.get_many(["BTC/USDT", "ETH/USDT"]) == {"BTC/USDT": vector(), "ETH/USDT": vector("ETH/USDT")}
    store.put([vector(ts_ms=3_000)])
    assert store.get("BTC/USDT") == vector(ts_ms=3_000)


def test_a_path_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(HomeNotWritableError, match=r"online store .* cannot be opened"):
        SqliteOnlineStore(tmp_path).get("BTC/USDT")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    with pytest.raises(HomeNotWritableError, match="file/online"):
        SqliteOnlineStore(blocker / "online.sqlite").put([vector()])


def test_importing_the_module_loads_no_data_frame_library() -> None:
    code = (
        "import sys, levibot_core.stores.online; "
        "sys.exit(sum(name in sys.modules for name in ('polars', 'pandas', 'numpy', 'sklearn')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
