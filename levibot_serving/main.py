"""The inference API. Run `uvicorn levibot_serving.main:app`.

Importing this module reads no setting and touches no disk; the application is made when `app` is first asked for,
and its services are opened when it starts.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI

from levibot_serving.config import ServingSettings, load_serving_settings
from levibot_serving.deps import open_services
from levibot_serving.errors import add_error_handlers
from levibot_serving.metrics import Metrics
from levibot_serving.middleware import RequestContextMiddleware
from levibot_serving.routes import ROUTERS
from levibot_serving.routes.ai import add_prediction_route
from levibot_serving.security.security import Security, secure
from levibot_serving.shutdown import told_of_shutdown
from levibot_serving.tracing import telemetry_of
from levibot_serving.worker_metrics import forget_this_worker


def create_app(settings: ServingSettings | None = None) -> FastAPI:
    """The application of one home.

    Args:
        settings: Read from the environment when not given.

    Raises:
        ConfigurationError: the environment holds a setting that cannot be used, or a route is not in the table of
            permissions.
        CredentialError: a secret of the environment can be guessed.
    """
    chosen = settings or load_serving_settings()
    metrics = Metrics()
    security = Security(chosen, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        async with security:
            with open_services(chosen, metrics) as services:
                app.state.services = services

                def end_streams() -> None:
                    loop.call_soon_threadsafe(services.operations.stream.end_soon)

                with told_of_shutdown(end_streams):
                    yield
        forget_this_worker()

    telemetry = telemetry_of(os.environ)
    app = FastAPI(
        title="LeviBot inference",
        summary="Forecasts of the promoted model, with reasons when they may not be traded on.",
        version=version("levibot-platform"),
        lifespan=lifespan,
        # Their pages load scripts from elsewhere; `/docs` is a page of ours.
        docs_url=None,
        redoc_url=None,
        telemetry=telemetry,
    )
    app.state.metrics = metrics
    add_error_handlers(app)
    add_prediction_route(app, traced=telemetry["tracing"])
    for router in ROUTERS:
        app.include_router(router)
    # After every route, and within what every request gets.
    secure(app, chosen, security)
    app.add_middleware(RequestContextMiddleware, metrics=metrics, slow_ms=chosen.log_slow_ms)
    return app


def __getattr__(name: str) -> FastAPI:
    if name == "app":
        return create_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
