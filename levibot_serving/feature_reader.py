"""The newest features for an answer, read without holding up the event loop: fresh, else kept and flagged, else none.

* The file of the home is read on the event loop, and again only after somebody wrote to it: SQLite counts changes, so
  what is kept is never older than what a read would give.
* A Redis server is read by one thread for everybody (`levibot_serving.lane`), behind a circuit breaker.
* When the store does not answer, or came back empty, the last features of the symbol serve for as long as the store
  itself would have served them, and no longer than until the next bar closed. They are flagged. After that, and for a
  symbol that was never read, there is no forecast.

What is read, and what makes it whole, is decided in `levibot_serving.features`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from levibot_core.errors import (
    HomeNotWritableError,
    LakeCorruptionError,
    LevibotError,
    MissingFeatureError,
    OnlineStoreError,
)
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.bundle import BundleManifest
from levibot_core.resilience import CircuitOpenError, Dependency
from levibot_core.stores.online import FeatureHistory, FeatureVector, OnlineStore, SqliteOnlineStore
from levibot_core.stores.online_vector import now_ms as store_now_ms
from levibot_serving.config import ServingSettings
from levibot_serving.features import NewestFeatures, newest_features
from levibot_serving.lane import Lane
from levibot_serving.metrics import Metrics
from levibot_serving.predictor import expect_known

_STORE_FAILURES = (OnlineStoreError, LakeCorruptionError, HomeNotWritableError)
CACHE_NAME = "features"


@dataclass(frozen=True, slots=True)
class _Kept:
    """Features that were read, for which model, and until when they may be used unread.

    Attributes:
        token: `SqliteOnlineStore.change_token` before the read; None where there is no such token.
        expires_at_ms: UTC milliseconds; None for features that do not expire.
    """

    newest: NewestFeatures
    manifest: BundleManifest
    token: tuple[int, int] | None
    expires_at_ms: int | None


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """What is asked of a server; every question is another one."""

    manifest: BundleManifest
    symbol: str


class _LostError(Exception):
    """The store has no vector of a symbol and does not know that it ever had one."""

    def __init__(self, error: MissingFeatureError) -> None:
        super().__init__(str(error))
        self.error = error


class FeatureReader:
    """Reads for one application. To be used on the event loop."""

    def __init__(self, store: OnlineStore, settings: ServingSettings, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._lifetime_s = settings.online_lifetime_s
        self._deadline_s = settings.online_deadline_seconds
        self._kept: dict[str, _Kept] = {}
        self._dependency: Dependency | None = None
        self._lane: Lane[_Question, NewestFeatures] | None = None
        if settings.redis_url is not None:
            self._dependency = Dependency("online_store", (OnlineStoreError,), metrics)
            self._lane = Lane("online-store", self._ask, self._deadline_s)

    async def newest(self, manifest: BundleManifest, symbol: str, now_ms: int) -> NewestFeatures:
        """The newest features of a symbol (inside spelling) for that model; `degraded` says when they are not fresh.

        Raises:
            UnknownSymbolError, MissingFeatureError: as `levibot_serving.features.newest_features`.
            LevibotError: the store cannot be read, and nothing kept may stand in.
        """
        expect_known(manifest, symbol)
        try:
            if self._lane is None:
                return self._from_file(manifest, symbol, now_ms)
            return await self._from_server(self._lane, manifest, symbol)
        except _LostError as lost:
            return self._from_memory(manifest, symbol, now_ms, "the online store lost its vectors", lost.error)
        except TimeoutError as error:
            problem = f"{self._store.place} does not answer within {self._deadline_s:g} s"
            unread = OnlineStoreError(f"Expected the newest features of {symbol}, but {problem}; try again.")
            unread.__cause__ = error
            return self._from_memory(manifest, symbol, now_ms, "the online store does not answer in time", unread)
        except (*_STORE_FAILURES, CircuitOpenError) as error:
            return self._from_memory(manifest, symbol, now_ms, "the online store cannot be read", error)

    def close(self) -> None:
        """Let go of the reading thread."""
        if self._lane is not None:
            self._lane.close()

    def _from_file(self, manifest: BundleManifest, symbol: str, now_ms: int) -> NewestFeatures:
        token = self._store.change_token() if isinstance(self._store, SqliteOnlineStore) else None
        kept = self._kept.get(symbol)
        if (
            kept is not None
            and token is not None
            and kept.token == token
            and kept.manifest is manifest
            and (kept.expires_at_ms is None or kept.expires_at_ms > store_now_ms())
        ):
            self._metrics.count_cache(CACHE_NAME, hit=True)
            return kept.newest
        self._metrics.count_cache(CACHE_NAME, hit=False)
        newest = _read(self._store, manifest, symbol, now_ms)
        expires_at_ms = self._store.expires_at_ms(symbol) if isinstance(self._store, SqliteOnlineStore) else None
        self._kept[symbol] = _Kept(newest, manifest, token, expires_at_ms)
        return newest

    async def _from_server(
        self, lane: "Lane[_Question, NewestFeatures]", manifest: BundleManifest, symbol: str
    ) -> NewestFeatures:
        newest = await lane.get(_Question(manifest, symbol))
        self._kept[symbol] = _Kept(newest, manifest, None, None)
        return newest

    def _ask(self, questions: Sequence[_Question]) -> Mapping[_Question, NewestFeatures | Exception]:
        assert self._dependency is not None  # noqa: S101 - there is a lane only where there is a dependency
        return self._dependency.call(lambda: _answers(self._store, questions))

    def _from_memory(
        self, manifest: BundleManifest, symbol: str, now_ms: int, reason: str, error: LevibotError
    ) -> NewestFeatures:
        kept = self._kept.get(symbol)
        if kept is None or not _serves(kept.manifest, manifest):
            raise error
        age_s = (now_ms - kept.newest.vector.known_at_ms) / 1000
        if age_s > min(self._lifetime_s, Timeframe.parse(manifest.timeframe).milliseconds / 1000):
            raise error
        self._metrics.count_kept_features(reason)
        return replace(kept.newest, degraded=f"{reason}: these are the last features that were read")


def _serves(read_for: BundleManifest, asked: BundleManifest) -> bool:
    """Whether features that were whole for one model are whole for the other."""
    return (read_for.feature_set, read_for.features, read_for.window) == (
        asked.feature_set,
        asked.features,
        asked.window,
    )


def _read(store: OnlineStore, manifest: BundleManifest, symbol: str, now_ms: int) -> NewestFeatures:
    """As `newest_features`; _LostError in place of MissingFeatureError where the store knows nothing of the symbol.

    One that knows when it last had a vector has not lost it: the vector expired, or follows another feature set.
    """
    try:
        return newest_features(store, manifest, symbol, now_ms)
    except MissingFeatureError as error:
        if symbol in store.last_known_at_ms([symbol]):
            raise
        raise _LostError(error) from error


def _answers(store: OnlineStore, questions: Sequence[_Question]) -> Mapping[_Question, NewestFeatures | Exception]:
    """Answer all the questions, in one round trip for models of one bar; a store that fails raises."""
    single = {question.symbol for question in questions if question.manifest.window == 1}
    view = _ReadAhead(store, store.get_many(sorted(single)) if single else {})
    now_ms = store_now_ms()
    found: dict[tuple[int, str], NewestFeatures | Exception] = {}
    for question in questions:
        key = (id(question.manifest), question.symbol)
        if key not in found:
            try:
                found[key] = _read(view, question.manifest, question.symbol, now_ms)
            except _STORE_FAILURES:
                raise
            except (LevibotError, _LostError) as error:
                found[key] = error
    return {question: found[id(question.manifest), question.symbol] for question in questions}


class _ReadAhead:
    """A store whose newest vectors were read already, for one round of questions."""

    def __init__(self, store: OnlineStore, vectors: Mapping[str, FeatureVector]) -> None:
        self._store = store
        self._vectors = vectors

    @property
    def place(self) -> str:
        return self._store.place

    def put(self, vectors: Sequence[FeatureVector]) -> None:
        self._store.put(vectors)

    def get(self, symbol: str) -> FeatureVector | None:
        return self._vectors.get(symbol)

    def get_many(self, symbols: Iterable[str]) -> dict[str, FeatureVector]:
        return {symbol: self._vectors[symbol] for symbol in symbols if symbol in self._vectors}

    def history(self, symbol: str, bars: int) -> FeatureHistory | None:
        return self._store.history(symbol, bars)

    def last_known_at_ms(self, symbols: Sequence[str]) -> dict[str, int]:
        return self._store.last_known_at_ms(symbols)

    def close(self) -> None:
        """Nothing of its own to let go of."""
