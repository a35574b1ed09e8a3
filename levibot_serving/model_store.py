"""Follows the champion of the registry and holds the model that answers requests.

One thread looks at the alias every few seconds, off the event loop. It begins with the last good model on the local
disk, so that a registry that is down or slow delays nothing. A new champion is fetched, verified and warmed
before one assignment makes it the served model, so that no request ever waits for a swap or sees half of one. When
anything fails the last good model stays, and `status` says what failed. Trust is judged in `levibot_serving.served`.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from levibot_core.errors import BundleError, HomeNotWritableError, LevibotError, RegistryError
from levibot_core.models.bundle import ModelBundle
from levibot_core.models.uncertainty import read_uncertainty
from levibot_core.resilience import Dependency
from levibot_serving.cache import ModelCache
from levibot_serving.config import ServingSettings
from levibot_serving.home_registry import open_registry
from levibot_serving.registry import CHAMPION, GuardedRegistry, ModelRecord, ModelRegistry
from levibot_serving.served import ServedModel, judge

logger = logging.getLogger(__name__)

REFUSED_FOR_S = 60.0
_JOIN_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """What the last look at the registry found.

    Attributes:
        registry_reachable: None before the first answer or failure.
        last_contact: Monotonic time of the last answer, seconds.
        problem: Why the served model is not the registry's champion, or is none at all; None when all is well.
        cache_problem: Why a restart without the registry would not serve this model; None when it would.
    """

    registry_reachable: bool | None = None
    last_contact: float | None = None
    problem: str | None = "The model registry has not been asked yet."
    cache_problem: str | None = None

    @property
    def last_contact_age_s(self) -> float | None:
        """Seconds since the registry last answered this process."""
        return None if self.last_contact is None else time.monotonic() - self.last_contact


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A version whose files are not fetched again before `until` (monotonic seconds)."""

    key: str
    until: float
    error: BundleError


