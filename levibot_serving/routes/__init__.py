"""The endpoints of the API, one module per subject."""

from levibot_serving.routes import (
    ai,
    analytics,
    auth,
    backtests,
    console,
    docs,
    features,
    forecasts,
    live,
    models,
    operations,
)

ROUTERS = (
    ai.router,
    forecasts.router,
    models.router,
    features.router,
    analytics.router,
    backtests.router,
    live.router,
    operations.router,
    auth.router,
    console.router,
    docs.router,
)
