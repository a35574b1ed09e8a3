"""`/ai/models/list`, `activate` and `rollback`, and `/ai/select`: registered versions, and which one answers."""

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool

from levibot_serving.contract_control import (
    Activation,
    ChampionChange,
    ModelList,
    Rollback,
    Selected,
    Selection,
)
from levibot_serving.deps import ServedDep, ServicesDep
from levibot_serving.errors import ApiError, documented
from levibot_serving.security.dependencies import PrincipalDep

router = APIRouter(tags=["models"])


@router.get("/ai/models/list", response_model=ModelList, responses=documented(503))
async def get_model_list(services: ServicesDep) -> ModelList:
    """Every registered version with its aliases, tags, metrics and gates, newest first."""
    return await run_in_threadpool(services.operations.aliases.listed)


@router.post("/ai/models/activate", response_model=ChampionChange, responses=documented(404, 409, 422, 503))
async def post_activation(services: ServicesDep, principal: PrincipalDep, asked: Activation) -> ChampionChange:
    """Make a version champion. It has to have passed its promotion gates, unless forced; either is recorded first."""
    aliases = services.operations.aliases
    return await run_in_threadpool(
        lambda: aliases.activate(asked.version, asked.reason, principal.name, force=asked.force)
    )


@router.post("/ai/models/rollback", response_model=ChampionChange, responses=documented(409, 422, 503))
async def post_rollback(services: ServicesDep, principal: PrincipalDep, asked: Rollback) -> ChampionChange:
    """Make the champion before the present one champion again."""
    return await run_in_threadpool(services.operations.aliases.roll_back, asked.reason, principal.name)


@router.post("/ai/select", response_model=Selected, responses=documented(400, 422, 503))
async def post_selection(served: ServedDep, asked: Selection) -> Selected:
    """Say whether a model or family answers. The champion alone does: another one is chosen by activating a version."""
    name, family = served.record.name, served.bundle.manifest.family
    if asked.name not in (name, family):
        raise ApiError(
            400,
            "not_served",
            f"Expected {name} or {family}, which answers, was {asked.name!r}. Activate a version of it; see "
            "/ai/models/list.",
            {"served": [name, family]},
        )
    return Selected(current=name, message=f"Version {served.version} ({family}) answers.")
