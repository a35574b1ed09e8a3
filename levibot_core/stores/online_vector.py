"""A feature vector and the bytes that every backend of the online store keeps of it.

Values are packed as little-endian float64 in the order of their names; the names are kept once per feature set, under
an identity that travels with each vector. Which vector may be stored is decided here; where it is stored is the work of
`online_sqlite` and `online_redis`.
"""

import hashlib
import json
import math
import struct
import time
from collections.abc import ItemsView, Iterator, Mapping, Sequence, ValuesView
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from levibot_core.errors import (
    ConfigurationError,
    MissingFeatureError,
    OnlineStoreError,
    SchemaError,
    UnknownSymbolError,
)
from levibot_core.market.symbols import normalize_symbol

DEFAULT_TTL_S = 60.0
"""Seconds that a vector of a live market is kept when nobody says otherwise."""
_AGEING_SOURCE = "exchange"
# Times pass through float64 in Redis scripts; beyond this not every integer has one.
_LARGEST_TIME_MS = 2**53
_MOST_PICKED = 64
_PICKED_PLACES: dict[tuple[str, tuple[str, ...]], tuple[int, ...]] = {}
"""Places of the names that a model wants, by feature set; a process serves a handful of models."""


@dataclass(frozen=True, slots=True)
class FeatureVector:
    """Every feature of one symbol at one bar.

    Attributes:
        symbol: Inside spelling, BTC/USDT.
        ts_ms: Open time of the bar, UTC milliseconds.
        known_at_ms: Decision time (close of the bar), UTC milliseconds.
        feature_set: Version of the registry the values follow, such as `v1`.
        source_kind: `exchange`, `recorded` or `simulated`.
        close: Close of the bar, quote currency.
        values: Feature name to value; all finite.
    """

    symbol: str
    ts_ms: int
    known_at_ms: int
    feature_set: str
    source_kind: str
    close: float
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class FeatureNames:
    """The ordered names of a feature set.

    Attributes:
        identity: Version of the feature set and the SHA-256 of the names; equal exactly when both are.
        names: In the order of the packed values.
        places: Name to its place in that order.
    """

    identity: str
    names: tuple[str, ...]
    places: Mapping[str, int] = field(compare=False, repr=False)

    @classmethod
    def of(cls, feature_set: str, names: Sequence[str]) -> "FeatureNames":
        """The names of a version of the registry, in their order."""
        return _feature_names(feature_set, tuple(names))

    @classmethod
    def from_json(cls, identity: str, text: str | bytes | None, place: str) -> "FeatureNames":
        """Read back what `to_json` gave, from the store at `place`.

        Raises:
            OnlineStoreError: the store does not know the names, or they are not those that the identity was made of.
        """
        expected = f"Expected the names of the feature set {identity} in {place}"
        remedy = "Materialise feature_store/online_features, which writes them beside the vectors."
        if text is None:
            raise OnlineStoreError(f"{expected}, but it does not know them. {remedy}")
        found: FeatureNames | None
        try:
            found = cls.of(identity.rpartition(":")[0], json.loads(text))
        except (ValueError, TypeError):
            found = None
        if found is None or found.identity != identity:
            raise OnlineStoreError(
                f"Expected the names of the feature set {identity} in {place}, was altered. {remedy}"
            )
        return found

    def to_json(self) -> str:
        """The names as a JSON list."""
        return json.dumps(self.names, ensure_ascii=False)

    def unpack(self, packed: bytes, symbol: str, place: str) -> "PackedValues":
        """The values that were packed in the order of these names.

        Raises:
            OnlineStoreError: there are not as many as names.
        """
        if len(packed) != 8 * len(self.names):
            raise OnlineStoreError(
                f"Expected {len(self.names)} values of {symbol} in {place}, was {len(packed)} bytes. "
                "Materialise feature_store/online_features to replace them."
            )
        return PackedValues(self, packed)


@lru_cache(maxsize=32)
def _feature_names(feature_set: str, names: tuple[str, ...]) -> FeatureNames:
    digest = hashlib.sha256(json.dumps([feature_set, *names]).encode()).hexdigest()
    return FeatureNames(f"{feature_set}:{digest}", names, {name: place for place, name in enumerate(names)})


