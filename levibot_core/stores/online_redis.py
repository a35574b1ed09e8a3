"""The Redis backend of the online store: a hash and a sorted set per symbol, read and written by scripts.

    BTCUSDT:features     ts_ms, known_at_ms, feature_set, feature_names, source_kind, close, values, written_at_ms
    BTCUSDT:history      the last bars, scored by ts_ms: two int64 (ts_ms, known_at_ms) and float64 (close, values)
    features:names       identity of a feature set -> its names as a JSON list
    features:known_at    symbol -> decision time of its last vector, which outlives the vector
    features:history     symbol -> source and identity of the names that its history follows

A home has a Redis database of its own, since the keys do not say whose they are. What every backend promises is
written at `levibot_core.stores.online.OnlineStore`.
"""

import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from levibot_core.errors import ConfigurationError, OnlineStoreError
from levibot_core.market.symbols import compact_symbol
from levibot_core.stores.online_history import DEFAULT_HISTORY_BARS, FeatureHistory, check_history_bars
from levibot_core.stores.online_redis_scripts import GET_HISTORY, GET_MANY, PUT
from levibot_core.stores.online_vector import (
    DEFAULT_TTL_S,
    EncodedVector,
    FeatureNames,
    FeatureVector,
    check_symbol,
    check_ttl,
    encode,
)

NAMES_KEY, KNOWN_AT_KEY, HISTORY_KEY = "features:names", "features:known_at", "features:history"
# A server that hangs costs a reader at most three waits and a pause, less than the 2 s that engines wait for us.
_TIMEOUT_S = 0.5
_RETRIES = 1
_LONGEST_PAUSE_S = 0.1

_RECORD = struct.Struct("<qqd")
_Result = TypeVar("_Result")


