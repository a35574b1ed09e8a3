"""`/live`: the kill switch, and whether forecasts may be acted on. Engines poll `/live/status`."""

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool

from levibot_serving.contract_control import KillAnswer, KillRequest, LiveStatus
from levibot_serving.deps import ServicesDep
from levibot_serving.errors import documented
from levibot_serving.security.dependencies import PrincipalDep

router = APIRouter(tags=["live"])


@router.post("/live/kill", response_model=KillAnswer, responses=documented(422, 503))
async def post_kill(services: ServicesDep, principal: PrincipalDep, asked: KillRequest) -> KillAnswer:
    """Throw the kill switch, on or off, for every worker of the home at once; recorded in the audit log."""
    state = await run_in_threadpool(services.operations.throw_kill_switch, asked.on, asked.reason, principal.name)
    message = "Every forecast abstains from now on." if state.active else "Forecasts may be acted on again."
    return KillAnswer(kill_switch=state.active, reason=state.reason, message=message)


@router.get("/live/status", response_model=LiveStatus)
async def get_live_status(services: ServicesDep) -> LiveStatus:
    """Whether the kill switch is on, why, since when, and who threw it."""
    state = services.operations.kill_switch.state
    return LiveStatus(
        kill_switch_active=state.active,
        reason=state.reason,
        mode="killed" if state.active else "live",
        active=not state.active and services.models.served is not None,
        actor=state.actor,
        since=state.since,
    )
