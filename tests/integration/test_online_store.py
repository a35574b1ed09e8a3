"""What every backend of the online store does, shown on each: a SQLite file and a real Redis server."""

import itertools
import math
import pickle
import re
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import (
    ConfigurationError,
    MissingFeatureError,
    OnlineStoreError,
    SchemaError,
    StaleFeatureError,
    UnknownSymbolError,
)
from levibot_core.stores.online import (
    FeatureVector,
    OnlineStore,
    absence_of,
    open_online_store,
    require_history,
    require_vector,
    require_vectors,
)
from levibot_core.stores.paths import Home

Vector = Callable[..., FeatureVector]
OpenStore = Callable[..., OnlineStore]

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture(params=["sqlite", "redis"])
def redis_url(request: pytest.FixtureRequest) -> str | None:
    """The address of an empty Redis server, or None for the file of the home."""
    return str(request.getfixturevalue("redis_server").url) if request.param == "redis" else None


@pytest.fixture
def open_store(redis_url: str | None, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the same store again and again, as other processes would; keyword arguments as `open_online_store`."""
    opened: list[OnlineStore] = []

    def make(**arguments: Any) -> OnlineStore:
        opened.append(open_online_store(Home.at(tmp_path), redis_url, **arguments))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: OpenStore) -> OnlineStore:
    return open_store()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "still not true after 10 s"
        time.sleep(0.02)


def test_a_store_that_nobody_wrote_finds_nothing(store: OnlineStore) -> None:
    assert store.get("BTC/USDT") is None
    assert store.get_many(["BTC/USDT", "ETH/USDT"]) == {}
    assert store.get_many([]) == store.last_known_at_ms([]) == {}
    assert store.last_known_at_ms(["BTC/USDT"]) == {}


def test_a_vector_comes_back_as_it_was_put(store: OnlineStore, vector: Vector) -> None:
    store.put([])
    store.put([vector(), vector("ETH/USDT", ts_ms=7)])
    assert store.get("BTC/USDT") == vector()
    assert store.get_many(["ETH/USDT", "SOL/USDT"]) == {"ETH/USDT": vector("ETH/USDT", ts_ms=7)}
    assert store.last_known_at_ms(["ETH/USDT", "SOL/USDT"]) == {"ETH/USDT": 300_007}


def test_every_finite_number_keeps_its_64_bits_under_every_name(store: OnlineStore, vector: Vector) -> None:
    @settings(max_examples=60, deadline=None)
    @given(st.dictionaries(st.text(min_size=1, max_size=8), NUMBERS, min_size=1, max_size=12), NUMBERS)
    def check(values: dict[str, float], close: float) -> None:
        store.put([vector(values=values, close=close)])
        found = store.get("BTC/USDT")
        assert found is not None
        assert list(found.values) == list(values)
        bits = [struct.pack("<d", value) for value in values.values()]
        assert [struct.pack("<d", found.values[name]) for name in values] == bits
        assert found.close == close

    check()


def test_what_was_read_is_a_plain_mapping_that_other_processes_can_be_given(store: OnlineStore, vector: Vector) -> None:
    store.put([vector()])
    found = store.get("BTC/USDT")
    assert found is not None
    assert dict(found.values) == {"a": 0.5, "b": -1.25e-7}
    assert (len(found.values), "a" in found.values, "c" in found.values) == (2, True, False)
    assert (found.values.get("c"), repr(found.values)) == (None, "{'a': 0.5, 'b': -1.25e-07}")
    with pytest.raises(KeyError):
        found.values["c"]
    again = pickle.loads(pickle.dumps(found))  # noqa: S301 - our own bytes
    assert again == vector()
    assert type(again.values) is dict


def test_whatever_the_order_of_arrival_the_newest_bar_stands_and_of_one_bar_the_latest_knowledge(
    open_store: OpenStore, vector: Vector
) -> None:
    store = open_store()
    versions = [(1, 10), (1, 20), (2, 15), (2, 16)]
    for symbol, order in enumerate(itertools.permutations(versions)):
        name = f"S{symbol}/USDT"
        for ts_ms, known_at_ms in order:
            store.put([vector(name, ts_ms=ts_ms, known_at_ms=known_at_ms, value=ts_ms * 100.0 + known_at_ms)])
        assert store.get(name) == vector(name, ts_ms=2, known_at_ms=16, value=216.0)
        assert store.last_known_at_ms([name]) == {name: 16}


def test_of_one_batch_too_the_newest_stands(store: OnlineStore, vector: Vector) -> None:
    store.put([vector(ts_ms=2), vector(ts_ms=3, value=3.0), vector(ts_ms=1)])
    assert store.get("BTC/USDT") == vector(ts_ms=3, value=3.0)


def test_the_same_bar_can_be_put_again_with_other_values(store: OnlineStore, vector: Vector) -> None:
    store.put([vector(value=1.0)])
    store.put([vector(value=2.0)])
    assert store.get("BTC/USDT") == vector(value=2.0)


def test_another_source_starts_anew_even_when_its_clock_is_behind(store: OnlineStore, vector: Vector) -> None:
    store.put([vector(ts_ms=2_000, source_kind="simulated")])
    store.put([vector(ts_ms=1_000, source_kind="recorded")])
    assert store.get("BTC/USDT") == vector(ts_ms=1_000, source_kind="recorded")


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_vector_with_a_hole_is_refused_by_name_and_nothing_of_the_batch_is_stored(
    store: OnlineStore, vector: Vector, bad: float
) -> None:
    with pytest.raises(MissingFeatureError, match=r"ETH/USDT.*without a\."):
        store.put([vector(), vector("ETH/USDT", value=bad)])
    assert store.get_many(["BTC/USDT", "ETH/USDT"]) == {}


def test_a_vector_without_features_or_close_is_refused(store: OnlineStore, vector: Vector) -> None:
    with pytest.raises(MissingFeatureError, match="without any feature"):
        store.put([vector(values={})])
    with pytest.raises(MissingFeatureError, match="without close"):
        store.put([vector(close=math.nan)])


@pytest.mark.parametrize("changes", [{"ts_ms": 2**70}, {"known_at_ms": -(2**60)}, {"ts_ms": 1.5}])
def test_a_time_that_is_none_is_refused_and_leaves_the_store_as_it_was(
    store: OnlineStore, vector: Vector, changes: dict[str, object]
) -> None:
    store.put([vector()])
    with pytest.raises(SchemaError, match="ETH/USDT in UTC milliseconds"):
        store.put([vector(ts_ms=2_000), vector("ETH/USDT", **changes)])
    assert store.get_many(["BTC/USDT", "ETH/USDT"]) == {"BTC/USDT": vector()}


@pytest.mark.parametrize("spelling", ["BTCUSDT", "btc/usdt", "BTC-USDT", "nonsense"])
def test_another_spelling_of_a_symbol_is_refused_rather_than_kept_as_a_second_one(
    store: OnlineStore, vector: Vector, spelling: str
) -> None:
    for call in (
        lambda: store.put([vector(spelling)]),
        lambda: store.get(spelling),
        lambda: store.last_known_at_ms([spelling]),
    ):
        with pytest.raises(UnknownSymbolError):
            call()


def test_a_live_vector_expires_is_then_reported_and_no_longer_stands_in_the_way(
    open_store: OpenStore, vector: Vector
) -> None:
    store = open_store(ttl_s=0.2)
    store.put([vector(ts_ms=2_000, source_kind="exchange"), vector("ETH/USDT", source_kind="recorded")])
    eventually(lambda: store.get("BTC/USDT") is None)
    assert store.get_many(["BTC/USDT", "ETH/USDT"]) == {"ETH/USDT": vector("ETH/USDT")}
    assert store.last_known_at_ms(["BTC/USDT"]) == {"BTC/USDT": 302_000}
    with pytest.raises(StaleFeatureError, match=r"BTC/USDT had some that were known 8 s ago and have expired"):
        require_vectors(store, ["BTC/USDT", "ETH/USDT"], ["a"], now_ms=310_000)

    patient = open_store(ttl_s=60)
    older = vector(ts_ms=1_000, source_kind="exchange")
    patient.put([older])
    assert store.get("BTC/USDT") == patient.get("BTC/USDT") == older


def test_a_new_source_or_lifetime_replaces_the_expiry_of_the_vector_before(
    open_store: OpenStore, vector: Vector
) -> None:
    hasty = open_store(ttl_s=0.2)
    live = [vector(symbol, source_kind="exchange") for symbol in ("BTC/USDT", "ETH/USDT", "SOL/USDT")]
    hasty.put(live)
    open_store(ttl_s=None).put([live[1]])
    hasty.put([vector("SOL/USDT", source_kind="recorded")])
    eventually(lambda: hasty.get("BTC/USDT") is None)
    found = hasty.get_many(["BTC/USDT", "ETH/USDT", "SOL/USDT"])
    assert found == {"ETH/USDT": live[1], "SOL/USDT": vector("SOL/USDT", source_kind="recorded")}


@pytest.mark.parametrize("ttl_s", [0.0, -1.0, math.nan])
def test_a_lifetime_that_is_none_is_refused(open_store: OpenStore, ttl_s: float) -> None:
    with pytest.raises(ConfigurationError, match=r"at least 0\.001 s"):
        open_store(ttl_s=ttl_s)


def test_a_requirement_is_met_whole_or_refused_with_the_name_of_everything_that_is_not(
    store: OnlineStore, vector: Vector
) -> None:
    old, other = vector("SOL/USDT", known_at_ms=100_000), vector("XRP/USDT", feature_set="v2", known_at_ms=400_000)
    fresh = vector(known_at_ms=400_000)
    store.put([fresh, old, other])
    assert require_vectors(store, ["BTC/USDT"], ["b", "a"], now_ms=500_000, max_age_ms=100_000) == {"BTC/USDT": fresh}
    assert require_vector(store, "BTC/USDT", [], now_ms=500_000, feature_set="v1") == fresh

    with pytest.raises(MissingFeatureError) as refused:
        require_vectors(
            store,
            ["BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT"],
            ["a", "c", "d"],
            now_ms=500_000,
            max_age_ms=100_000,
            feature_set="v1",
        )
    assert type(refused.value) is MissingFeatureError
    for part in (
        store.place,
        "BTC/USDT is without c, d;",
        "ETH/USDT has none;",
        "SOL/USDT is without c, d;",
        "XRP/USDT follows the set 'v2', not 'v1'",
    ):
        assert part in str(refused.value)

    with pytest.raises(StaleFeatureError, match="SOL/USDT is 400 s old, and stale after 100 s"):
        require_vectors(store, ["BTC/USDT", "SOL/USDT"], ["a"], now_ms=500_000, max_age_ms=100_000)
    assert "ETH/USDT has none" in str(absence_of(store, ["ETH/USDT"], 500_000))


def test_feature_sets_stand_side_by_side_and_each_is_read_by_its_own_names(
    open_store: OpenStore, vector: Vector
) -> None:
    reader, writer = open_store(), open_store()
    vectors = {
        "BTC/USDT": vector(values={"a": 1.0, "b": 2.0}),
        "ETH/USDT": vector("ETH/USDT", values={"b": 3.0, "a": 4.0}),
        "SOL/USDT": vector("SOL/USDT", feature_set="v2", values={"a": 5.0, "c": 6.0, "b": 7.0}),
    }
    writer.put(list(vectors.values()))
    assert reader.get_many(list(vectors)) == vectors
    renamed = vector(ts_ms=2_000, values={"x": 1.0, "y": 2.0})
    writer.put([renamed])
    assert reader.get("BTC/USDT") == renamed


@pytest.fixture
def damage_names(redis_url: str | None, tmp_path: Path) -> Callable[[str | None], None]:
    """Replaces the stored names of every feature set by a text, or removes them."""

    def on_server(text: str | None) -> None:
        assert redis_url is not None
        with redis.Redis.from_url(redis_url) as client:
            for identity in client.hkeys("features:names"):
                if text is None:
                    client.hdel("features:names", identity)
                else:
                    client.hset("features:names", identity, text)

    def in_file(text: str | None) -> None:
        with closing(sqlite3.connect(Home.at(tmp_path).online_store)) as connection, connection:
            if text is None:
                connection.execute("DELETE FROM feature_names")
            else:
                connection.execute("UPDATE feature_names SET names = ?", (text,))

    return in_file if redis_url is None else on_server


@pytest.mark.parametrize("text", [None, '["b", "a"]', "[1]", "no JSON"])
def test_a_vector_whose_names_are_lost_or_altered_is_refused_until_it_is_put_again(
    open_store: OpenStore, vector: Vector, damage_names: Callable[[str | None], None], text: str | None
) -> None:
    writer = open_store()
    writer.put([vector()])
    damage_names(text)
    with pytest.raises(OnlineStoreError, match=r"names of the feature set v1:[0-9a-f]{64}"):
        open_store().get("BTC/USDT")
    writer.put([vector()])
    assert open_store().get("BTC/USDT") == vector()


def test_threads_share_a_store(store: OnlineStore, vector: Vector) -> None:
    def write_then_read(number: int) -> FeatureVector | None:
        symbol = f"S{number % 4}/USDT"
        store.put([vector(symbol, ts_ms=number)])
        return store.get(symbol)

    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(write_then_read, range(80)))
    assert all(found is not None and found.ts_ms >= number for number, found in enumerate(read))
    newest = store.get_many([f"S{number}/USDT" for number in range(4)])
    assert sorted(found.ts_ms for found in newest.values()) == [76, 77, 78, 79]


_WRITER = """
import sys
from pathlib import Path
from levibot_core.stores.online import FeatureVector, open_online_store
from levibot_core.stores.paths import Home
store = open_online_store(Home.at(Path(sys.argv[1])), sys.argv[2] or None)
for ts in range(150):
    values = {f"f{number}": float(ts) for number in range(40)}
    store.put([FeatureVector("BTC/USDT", ts, ts, "v1", "recorded", float(ts), values)])
"""


def test_a_reader_never_sees_half_a_vector_nor_time_run_backwards_while_other_processes_write(
    store: OnlineStore, redis_url: str | None, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", _WRITER, str(tmp_path), redis_url or ""]
    writers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        found = store.get("BTC/USDT")
        if found is not None:
            assert set(found.values.values()) == {float(found.ts_ms)} == {found.close}
            assert found.ts_ms >= seen
            seen = found.ts_ms
        time.sleep(0.001)
    assert [writer.communicate()[1] for writer in writers] == [b"", b""]
    last = store.get("BTC/USDT")
    assert last is not None
    assert last.ts_ms == 149


def test_a_closed_store_can_be_used_again(store: OnlineStore, vector: Vector) -> None:
    store.put([vector()])
    store.close()
    assert store.get("BTC/USDT") == vector()


BAR_MS = 300_000
"""What the fixture `vector` puts between the open and the decision time of a bar."""


def bars_of(vector: Vector, places: list[int], **changes: object) -> list[FeatureVector]:
    """A vector at each of these places of a grid of bars, its value the place."""
    return [vector(ts_ms=place * BAR_MS, value=float(place), **changes) for place in places]


def test_a_history_is_the_last_bars_oldest_first_with_every_bit(store: OnlineStore, vector: Vector) -> None:
    assert store.history("BTC/USDT", 3) is None
    bars = bars_of(vector, [1, 2, 3, 4], close=math.pi)
    store.put([*bars, vector("ETH/USDT", ts_ms=9 * BAR_MS)])
    found = store.history("BTC/USDT", 3)
    assert found is not None
    assert (found.ts_ms, found.closes) == ((2 * BAR_MS, 3 * BAR_MS, 4 * BAR_MS), (math.pi,) * 3)
    assert found.vectors == tuple(bars[1:])
    assert found.newest == store.get("BTC/USDT") == bars[-1]
    assert found.matrix(["b", "a"]).tolist() == [[-1.25e-7, 2.0], [-1.25e-7, 3.0], [-1.25e-7, 4.0]]
    assert len(found) == len(found.matrix([])) == 3
    with pytest.raises(MissingFeatureError, match="BTC/USDT, was without c"):
        found.matrix(["a", "c"])


def test_whatever_the_order_of_arrival_a_history_holds_the_last_bars_as_they_were_known_last(
    open_store: OpenStore, vector: Vector
) -> None:
    store = open_store(history_bars=4)
    arrivals = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 2)), min_size=1, max_size=12, unique=True)
    symbols = itertools.count()

    @settings(max_examples=25, deadline=None)
    @given(arrivals, st.booleans())
    def check(order: list[tuple[int, int]], at_once: bool) -> None:
        symbol = f"S{next(symbols)}/USDT"
        vectors = [
            vector(symbol, ts_ms=bar * BAR_MS, known_at_ms=(bar + 1) * BAR_MS + later, value=10.0 * bar + later)
            for bar, later in order
        ]
        for batch in [vectors] if at_once else [[one] for one in vectors]:
            store.put(batch)
        last = {bar: max(later for other, later in order if other == bar) for bar, _ in order}
        # A bar that was older than all that were kept when it came is not waited for.
        kept: list[int] = []
        for bar in dict.fromkeys(bar for bar, _ in order):
            kept = sorted({*kept, bar})
            kept = kept if at_once else kept[-4:]
        found = store.history(symbol, 10)
        assert found is not None
        expected = [10.0 * bar + last[bar] for bar in kept[-4:]]
        assert found.matrix(["a"])[:, 0].tolist() == expected

    check()


def test_a_newest_vector_of_another_source_or_names_starts_a_history_anew_and_older_ones_of_others_stay_out(
    store: OnlineStore, vector: Vector
) -> None:
    def values() -> list[float]:
        found = store.history("BTC/USDT", 9)
        assert found is not None
        return [float(value) for value in found.matrix(["a"])[:, 0]]

    store.put(bars_of(vector, [5, 6], source_kind="simulated"))
    store.put(bars_of(vector, [1, 2]))
    assert values() == [1.0, 2.0]
    store.put(bars_of(vector, [3], values={"a": 3.0}))
    assert values() == [3.0]
    store.put(bars_of(vector, [2], feature_set="v2"))
    assert values() == [3.0]
    store.put(bars_of(vector, [2], values={"a": 2.0}))
    assert values() == [2.0, 3.0]


def test_a_history_goes_with_its_newest_vector_and_comes_back_with_the_next(
    open_store: OpenStore, vector: Vector
) -> None:
    hasty, patient = open_store(ttl_s=0.2), open_store(ttl_s=60)
    hasty.put(bars_of(vector, [1, 2, 3], source_kind="exchange"))
    eventually(lambda: hasty.history("BTC/USDT", 3) is None)
    with pytest.raises(StaleFeatureError, match=r"BTC/USDT had some that were known .* ago and have expired"):
        require_history(hasty, "BTC/USDT", ["a"], 3, bar_ms=BAR_MS, now_ms=5 * BAR_MS)
    patient.put(bars_of(vector, [4], source_kind="exchange"))
    found = hasty.history("BTC/USDT", 9)
    assert found is not None
    assert found.matrix(["a"])[:, 0].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_a_writer_that_begins_before_what_expired_leaves_no_later_bars_behind(
    open_store: OpenStore, vector: Vector
) -> None:
    hasty, patient = open_store(ttl_s=0.2), open_store(ttl_s=60)
    hasty.put(bars_of(vector, [1, 2, 3], source_kind="exchange"))
    eventually(lambda: hasty.get("BTC/USDT") is None)
    patient.put(bars_of(vector, [2], source_kind="exchange"))
    found = patient.history("BTC/USDT", 9)
    assert found is not None
    assert found.ts_ms == (BAR_MS, 2 * BAR_MS)


def test_a_window_is_whole_and_fresh_or_refused_with_the_name_of_what_is_not(
    store: OnlineStore, vector: Vector
) -> None:
    def require(symbol: str = "BTC/USDT", names: tuple[str, ...] = ("a",), bars: int = 3, **limits: object) -> object:
        given: dict[str, Any] = {"bar_ms": BAR_MS, "now_ms": 9 * BAR_MS, **limits}
        return require_history(store, symbol, names, bars, **given)

    store.put(bars_of(vector, [2, 4, 5, 6]))
    assert require() == store.history("BTC/USDT", 3)
    for arguments, message in (
        ({"bars": 4}, "BTC/USDT is without the bar of 1970-01-01T00:15:00+00:00, one of the 4 that are needed"),
        ({"bars": 6}, "BTC/USDT is without the bar of 1970-01-01T00:15:00"),
        ({"symbol": "ETH/USDT"}, "ETH/USDT has none"),
        ({"names": ("a", "c", "d")}, "BTC/USDT is without c, d"),
        ({"feature_set": "v2"}, "BTC/USDT follows the set 'v1', not 'v2'"),
    ):
        with pytest.raises(MissingFeatureError, match=re.escape(message)) as refused:
            require(**arguments)  # type: ignore[arg-type]
        assert store.place in str(refused.value)
    store.put(bars_of(vector, [3]))
    with pytest.raises(MissingFeatureError, match="without the bar of 1970-01-01T00:05:00"):
        require(bars=6)
    assert require(bars=5, max_age_ms=2 * BAR_MS) is not None
    with pytest.raises(StaleFeatureError, match="BTC/USDT is 600 s old, and stale after 599 s"):
        require(max_age_ms=599_000)


def test_a_history_of_no_bars_is_refused(open_store: OpenStore) -> None:
    with pytest.raises(ConfigurationError, match="at least 1 bar, was 0"):
        open_store(history_bars=0)
