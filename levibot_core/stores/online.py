"""The online store: the newest feature vector of every symbol, for an inference that may not wait.

A vector is stored and returned whole or not at all; there is no default value for a feature. Two backends do the same:
one SQLite file (`online_sqlite`, the default) and a Redis server (`online_redis`). What computes vectors is
`levibot_core.features`; what predicts from them is the serving layer, which imports this module, so it stays free of
data-frame libraries.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from levibot_core.errors import MissingFeatureError, StaleFeatureError
from levibot_core.stores.online_history import DEFAULT_HISTORY_BARS, FeatureHistory
from levibot_core.stores.online_sqlite import SqliteOnlineStore
from levibot_core.stores.online_vector import DEFAULT_TTL_S, FeatureVector

if TYPE_CHECKING:
    # Brings the table schemas, and with them Polars.
    from levibot_core.stores.paths import Home

__all__ = [
    "DEFAULT_HISTORY_BARS",
    "DEFAULT_TTL_S",
    "FeatureHistory",
    "FeatureVector",
    "OnlineStore",
    "SqliteOnlineStore",
    "absence_of",
    "open_online_store",
    "require_history",
    "require_vector",
    "require_vectors",
]


class OnlineStore(Protocol):
    """What every backend of the online store does. Safe to share between threads.

    Every method raises OnlineStoreError, HomeNotWritableError or LakeCorruptionError when the store cannot be used,
    and UnknownSymbolError for a symbol that is not spelled BTC/USDT.
    """

    @property
    def place(self) -> str:
        """Where the vectors lie, in words for people; never with a password."""
        ...

    def put(self, vectors: Sequence[FeatureVector]) -> None:
        """Store the vectors, all or none; of one source, an older vector never overwrites a newer one.

        "Newer" is by bar, then by decision time. A vector of a live market is served for the store's lifetime of
        vectors from now on; an expired one counts as absent, also here.

        Raises:
            MissingFeatureError: a vector has no features, or one that is NaN or infinite; nothing is stored.
            SchemaError: a time of a vector is not in milliseconds; nothing is stored.
        """
        ...

    def get(self, symbol: str) -> FeatureVector | None:
        """The newest vector of the symbol (inside spelling), or None when there is none or it has expired."""
        ...

    def get_many(self, symbols: Sequence[str]) -> dict[str, FeatureVector]:
        """The newest vectors of these symbols in one round trip; a symbol without one is absent."""
        ...

    def history(self, symbol: str, bars: int) -> FeatureHistory | None:
        """The last bars of the symbol up to the newest vector, `bars` at most, in one round trip.

        None when there is no newest vector or it has expired. Vectors of bars before the newest may be put at any
        time and in any order; they belong to the history when they are of its source and have its names, and the
        last 64 bars are kept (or as many as the store was opened with). A newest vector of another source or with
        other names starts a history anew.
        """
        ...

    def last_known_at_ms(self, symbols: Sequence[str]) -> dict[str, int]:
        """Decision time (UTC milliseconds) of the last vector of each symbol, also when it has expired."""
        ...

    def close(self) -> None:
        """Let go of all connections. The store can be used again afterwards."""
        ...


def open_online_store(
    home: "Home",
    redis_url: str | None,
    ttl_s: float | None = DEFAULT_TTL_S,
    history_bars: int = DEFAULT_HISTORY_BARS,
) -> OnlineStore:
    """The online store of a home; nothing is read or contacted yet.

    Args:
        home: Its SQLite file is the store when there is no Redis.
        redis_url: `redis://`, `rediss://` or `unix://` address of the Redis database that belongs to this home.
        ttl_s: Seconds that a vector of a live market is served after it was put; None for no limit.
        history_bars: How many bars of every symbol are kept, for models that look at a window.

    Raises:
        ConfigurationError: the address, the lifetime or the number of bars cannot be used.
    """
    if redis_url is None:
        return SqliteOnlineStore(home.online_store, ttl_s, history_bars)
    # The client library is needed by those alone who use a server.
    from levibot_core.stores.online_redis import RedisOnlineStore

    return RedisOnlineStore(redis_url, ttl_s, history_bars)


def require_vector(
    store: OnlineStore,
    symbol: str,
    names: Sequence[str],
    *,
    now_ms: int,
    max_age_ms: int | None = None,
    feature_set: str | None = None,
) -> FeatureVector:
    """The newest vector of one symbol; see `require_vectors`."""
    vectors = require_vectors(store, [symbol], names, now_ms=now_ms, max_age_ms=max_age_ms, feature_set=feature_set)
    return vectors[symbol]


def require_vectors(
    store: OnlineStore,
    symbols: Sequence[str],
    names: Sequence[str],
    *,
    now_ms: int,
    max_age_ms: int | None = None,
    feature_set: str | None = None,
) -> dict[str, FeatureVector]:
    """The newest vectors of all these symbols, whole and fresh, or an error that names everything that is not.

    Args:
        store: Where to look.
        symbols: Inside spelling.
        names: The features the caller needs; a vector may hold more.
        now_ms: UTC milliseconds.
        max_age_ms: Longest time since the decision time of a vector, milliseconds; None for no limit.
        feature_set: The version of the registry they must follow; None for any.

    Raises:
        StaleFeatureError: nothing is missing, but vectors have expired or are older than `max_age_ms`.
        MissingFeatureError: a symbol has no vector, or one of another feature set, or one without some of `names`.
    """
    vectors = store.get_many(symbols)
    absent = [symbol for symbol in symbols if symbol not in vectors]
    stale: list[str] = []
    missing: list[str] = []
    if absent:
        missing, stale = _sort_out_absent(store, absent, now_ms)
    for symbol, vector in vectors.items():
        lacking = set(names).difference(vector.values)
        if feature_set is not None and vector.feature_set != feature_set:
            missing.append(f"{symbol} follows the set {vector.feature_set!r}, not {feature_set!r}")
        elif lacking:
            missing.append(f"{symbol} is without {', '.join(name for name in names if name in lacking)}")
        elif max_age_ms is not None and now_ms - vector.known_at_ms > max_age_ms:
            age_s = (now_ms - vector.known_at_ms) / 1000
            stale.append(f"{symbol} is {age_s:.0f} s old, and stale after {max_age_ms / 1000:.0f} s")
    if missing or stale:
        raise _refusal(missing, stale, store.place)
    return vectors


def require_history(
    store: OnlineStore,
    symbol: str,
    names: Sequence[str],
    bars: int,
    *,
    bar_ms: int,
    now_ms: int,
    max_age_ms: int | None = None,
    feature_set: str | None = None,
) -> FeatureHistory:
    """The last `bars` successive bars of one symbol, whole and fresh, or an error that says what is not.

    Args:
        store: Where to look.
        symbol: Inside spelling.
        names: The features the caller needs; the bars may have more.
        bars: Length of the window.
        bar_ms: Length of a bar, milliseconds. A bar that is missing is named, never bridged.
        now_ms: UTC milliseconds.
        max_age_ms: Longest time since the decision time of the newest vector, milliseconds; None for no limit.
        feature_set: The version of the registry the bars must follow; None for any.

    Raises:
        StaleFeatureError: the newest vector has expired or is older than `max_age_ms`.
        MissingFeatureError: there is no vector, a bar is missing, or the bars lack features or follow another set.
    """
    found = store.history(symbol, bars)
    if found is None:
        raise absence_of(store, [symbol], now_ms)
    lacking = [name for name in names if name not in found.names.places]
    hole_ms = found.first_hole_ms(bars, bar_ms)
    age_ms = now_ms - found.known_at_ms[-1]
    if feature_set is not None and found.feature_set != feature_set:
        missing = [f"{symbol} follows the set {found.feature_set!r}, not {feature_set!r}"]
    elif lacking:
        missing = [f"{symbol} is without {', '.join(lacking)}"]
    elif hole_ms is not None:
        opened = datetime.fromtimestamp(hole_ms / 1000, UTC).isoformat(timespec="seconds")
        missing = [f"{symbol} is without the bar of {opened}, one of the {bars} that are needed"]
    else:
        missing = []
    if missing:
        raise _refusal(missing, [], store.place)
    if max_age_ms is not None and age_ms > max_age_ms:
        stale = f"{symbol} is {age_ms / 1000:.0f} s old, and stale after {max_age_ms / 1000:.0f} s"
        raise _refusal([], [stale], store.place)
    return found


def absence_of(store: OnlineStore, symbols: Sequence[str], now_ms: int) -> MissingFeatureError:
    """The error that says of each of these symbols why the store has no vector of it.

    A StaleFeatureError when each had one that has expired.
    """
    missing, stale = _sort_out_absent(store, symbols, now_ms)
    return _refusal(missing, stale, store.place)


def _sort_out_absent(store: OnlineStore, absent: Sequence[str], now_ms: int) -> tuple[list[str], list[str]]:
    known: Mapping[str, int] = store.last_known_at_ms(absent)
    missing = [f"{symbol} has none" for symbol in absent if symbol not in known]
    stale = [
        f"{symbol} had some that were known {(now_ms - known[symbol]) / 1000:.0f} s ago and have expired"
        for symbol in absent
        if symbol in known
    ]
    return missing, stale


def _refusal(missing: Sequence[str], stale: Sequence[str], place: str) -> MissingFeatureError:
    kind = MissingFeatureError if missing else StaleFeatureError
    return kind(
        f"Expected whole and fresh features in {place}: {'; '.join([*missing, *stale])}. "
        "`levibot online warm-up` puts the newest there are; nothing is filled in."
    )
