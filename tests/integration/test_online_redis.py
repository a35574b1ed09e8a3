"""What is true of the Redis backend alone, against a real server: its keys, its round trips, and what goes wrong."""

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from levibot_core.errors import ConfigurationError, MissingFeatureError, OnlineStoreError
from levibot_core.stores.online import FeatureVector, require_vectors
from levibot_core.stores.online_redis import RedisOnlineStore
from levibot_core.stores.paths import Home

Vector = Callable[..., FeatureVector]
SYMBOLS = [f"S{number}/USDT" for number in range(15)]


@pytest.fixture
def client(redis_server: Any) -> Iterator["redis.Redis[bytes]"]:
    with redis.Redis.from_url(redis_server.url) as opened:
        yield opened


@pytest.fixture
def store(redis_server: Any) -> Iterator[RedisOnlineStore]:
    opened = RedisOnlineStore(redis_server.url)
    yield opened
    opened.close()


def test_a_vector_is_one_hash_with_the_agreed_name_and_people_can_read_all_but_its_values(
    store: RedisOnlineStore, client: Any, vector: Vector
) -> None:
    store.put([vector(), vector("ETH/USDT", source_kind="exchange")])
    found = client.hgetall("BTCUSDT:features")
    assert int(found.pop(b"written_at_ms")) > 1_600_000_000_000
    names = found.pop(b"feature_names")
    assert (
        found
        == {
            b"ts_ms": b"1000",
            b"known_at_ms": b"301000",
            b"feature_set": b"v1",
            b"source_kind": b"recorded",
            b"close": b"93576.0",
            b"values": b"\0\0\0\0\0\0\xe0?" + b"\x9a\xf8d,\xa5\xc6\x80\xbe",
        }
        or found[b"values"][:8] == b"\0\0\0\0\0\0\xe0?"
    )
    assert client.hgetall("features:names") == {names: b'["a", "b"]'}
    assert client.hgetall("features:known_at") == {b"BTC/USDT": b"301000", b"ETH/USDT": b"301000"}
    assert client.pttl("BTCUSDT:features") == -1
    assert 0 < client.pttl("ETHUSDT:features") <= 60_000


def test_fifteen_symbols_are_one_command_in_one_round_trip(
    store: RedisOnlineStore, client: Any, vector: Vector
) -> None:
    store.put([vector(symbol) for symbol in SYMBOLS])
    assert len(store.get_many(SYMBOLS)) == 15  # The script and the names of the set are known from here on.
    client.config_resetstat()
    assert len(store.get_many(SYMBOLS)) == 15
    calls = {name: facts["calls"] for name, facts in client.info("commandstats").items()}
    ours = {name: number for name, number in calls.items() if "config" not in name}
    # Fifteen hashes, read by the server within one command of ours.
    assert ours == {"cmdstat_evalsha": 1, "cmdstat_hmget": 15}
    client.config_resetstat()
    store.get_many(SYMBOLS)
    # Every read of the server from a socket: our command, and the question of this line.
    assert client.info("stats")["total_reads_processed"] <= 2


def test_a_window_is_one_command_in_one_round_trip(store: RedisOnlineStore, client: Any, vector: Vector) -> None:
    store.put([vector(ts_ms=300_000 * bar) for bar in range(70)])
    assert client.zcard("BTCUSDT:history") == 64
    assert store.history("BTC/USDT", 60) is not None  # The script and the names of the set are known from here on.
    client.config_resetstat()
    found = store.history("BTC/USDT", 60)
    assert found is not None
    assert len(found) == 60
    calls = {name: facts["calls"] for name, facts in client.info("commandstats").items()}
    assert {name: calls[name] for name in calls if "config" not in name} == {
        "cmdstat_evalsha": 1,
        "cmdstat_hmget": 1,
        "cmdstat_zrange": 1,
    }


def test_a_history_that_something_else_wrote_is_refused_with_the_remedy(
    store: RedisOnlineStore, client: Any, vector: Vector
) -> None:
    store.put([vector()])
    client.zadd("BTCUSDT:history", {b"0" * 25: 5_000})
    with pytest.raises(OnlineStoreError, match=r"Expected 2 values in each bar of BTC/USDT .* warm-up"):
        store.history("BTC/USDT", 2)
    client.delete("BTCUSDT:history")
    with pytest.raises(OnlineStoreError, match=r"BTCUSDT:history beside BTCUSDT:features .* Delete both keys"):
        store.history("BTC/USDT", 2)


def test_a_restarted_server_is_found_empty_and_filled_again_by_the_same_store(
    start_redis: Callable[..., Any], vector: Vector
) -> None:
    server = start_redis()
    store = RedisOnlineStore(server.url)
    store.put([vector()])
    assert store.get("BTC/USDT") == vector()
    server.restart()
    assert store.get("BTC/USDT") is None
    with pytest.raises(MissingFeatureError, match="BTC/USDT has none"):
        require_vectors(store, ["BTC/USDT"], ["a"], now_ms=0)
    server.restart()
    store.put([vector()])
    assert store.get("BTC/USDT") == vector()
    assert RedisOnlineStore(server.url).get("BTC/USDT") == vector()
    server.stop()


