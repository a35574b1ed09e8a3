"""`/analytics`, `/ops/signal_log` and `/stream/predictions`: what was forecast, and what became of it."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import Response

from levibot_core.monitoring.forecast_deciles import (
    ConfidenceDecile,
    closes_of_forecasts,
    closes_of_lake,
    confidence_deciles,
)
from levibot_core.stores.lake import Lake
from levibot_core.stores.prediction_log import Role
from levibot_serving.contract_analytics import (
    RECENT_PREDICTION_EXAMPLE,
    Decile,
    Deciles,
    RecentPredictions,
    Signal,
    SignalLog,
)
from levibot_serving.deps import Services, ServicesDep
from levibot_serving.errors import documented
from levibot_serving.prediction_journal import recent_prediction
from levibot_serving.prediction_stream import EventStream
from levibot_serving.recent_features import REQUEST

router = APIRouter(tags=["analytics"])

Window = Literal["24h", "7d"]
_WINDOW_MS: dict[Window, int] = {"24h": 86_400_000, "7d": 7 * 86_400_000}
RoleQuery = Annotated[Role, Query(description="The champion, which is served, or the challenger in shadow")]
_STREAMED = f": heartbeat\n\nevent: prediction\ndata: {json.dumps(RECENT_PREDICTION_EXAMPLE)}\n\n"
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events without end",
        "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _STREAMED}},
    },
    **documented(503),
}


@router.get("/analytics/predictions/recent", response_model=RecentPredictions, responses=documented(422, 503))
async def get_recent_predictions(
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=2000, description="How many at most")] = 100,
    role: RoleQuery = "champion",
) -> RecentPredictions:
    """The newest forecasts, newest first: of all workers, and from before a restart."""
    found = await run_in_threadpool(services.operations.journal.newest, limit, role)
    return RecentPredictions(items=tuple(map(recent_prediction, found)), total=len(found))


@router.get("/ops/signal_log", response_model=SignalLog, responses=documented(422, 503))
async def get_signal_log(
    services: ServicesDep, limit: Annotated[int, Query(ge=1, le=1000, description="How many at most")] = 100
) -> SignalLog:
    """The newest forecasts that took a side, long or short, newest first."""
    journal = services.operations.journal
    found = await run_in_threadpool(lambda: journal.newest(limit, "champion", signals_only=True))
    return SignalLog(
        items=tuple(
            Signal(
                ts=item.served_at_ms / 1000,
                symbol=item.symbol,
                side=item.side,
                prob_up=item.prob_up,
                confidence=item.confidence,
                source=item.source,
                tradable=item.tradable,
            )
            for item in found
        )
    )


@router.get("/analytics/deciles", response_model=Deciles, responses=documented(422, 503))
async def get_deciles(
    services: ServicesDep,
    window: Annotated[Window, Query(description="How far back")] = "24h",
    role: RoleQuery = "champion",
) -> Deciles:
    """How often forecasts came true, by tenths of their confidence, as far as the outcomes are known."""
    return await run_in_threadpool(_deciles, services, window, role)


@router.get("/stream/predictions", response_class=Response, responses=_STREAM)
async def get_prediction_stream(services: ServicesDep) -> Any:
    """Every forecast that says something new, as it is given, by whichever worker; with heartbeats.

    A client that does not keep up is sent away; connect again.
    """
    services.operations.stream.expect_room()
    return EventStream(services.operations.stream, services.now_ms())


def _deciles(services: Services, window: Window, role: Role) -> Deciles:
    journal = services.operations.journal
    journal.flush()
    from_ms = services.now_ms() - _WINDOW_MS[window]
    forecasts = [item for item in journal.log.since(from_ms) if item.role == role and item.source != REQUEST]
    symbols = sorted({item.symbol for item in forecasts})
    earliest_ms = min((item.as_of_ms for item in forecasts), default=from_ms)
    settings = services.settings
    closes = closes_of_forecasts(forecasts) | closes_of_lake(
        Lake(settings.folders.lake), settings.market, settings.timeframe, symbols, earliest_ms
    )
    tenths = confidence_deciles(forecasts, closes)
    settled, hits = sum(tenth.settled for tenth in tenths), sum(tenth.hits for tenth in tenths)
    return Deciles(
        window=window,
        role=role,
        forecasts=sum(tenth.forecasts for tenth in tenths),
        settled=settled,
        hit_rate=hits / settled if settled else None,
        buckets=tuple(map(_decile, tenths)),
    )


def _decile(tenth: ConfidenceDecile) -> Decile:
    lower, upper = tenth.interval or (None, None)
    return Decile(
        decile=tenth.decile,
        confidence_from=tenth.confidence_from,
        confidence_to=tenth.confidence_to,
        forecasts=tenth.forecasts,
        settled=tenth.settled,
        hits=tenth.hits,
        hit_rate=tenth.hit_rate,
        hit_rate_lower=lower,
        hit_rate_upper=upper,
    )
