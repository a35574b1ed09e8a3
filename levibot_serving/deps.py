"""What endpoints depend on, opened once when the application starts and closed when it stops."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, TypeVar, cast

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request

from levibot_core.errors import RegistryError
from levibot_core.resilience import Dependency
from levibot_core.stores.online import OnlineStore
from levibot_serving.config import ServingSettings
from levibot_serving.errors import ApiError
from levibot_serving.feature_reader import FeatureReader
from levibot_serving.features import open_features
from levibot_serving.forecaster import Forecaster
from levibot_serving.metrics import Metrics
from levibot_serving.model_store import ModelStore
from levibot_serving.operations import Operations, open_operations
from levibot_serving.parity import ParityFigures
from levibot_serving.served import ServedModel
from levibot_serving.vector_log import VectorLog


def system_clock() -> int:
    """Now, UTC milliseconds."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Services:
    """Everything an endpoint may use."""

    settings: ServingSettings
    models: ModelStore
    features: OnlineStore
    metrics: Metrics
    vector_log: VectorLog
    parity: ParityFigures
    operations: Operations
    now_ms: Callable[[], int] = system_clock
    reader: FeatureReader = field(init=False)
    forecaster: Forecaster = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "reader", FeatureReader(self.features, self.settings, self.metrics))
        object.__setattr__(self, "forecaster", Forecaster(self.settings, self.metrics, self.vector_log))

    def close(self) -> None:
        """Let go of what reads and forecasts opened by themselves."""
        self.reader.close()
        self.forecaster.close()


@contextmanager
def open_services(settings: ServingSettings, metrics: Metrics) -> Iterator[Services]:
    """The services of a home, with its champion being followed until the context ends."""
    models = ModelStore.open(settings, Dependency("model_registry", (RegistryError,), metrics))
    features = open_features(settings)
    vector_log = VectorLog(settings.folders, settings.served_log_days)
    parity = ParityFigures(settings.folders.parity_report)
    models.start()
    vector_log.start()
    try:
        with open_operations(settings, models, features) as operations:
            services = Services(settings, models, features, metrics, vector_log, parity, operations)
            try:
                yield services
            finally:
                services.close()
    finally:
        models.stop()
        vector_log.stop()
        features.close()


_Result = TypeVar("_Result")
_STORE_READERS = CapacityLimiter(4)
"""Threads that may wait for the online store at a time, apart from the one that reads for forecasts."""


async def read_store(services: Services, read: Callable[[], _Result]) -> _Result:
    """Do what reads the online store: a file answers at once, but a server may keep its caller waiting.

    Then a thread waits, one of a few, and the event loop goes on answering `/livez`. Forecasts read in another way,
    see `levibot_serving.feature_reader`.
    """
    if services.settings.redis_url is None:
        return read()
    return await to_thread.run_sync(read, limiter=_STORE_READERS)


def served_model(services: Services) -> ServedModel:
    """The model that answers.

    Raises:
        ApiError: 503, there is none yet.
    """
    served = services.models.served
    if served is None:
        raise ApiError(
            503, "model_not_loaded", f"No model is loaded yet. {services.models.status.problem or ''}".strip()
        )
    return served


async def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


ServicesDep = Annotated[Services, Depends(_services)]


async def _served(services: ServicesDep) -> ServedModel:
    return served_model(services)


ServedDep = Annotated[ServedModel, Depends(_served)]
