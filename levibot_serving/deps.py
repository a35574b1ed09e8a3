"""What endpoints depend on, opened once when the application starts and closed when it stops."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, TypeVar, cast

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from levibot_core.stores.online import OnlineStore
from levibot_serving.config import ServingSettings
from levibot_serving.errors import ApiError
from levibot_serving.features import open_features
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


@contextmanager
def open_services(settings: ServingSettings, metrics: Metrics) -> Iterator[Services]:
    """The services of a home, with its champion being followed until the context ends."""
    models = ModelStore.open(settings)
    features = open_features(settings)
    vector_log = VectorLog(settings.folders, settings.served_log_days)
    parity = ParityFigures(settings.folders.parity_report)
    models.start()
    vector_log.start()
    try:
        with open_operations(settings, models, features) as operations:
            yield Services(settings, models, features, metrics, vector_log, parity, operations)
    finally:
        models.stop()
        vector_log.stop()
        features.close()


_Result = TypeVar("_Result")


async def read_store(services: Services, read: Callable[[], _Result]) -> _Result:
    """Do what reads the online store: a file answers at once, but a server may keep its caller waiting.

    Then a thread waits, and the event loop goes on answering `/livez`.
    """
    if services.settings.redis_url is None:
        return read()
    return await run_in_threadpool(read)


async def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


ServicesDep = Annotated[Services, Depends(_services)]


async def _served(services: ServicesDep) -> ServedModel:
    served = services.models.served
    if served is None:
        raise ApiError(
            503, "model_not_loaded", f"No model is loaded yet. {services.models.status.problem or ''}".strip()
        )
    return served


ServedDep = Annotated[ServedModel, Depends(_served)]