class ModelStore:
    """The served model and the thread that keeps it current.

    `served`, `status` and `swaps` are each replaced by one assignment and may be read from any thread.
    """

    def __init__(self, registry: ModelRegistry, cache: ModelCache, model_name: str, poll_seconds: float) -> None:
        self.served: ServedModel | None = None
        self.status = StoreStatus()
        self.swaps = 0
        self.model_name = model_name
        self._registry = registry
        self._cache = cache
        self._poll_seconds = poll_seconds
        self._remembered: ModelRecord | None = None
        self._refusal: _Refusal | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow_until_stopped, name="model-store", daemon=True)

    @classmethod
    def open(cls, settings: ServingSettings, dependency: Dependency | None = None) -> "ModelStore":
        """The store of a home; nothing is asked or read before `refresh` or `start`.

        Args:
            settings: Where the registry and the local cache are.
            dependency: The circuit that the registry is asked behind; none for somebody who asks once.
        """
        asked = open_registry(settings)
        registry = asked if dependency is None else GuardedRegistry(asked, dependency)
        cache = ModelCache(settings.folders.root / "serving")
        return cls(registry, cache, settings.model_name, settings.registry_poll_seconds)

    def start(self) -> None:
        """Begin to follow the registry; returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Stop following. The served model stays usable."""
        self._stop.set()
        self._thread.join(_JOIN_TIMEOUT_S)

    def fetch(self, record: ModelRecord) -> None:
        """Bring a version to this host and verify it, as is done before it is served; it is not served by this.

        Raises:
            BundleError: it cannot be served; the reason in words.
            RegistryError, HomeNotWritableError: it cannot be fetched or kept.
        """
        bundle = self._cache.load(record)
        if bundle is None:
            bundle = self._cache.add(record, lambda folder: self._registry.download(record, folder))
        self._check(bundle)

    def refresh(self) -> None:
        """Look at the registry once and follow it. Never raises a LevibotError: `status` carries it."""
        try:
            champion = self._registry.champion(self.model_name)
        except RegistryError as error:
            self._keep_last_good(replace(self.status, registry_reachable=False, problem=str(error)))
            return
        status = StoreStatus(registry_reachable=True, last_contact=time.monotonic(), problem=None)
        if champion is None:
            problem = (
                f"Expected a registered model {self.model_name!r} with the alias {CHAMPION!r}, but there is none. "
                "Run `make demo`, or promote a version."
            )
            self._report(replace(status, problem=problem))
            return
        try:
            self._follow(champion)
        except LevibotError as error:
            self._keep_last_good(replace(status, problem=f"Version {champion.version} is not served. {error}"))
        else:
            self._report(replace(status, cache_problem=self._remember(champion)))

    def _follow_until_stopped(self) -> None:
        # Before the registry is asked, whose client takes seconds to load, and which may hang: meanwhile the last good
        # model answers, and says so.
        self._look(lambda: self._keep_last_good(self.status))
        wait_seconds = 0.0
        while not self._stop.wait(wait_seconds):
            self._look(self.refresh)
            wait_seconds = self._poll_seconds

    @staticmethod
    def _look(look: Callable[[], None]) -> None:
        try:
            look()
        except Exception:
            logger.exception("A look at the model registry failed in an unforeseen way; the served model stays")

    def _follow(self, champion: ModelRecord) -> None:
        """Serve the champion, or what changed about it (tags, aliases); do nothing when nothing did."""
        served = self.served
        if served is None or served.record.key != champion.key:
            self._swap(champion, self._obtain(champion), from_cache=False)
        elif served.record != champion or served.from_cache:
            self._swap(champion, served.bundle, from_cache=False)

    def _remember(self, champion: ModelRecord) -> str | None:
        if self._remembered != champion:
            try:
                self._cache.remember(champion)
            except HomeNotWritableError as error:
                return str(error)
            self._remembered = champion
        return None

    def _obtain(self, champion: ModelRecord) -> ModelBundle:
        refusal = self._refusal
        if refusal is not None and refusal.key == champion.key and time.monotonic() < refusal.until:
            raise refusal.error
        try:
            bundle = self._cache.load(champion)
            if bundle is None:
                bundle = self._cache.add(champion, lambda folder: self._registry.download(champion, folder))
            self._check(bundle)
        except BundleError as error:
            self._refusal = _Refusal(champion.key, time.monotonic() + REFUSED_FOR_S, error)
            raise
        return bundle

    def _check(self, bundle: ModelBundle) -> None:
        """Refuse a bundle of another model or event, one that cannot predict, and one with a broken part.

        The prediction also warms it up.

        Raises:
            BundleError: the reason in words.
        """
        manifest = bundle.manifest
        if manifest.model_name != self.model_name:
            raise BundleError(f"Expected a bundle of the model {self.model_name!r}, was {manifest.model_name!r}.")
        if manifest.triple_barrier is not None:
            raise BundleError(
                f"Expected a model whose probability is that of a rise, was one of {manifest.model_name!r}: the API's "
                "`prob_up` would not mean what engines take it for. Serve LEVIBOT_LABELS=direction."
            )
        bars, width = manifest.window, len(manifest.features) + 1
        shape = (1, width) if bars == 1 else (1, bars, width)
        probability = float(bundle.predict(np.zeros(shape))[0])
        if not 0.0 <= probability <= 1.0:
            raise BundleError(f"Expected the bundle to predict a probability, was {probability}.")
        read_uncertainty(bundle.parts, manifest.horizon_bars, len(manifest.features))

    def _keep_last_good(self, status: StoreStatus) -> None:
        if self.served is None:
            try:
                cached = self._cache.last_good()
                if cached is not None:
                    record, bundle = cached
                    self._check(bundle)
                    self._swap(record, bundle, from_cache=True)
                    self._remembered = record
            except BundleError as error:
                status = replace(status, problem=f"{status.problem} {error}")
        self._report(status)

    def _swap(self, record: ModelRecord, bundle: ModelBundle, *, from_cache: bool) -> None:
        tradable, reasons = judge(bundle.manifest, record.tags)
        before = self.served
        same = before is not None and before.record.key == record.key
        loaded_at_ms = before.loaded_at_ms if before is not None and same else time.time_ns() // 1_000_000
        if before is not None and before.bundle is bundle:
            uncertainty = before.uncertainty
        else:
            manifest = bundle.manifest
            uncertainty = read_uncertainty(bundle.parts, manifest.horizon_bars, len(manifest.features))
        self.served = ServedModel(bundle, record, tradable, reasons, loaded_at_ms, from_cache, uncertainty)
        if not same:
            self.swaps += 1
            logger.info(
                "Serving %s version %s%s (was %s)",
                record.name,
                record.version,
                " from the local cache" if from_cache else "",
                before.version if before is not None else "none",
            )

    def _report(self, status: StoreStatus) -> None:
        before, self.status = self.status, status
        for problem in {status.problem, status.cache_problem} - {before.problem, before.cache_problem, None}:
            logger.warning("%s", problem)
        if before.problem is not None and status.problem is None:
            logger.info("The model registry answers and its champion is served")