def test_a_server_that_is_gone_is_an_error_that_says_what_to_do(
    start_redis: Callable[..., Any], vector: Vector
) -> None:
    server = start_redis()
    store = RedisOnlineStore(server.url)
    store.put([vector()])
    server.stop()
    for call in (lambda: store.get("BTC/USDT"), lambda: store.put([vector()]), lambda: store.last_known_at_ms(SYMBOLS)):
        with pytest.raises(OnlineStoreError, match=r"Redis at .*redis\.sock.* does not answer.*start it"):
            call()
    server.start()
    assert store.get("BTC/USDT") is None


def test_a_server_that_hangs_is_given_up(start_redis: Callable[..., Any], vector: Vector) -> None:
    server = start_redis()
    store = RedisOnlineStore(server.url)
    store.put([vector()])
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(OnlineStoreError, match="does not answer"):
            store.get("BTC/USDT")
    finally:
        os.kill(server.pid, signal.SIGCONT)
    assert store.get("BTC/USDT") == vector()
    server.stop()


def test_a_wrong_password_is_refused_in_words_that_hold_no_password(
    start_redis: Callable[..., Any], vector: Vector
) -> None:
    server = start_redis("--requirepass", "right")
    path = server.url.removeprefix("unix://")
    right = RedisOnlineStore(f"unix://:right@{path}")
    right.put([vector()])
    assert right.get("BTC/USDT") == vector()
    for url in (f"unix://:wr0ng-s3cret@{path}", f"unix://user:wr0ng-s3cret@{path}", server.url):
        store = RedisOnlineStore(url)
        with pytest.raises(OnlineStoreError, match="refuses the user or the password") as refused:
            store.get("BTC/USDT")
        shown = "".join(traceback.format_exception(refused.value)) + store.place + repr(store)
        assert "wr0ng-s3cret" not in shown
    server.stop()


@pytest.mark.parametrize(
    "url", ["http://:s3cret@host", "redis//:s3cret@host", "redis://:s3cret@host:port", "redis://:s3cret@host:99999", ""]
)
def test_an_address_that_is_none_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ConfigurationError, match="Expected REDIS_URL") as refused:
        RedisOnlineStore(url)
    assert "s3cret" not in "".join(traceback.format_exception(refused.value))


def test_a_store_says_where_it_is_without_its_password() -> None:
    assert RedisOnlineStore("redis://user:s3cret@example.test:6380/2").place == (
        "Redis at example.test:6380, database 2"
    )
    assert RedisOnlineStore("unix://:s3cret@/run/redis.sock?db=3").place == "Redis at /run/redis.sock, database 3"


def test_a_server_that_forgot_its_scripts_is_taught_them_again(
    store: RedisOnlineStore, client: Any, vector: Vector
) -> None:
    store.put([vector()])
    client.script_flush()
    assert store.get("BTC/USDT") == vector()
    client.script_flush()
    store.put([vector(ts_ms=2_000)])
    assert store.get("BTC/USDT") == vector(ts_ms=2_000)


def test_a_key_that_something_else_wrote_is_refused_before_anything_is_stored(
    store: RedisOnlineStore, client: Any, vector: Vector
) -> None:
    client.set("ETHUSDT:features", "something else")
    with pytest.raises(OnlineStoreError, match="WRONGTYPE"):
        store.put([vector(), vector("ETH/USDT")])
    assert client.keys() == [b"ETHUSDT:features"]


def test_a_hash_that_lost_a_field_or_a_value_is_refused_and_replaced_by_the_next_vector(
    store: RedisOnlineStore, client: Any, vector: Vector
) -> None:
    store.put([vector()])
    client.hdel("BTCUSDT:features", "close")
    with pytest.raises(OnlineStoreError, match=r"BTCUSDT:features .* was without some"):
        store.get("BTC/USDT")
    store.put([vector()])
    client.hset("BTCUSDT:features", "values", b"12345678")
    with pytest.raises(OnlineStoreError, match=r"2 values of BTC/USDT in Redis at .* was 8 bytes"):
        store.get("BTC/USDT")
    client.hdel("BTCUSDT:features", "ts_ms")
    store.put([vector()])
    assert store.get("BTC/USDT") == vector()


def test_the_command_line_shows_an_error_and_no_traceback(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from levibot_pipelines.cli.main import main

    monkeypatch.setenv("LEVIBOT_HOME", str(home.root))
    monkeypatch.setenv("REDIS_URL", "redis://:s3cret@127.0.0.1:1/0")
    monkeypatch.setattr(sys, "argv", ["levibot", "online", "show"])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 1
    assert "Error: Expected to use Redis at 127.0.0.1:1, database 0, but it does not answer" in printed.err
    assert "Traceback" not in printed.err
    assert "s3cret" not in printed.out + printed.err
