"""What orchestrators and Prometheus ask: `/livez`, `/readyz`, `/healthz`, `/metrics`."""

from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from levibot_serving.contract import Alive, Health, Ready
from levibot_serving.deps import ServedDep, ServicesDep, read_store
from levibot_serving.errors import documented
from levibot_serving.health import examine
from levibot_serving.metrics_state import ParityState, ServingState
from levibot_serving.operations_metrics import OperationsState

router = APIRouter(tags=["operations"])

_METRICS: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "text/plain": {"example": 'levibot_predictions_total{abstain="false",side="flat"} 12.0\n'},
        }
    }
}


@router.get("/livez", response_model=Alive)
async def get_liveness() -> Alive:
    """The process answers. Restart it when this does not."""
    return Alive()


@router.get("/readyz", response_model=Ready, responses=documented(503))
async def get_readiness(served: ServedDep) -> Ready:
    """A model is loaded. Send requests here when this is 200."""
    return Ready(model=served.record.name, version=served.version)


@router.get(
    "/healthz", response_model=Health, responses={503: {"model": Health, "description": "A critical part fails"}}
)
async def get_health(services: ServicesDep, response: Response) -> Health:
    """Every part, which of them are critical, and how they are."""
    health = await read_store(services, lambda: examine(services))
    response.status_code = 503 if health.status == "failing" else 200
    return health


@router.get("/metrics", response_class=Response, responses=_METRICS)
async def get_metrics(services: ServicesDep) -> Response:
    """Prometheus text format."""
    body = await read_store(
        services,
        lambda: services.metrics.render(
            ServingState(services.models, services.features, services.now_ms()),
            ParityState(services.vector_log, services.parity),
            OperationsState(services.operations),
        ),
    )
    return Response(body, media_type=CONTENT_TYPE_LATEST)