class RedisOnlineStore:
    """See `OnlineStore`. Connections are pooled by the client library and made again after the server was away."""

    def __init__(self, url: str, ttl_s: float | None = DEFAULT_TTL_S, history_bars: int = DEFAULT_HISTORY_BARS) -> None:
        """Prepare a store; the server is not contacted yet.

        Args:
            url: `redis://[[user]:password@]host[:port][/database]`, `rediss://` for TLS, or
                `unix://[[user]:password@]/path/to/socket[?db=database]`.
            ttl_s: Seconds that a vector of a live market is served after it was put; None for no limit.
            history_bars: How many bars of every symbol are kept.

        Raises:
            ConfigurationError: the address, the lifetime or the number of bars cannot be used. The message does not
                repeat the address, which may hold a password.
        """
        self._ttl_s = check_ttl(ttl_s)
        self._history_bars = check_history_bars(history_bars)
        try:
            self._client = redis.Redis.from_url(
                url,
                socket_timeout=_TIMEOUT_S,
                socket_connect_timeout=_TIMEOUT_S,
                retry=Retry(ExponentialWithJitterBackoff(cap=_LONGEST_PAUSE_S, base=0.02), _RETRIES),
            )
        except ValueError:
            raise ConfigurationError(
                "Expected REDIS_URL such as redis://:password@host:6379/0, rediss://host or unix:///path/to/socket, "
                "was something else. Characters such as / and @ inside a password are written %2F and %40."
            ) from None
        settings = self._client.connection_pool.connection_kwargs
        server = settings.get("path") or f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"
        self._place = f"Redis at {server}, database {settings.get('db', 0)}"
        self._put = self._client.register_script(PUT)
        self._get_many = self._client.register_script(GET_MANY)
        self._get_history = self._client.register_script(GET_HISTORY)
        self._names: dict[str, FeatureNames] = {}

    @property
    def place(self) -> str:
        """See `OnlineStore.place`."""
        return self._place

    def put(self, vectors: Sequence[FeatureVector]) -> None:
        """See `OnlineStore.put`."""
        encoded = [encode(vector, self._ttl_s) for vector in vectors]
        if not encoded:
            return
        arguments: list[str | bytes | int] = [self._history_bars]
        arguments += [argument for item in encoded for argument in _arguments(item)]
        for names in {item.names.identity: item.names for item in encoded}.values():
            arguments += [names.identity, names.to_json()]
        keys = [NAMES_KEY, KNOWN_AT_KEY, HISTORY_KEY]
        for item in encoded:
            keys += [_key(item.vector.symbol), _history_key(item.vector.symbol)]
        self._ask(lambda: self._put(keys, arguments))

    def get(self, symbol: str) -> FeatureVector | None:
        """See `OnlineStore.get`."""
        return self.get_many([symbol]).get(symbol)

    def get_many(self, symbols: Sequence[str]) -> dict[str, FeatureVector]:
        """See `OnlineStore.get_many`."""
        if not symbols:
            return {}
        keys = [_key(symbol) for symbol in symbols]
        replies = self._ask(lambda: self._read(keys))
        return {
            symbol: self._from_reply(symbol, reply)
            for symbol, reply in zip(symbols, replies, strict=True)
            if reply[0] is not None
        }

    def history(self, symbol: str, bars: int) -> FeatureHistory | None:
        """See `OnlineStore.history`."""
        keys = [_key(symbol), _history_key(symbol)]
        reply = self._ask(lambda: self._get_history(keys, [bars]))
        if reply is None:
            return None
        (feature_set, identity, source_kind), records = reply
        if None in (identity, source_kind) or not records or min(map(len, records)) < _RECORD.size:
            raise OnlineStoreError(
                f"Expected bars in {_history_key(symbol)} beside {_key(symbol)} in {self._place}, was none or no bar: "
                "something else wrote them. Delete both keys, then run `levibot online warm-up`."
            )
        kept = [(*_RECORD.unpack_from(record), record[_RECORD.size :]) for record in records]
        names = self._names_of(identity.decode())
        return FeatureHistory.of(symbol, feature_set.decode(), source_kind.decode(), names, kept, self._place)

    def last_known_at_ms(self, symbols: Sequence[str]) -> dict[str, int]:
        """See `OnlineStore.last_known_at_ms`."""
        if not symbols:
            return {}
        for symbol in symbols:
            check_symbol(symbol)
        times = self._ask(lambda: self._client.hmget(KNOWN_AT_KEY, list(symbols)))
        return {symbol: int(time_ms) for symbol, time_ms in zip(symbols, times, strict=True) if time_ms is not None}

    def close(self) -> None:
        """See `OnlineStore.close`."""
        self._client.close()

    def _read(self, keys: Sequence[str]) -> Sequence[Sequence[Any]]:
        """Run the reading script on a connection of the pool.

        The client's usual way keeps books around every command, which takes a third of the time of a read. It is
        taken where it is needed: to try again, and to give the script to a server that does not know it.
        """
        pool = self._client.connection_pool
        try:
            connection: Any = pool.get_connection()
            try:
                connection.send_command("EVALSHA", self._get_many.sha, len(keys), *keys)
                replies: Sequence[Sequence[Any]] = connection.read_response()
            finally:
                pool.release(connection)
        except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.NoScriptError):
            replies = self._get_many(keys)
        return replies

    def _from_reply(self, symbol: str, reply: Sequence[Any]) -> FeatureVector:
        if None in reply:
            raise OnlineStoreError(
                f"Expected every field of {_key(symbol)} in {self._place}, was without some: something else wrote it. "
                "Delete the key, then materialise feature_store/online_features."
            )
        ts_ms, known_at_ms, feature_set, identity, source_kind, close, packed = reply
        values = self._names_of(identity.decode()).unpack(packed, symbol, self._place)
        return FeatureVector(
            symbol, int(ts_ms), int(known_at_ms), feature_set.decode(), source_kind.decode(), float(close), values
        )

    def _names_of(self, identity: str) -> FeatureNames:
        """The names of a feature set, looked up once in the life of this object."""
        if identity not in self._names:
            text = self._ask(lambda: self._client.hget(NAMES_KEY, identity))
            self._names[identity] = FeatureNames.from_json(identity, text, self._place)
        return self._names[identity]

    def _ask(self, question: Callable[[], _Result]) -> _Result:
        try:
            return question()
        except redis.RedisError as error:
            raise OnlineStoreError(f"Expected to use {self._place}, but {_in_words(error)}.") from error


@lru_cache(maxsize=1024)
def _key(symbol: str) -> str:
    check_symbol(symbol)
    return f"{compact_symbol(symbol)}:features"


@lru_cache(maxsize=1024)
def _history_key(symbol: str) -> str:
    check_symbol(symbol)
    return f"{compact_symbol(symbol)}:history"


def _arguments(item: EncodedVector) -> list[str | bytes | int]:
    """What the script takes of one vector. Python's shortest form of a close is read back to the same 64 bits."""
    vector = item.vector
    return [
        vector.symbol,
        "" if item.lifetime_ms is None else item.lifetime_ms,
        vector.ts_ms,
        vector.known_at_ms,
        vector.feature_set,
        item.names.identity,
        vector.source_kind,
        repr(float(vector.close)),
        item.packed,
        item.written_at_ms,
    ]


def _in_words(error: redis.RedisError) -> str:
    if isinstance(error, redis.AuthenticationError | redis.exceptions.NoPermissionError):
        return "it refuses the user or the password; correct REDIS_URL"
    if isinstance(error, redis.ConnectionError | redis.TimeoutError):
        return f"it does not answer ({error}); start it, correct REDIS_URL, or unset it to use the file of the home"
    if isinstance(error, redis.exceptions.OutOfMemoryError):
        return "it has no memory left; give it more, or free some"
    if isinstance(error, redis.ReadOnlyError):
        return "it is a replica that cannot be written; point REDIS_URL at its primary"
    return f"it says: {error}"
