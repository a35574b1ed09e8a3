"""`/backtest`: asking for a backtest, and the reports that were made."""

from typing import Annotated

from fastapi import APIRouter, Header, Path
from fastapi.concurrency import run_in_threadpool

from levibot_serving.contract_backtests import (
    BacktestEntry,
    BacktestQueued,
    BacktestReport,
    BacktestRequest,
)
from levibot_serving.dagster_client import DagsterUnavailableError
from levibot_serving.deps import ServicesDep
from levibot_serving.errors import ApiError, documented
from levibot_serving.security.dependencies import PrincipalDep

router = APIRouter(tags=["backtest"])

ReportId = Annotated[str, Path(alias="id", max_length=100, description="As the list of reports has it")]
IdempotencyKey = Annotated[
    str | None,
    Header(min_length=8, max_length=200, description="The same key again gives the same backtest, and no second run"),
]


@router.post("/backtest/run", response_model=BacktestQueued, status_code=202, responses=documented(409, 422, 503))
async def post_backtest(
    services: ServicesDep, principal: PrincipalDep, asked: BacktestRequest, idempotency_key: IdempotencyKey = None
) -> BacktestQueued:
    """Queue a backtest of the champion in Dagster."""
    try:
        return await run_in_threadpool(services.operations.backtests.queue, asked, idempotency_key, principal.name)
    except DagsterUnavailableError as error:
        raise ApiError(503, "dagster_unavailable", str(error)) from error


@router.get("/backtest/reports", response_model=tuple[BacktestEntry, ...], responses=documented(503))
async def get_backtests(services: ServicesDep) -> list[BacktestEntry]:
    """Every backtest that was made or asked for, newest first."""
    return await run_in_threadpool(services.operations.backtests.entries)


@router.get("/backtest/reports/{id}", response_model=BacktestReport, responses=documented(404, 422, 503))
async def get_backtest(services: ServicesDep, report_id: ReportId) -> BacktestReport:
    """One backtest with every trade."""
    return await run_in_threadpool(services.operations.backtests.report, report_id)