class PackedValues(Mapping[str, float]):
    """Values by name, unpacked all at once when the first is asked for: many readers want an age, not a value."""

    __slots__ = ("_names", "_packed", "_unpacked")

    def __init__(self, names: FeatureNames, packed: bytes) -> None:
        self._names = names
        self._packed = packed
        self._unpacked: tuple[float, ...] = ()

    def __getitem__(self, name: str) -> float:
        place = self._names.places[name]
        return self.unpacked()[place]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names.names)

    def __len__(self) -> int:
        return len(self._names.names)

    def __contains__(self, name: object) -> bool:
        return name in self._names.places

    def values(self) -> ValuesView[float]:
        """All values, in the order of the names, without looking up each by its name."""
        return _UnpackedValues(self)

    def items(self) -> ItemsView[str, float]:
        """All names with their values, without looking up each by its name."""
        return _UnpackedItems(self)

    def unpacked(self) -> tuple[float, ...]:
        """All values, in the order of the names."""
        return self._unpacked or self._unpack()

    def pick(self, names: tuple[str, ...]) -> tuple[float, ...]:
        """The values of these names, in their order, without looking up each by its name.

        Raises:
            KeyError: one of them is not here.
        """
        key = (self._names.identity, names)
        places = _PICKED_PLACES.get(key)
        if places is None:
            found = tuple(self._names.places[name] for name in names)
            if len(_PICKED_PLACES) < _MOST_PICKED:
                _PICKED_PLACES[key] = found
            places = found
        unpacked = self.unpacked()
        return tuple([unpacked[place] for place in places])

    def __eq__(self, other: object) -> bool:
        """Packed values are equal when their names and bits are; values packed and not are compared as numbers."""
        if isinstance(other, PackedValues):
            return self._names == other._names and self._packed == other._packed
        return super().__eq__(other)

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return dict, (dict(self),)

    def __repr__(self) -> str:
        return repr(dict(self))

    def _unpack(self) -> tuple[float, ...]:
        self._unpacked = struct.unpack(f"<{len(self._names.names)}d", self._packed)
        return self._unpacked


class _UnpackedValues(ValuesView[float]):
    _mapping: PackedValues

    def __iter__(self) -> Iterator[float]:
        return iter(self._mapping.unpacked())


class _UnpackedItems(ItemsView[str, float]):
    _mapping: PackedValues

    def __iter__(self) -> Iterator[tuple[str, float]]:
        return zip(self._mapping, self._mapping.unpacked(), strict=True)


@dataclass(frozen=True, slots=True)
class EncodedVector:
    """A vector that may be stored, its values packed.

    Attributes:
        packed: Little-endian float64, in the order of `names`.
        written_at_ms: When it was encoded, UTC milliseconds.
        lifetime_ms: How long it may be served from then on; None for a vector that does not age.
    """

    vector: FeatureVector
    names: FeatureNames
    packed: bytes
    written_at_ms: int
    lifetime_ms: int | None


def encode(vector: FeatureVector, ttl_s: float | None) -> EncodedVector:
    """Check a vector and pack its values.

    A vector of a live market ages for `ttl_s` seconds. One of a recorded or simulated market does not: the clock of
    that market stands still between two runs.

    Raises:
        MissingFeatureError: it has no features, or one that is NaN or infinite.
        UnknownSymbolError: its symbol is not spelled BTC/USDT.
        SchemaError: one of its times is no integer number of milliseconds within 285,000 years of 1970.
    """
    check_symbol(vector.symbol)
    values = [float(value) for value in vector.values.values()]
    if not (values and math.isfinite(vector.close) and all(map(math.isfinite, values))):
        raise MissingFeatureError(_hole(vector))
    for name, time_ms in (("ts_ms", vector.ts_ms), ("known_at_ms", vector.known_at_ms)):
        if not isinstance(time_ms, int) or abs(time_ms) > _LARGEST_TIME_MS:
            raise SchemaError(f"Expected {name} of {vector.symbol} in UTC milliseconds, was {time_ms!r}.")
    return EncodedVector(
        vector,
        FeatureNames.of(vector.feature_set, tuple(vector.values)),
        struct.pack(f"<{len(values)}d", *values),
        written_at_ms=now_ms(),
        lifetime_ms=round(ttl_s * 1000) if ttl_s is not None and vector.source_kind == _AGEING_SOURCE else None,
    )


def check_ttl(ttl_s: float | None) -> float | None:
    """The lifetime of vectors, seconds, or None for no limit.

    Raises:
        ConfigurationError: it is shorter than a millisecond.
    """
    if ttl_s is not None and not ttl_s >= 0.001:
        raise ConfigurationError(f"Expected online vectors to live for at least 0.001 s, was {ttl_s}.")
    return ttl_s


@lru_cache(maxsize=1024)
def check_symbol(symbol: str) -> None:
    """Refuse any spelling of a symbol but the inside one: two spellings would be two vectors.

    Raises:
        UnknownSymbolError: the symbol is not spelled BTC/USDT.
    """
    if normalize_symbol(symbol) != symbol:
        raise UnknownSymbolError(f"Expected a symbol spelled {normalize_symbol(symbol)}, was {symbol!r}.")


def now_ms() -> int:
    """Now, UTC milliseconds."""
    return time.time_ns() // 1_000_000


def _hole(vector: FeatureVector) -> str:
    missing = [name for name, value in {**vector.values, "close": vector.close}.items() if not math.isfinite(value)]
    return (
        f"Expected a whole feature vector of {vector.symbol} at {vector.ts_ms}, "
        f"was without {', '.join(missing) if missing else 'any feature'}. A vector is stored whole or not at all."
    )
