"""Forecasts that were computed already: in this process, and for all replicas in Redis.

A forecast is a function of the model's files and of the features alone, so it is kept under both and never grows
stale: a promotion brings other files, a newer bar or a correction other features. What depends on the clock (age,
tradable, abstain) is worked out for every answer, see `levibot_serving.predictor`.

The first level keeps the newest forecast of every model and symbol. The second pays for models that take longer than a
round trip, and for replicas that start; it forgets after a minute, and a server that does not answer is a miss.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, cast

import numpy as np
import orjson
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from levibot_core.models.ensemble_bundle import MemberForecast
from levibot_core.models.uncertainty import ReturnOutlook
from levibot_core.resilience import CircuitOpenError, Dependency, Patience
from levibot_core.stores.online_vector import FeatureVector
from levibot_serving.features import NewestFeatures
from levibot_serving.metrics import Metrics
from levibot_serving.predictor import Forecast
from levibot_serving.served import ServedModel

SHARED_LIFETIME_S: Final = 60
_Key = tuple[str, int, str]
_PREFIX = "levibot:forecast:2:"
_TIMEOUT_S = 0.05


class ForecastCache:
    """The first level: forecasts of this process. Safe to share between threads."""

    def __init__(self, limit: int, metrics: Metrics) -> None:
        """An empty cache of `limit` models times symbols; 0 keeps nothing."""
        self._limit = limit
        self._metrics = metrics
        self._lock = threading.Lock()
        self._entries: OrderedDict[_Key, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, served: ServedModel, symbol: str, newest: NewestFeatures) -> Forecast | None:
        """The forecast of exactly this model from exactly these features, or None."""
        entry = self._entries.get(_key(served, symbol))
        # The bundle is what counts: a registry made anew counts its versions from 1 again.
        found = entry is not None and entry.served.bundle is served.bundle and _are_equal(entry.newest, newest)
        self._metrics.count_cache("forecast", hit=found)
        return entry.forecast if found and entry is not None else None

    def put(self, served: ServedModel, symbol: str, newest: NewestFeatures, forecast: Forecast) -> None:
        """Keep a forecast in place of the symbol's earlier one of that model."""
        if not self._limit:
            return
        key = _key(served, symbol)
        with self._lock:
            self._entries[key] = _Entry(served, newest, forecast)
            self._entries.move_to_end(key)
            while len(self._entries) > self._limit:
                self._entries.popitem(last=False)


class SharedForecasts:
    """The second level: forecasts that all replicas share, in the Redis database of the home."""

    def __init__(self, url: str, metrics: Metrics) -> None:
        """Prepare it; the server is not contacted yet."""
        self._metrics = metrics
        self._client = redis.Redis.from_url(
            url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
        # Asking again takes longer than computing.
        patience = Patience(attempts=1, open_after=3, open_seconds=5.0)
        self._dependency = Dependency("forecast_cache", (redis.RedisError,), metrics, patience)

    def get(self, served: ServedModel, symbol: str, newest: NewestFeatures) -> Forecast | None:
        """The forecast of this model from these features, if a replica put it; blocks for a round trip."""
        key = shared_key(served, symbol, newest)
        try:
            content = cast("bytes | None", self._dependency.call(lambda: self._client.get(key)))
        except (redis.RedisError, CircuitOpenError):
            content = None
        forecast = None if content is None else _from_json(content)
        self._metrics.count_cache("shared_forecast", hit=forecast is not None)
        return forecast

    def put(self, served: ServedModel, symbol: str, newest: NewestFeatures, forecast: Forecast) -> None:
        """Share a forecast; one that cannot be shared is computed again by the others."""
        key, content = shared_key(served, symbol, newest), orjson.dumps(asdict(forecast))
        try:
            self._dependency.call(lambda: self._client.set(key, content, ex=SHARED_LIFETIME_S))
        except (redis.RedisError, CircuitOpenError):
            return

    def close(self) -> None:
        """Let go of all connections."""
        self._client.close()


def shared_key(served: ServedModel, symbol: str, newest: NewestFeatures) -> str:
    """Where replicas find a forecast: by the hashes of the model's files, the symbol, and every bit of the features."""
    vector, digest = newest.vector, hashlib.sha256()
    for name, of_file in sorted(served.bundle.manifest.files.items()):
        digest.update(f"{name}\n{of_file}\n".encode())
    digest.update(orjson.dumps([symbol, vector.ts_ms, vector.known_at_ms, vector.feature_set, vector.source_kind]))
    digest.update(np.array([vector.close, *vector.values.values()], dtype="<f8").tobytes())
    digest.update(orjson.dumps(list(vector.values)))
    if newest.bars is not None:
        digest.update(np.ascontiguousarray(newest.bars, dtype="<f8").tobytes())
    return f"{_PREFIX}{served.record.key}:{vector.known_at_ms}:{digest.hexdigest()}"


@dataclass(frozen=True, slots=True)
class _Entry:
    served: ServedModel
    newest: NewestFeatures
    forecast: Forecast


def _key(served: ServedModel, symbol: str) -> _Key:
    return served.record.name, served.version, symbol


def _are_equal(one: NewestFeatures, other: NewestFeatures) -> bool:
    """Whether both hold the same features, bit by bit; most often they are the same object."""
    if one is other:
        return True
    if not _same_vector(one.vector, other.vector):
        return False
    if one.bars is None or other.bars is None:
        return one.bars is other.bars
    return one.bars.shape == other.bars.shape and one.bars.tobytes() == other.bars.tobytes()


def _same_vector(one: FeatureVector, other: FeatureVector) -> bool:
    return one is other or one == other


def _from_json(content: bytes) -> Forecast | None:
    """What `put` wrote, every number with the same bits; None for anything else."""
    try:
        found: Mapping[str, Any] = orjson.loads(content)
        bounds, outlook = found["bounds"], found["outlook"]
        volatility, unpaid, novelty = found["volatility"], found["unpaid"], found["novelty"]
        return Forecast(
            probability=float(found["probability"]),
            bounds=None if bounds is None else (float(bounds[0]), float(bounds[1])),
            members=tuple(MemberForecast(**member) for member in found["members"]),
            outlook=None if outlook is None else ReturnOutlook(**outlook),
            volatility=None if volatility is None else float(volatility),
            unpaid=None if unpaid is None else str(unpaid),
            novelty=None if novelty is None else float(novelty),
        )
    except (ValueError, TypeError, KeyError, IndexError):
        return None
