"""When models are compared and guarded: every night, after the retraining has taken in the new bars."""

import dagster as dg

from levibot_core.models.predictors import BASE_RATE
from levibot_pipelines.defs.promotion.jobs import guard_job, shadow_job
from levibot_pipelines.registry import CHAMPION
from levibot_pipelines.workspace import Workspace


@dg.schedule(
    job=shadow_job,
    cron_schedule="30 4 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="At 04:30 UTC: score champion and challenger on the new bars; roll back or promote on evidence.",
)
def nightly_shadow(
    context: dg.ScheduleEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> dg.RunRequest | dg.SkipReason:
    """Ask for one run per night, once there is a champion."""
    if workspace.lake.current_source() is None or workspace.registry.by_alias(CHAMPION) is None:
        return dg.SkipReason("There is no champion, or nothing was ingested yet.")
    return dg.RunRequest(run_key=f"shadow:{context.scheduled_execution_time:%Y-%m-%d}")


@dg.schedule(
    job=guard_job,
    cron_schedule="15 4 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="At 04:15 UTC: the champion's backtest computed again on the rows it was judged on.",
)
def nightly_guard(
    context: dg.ScheduleEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> dg.RunRequest | dg.SkipReason:
    """Ask for one run per night, once there is a champion that was judged."""
    champion = workspace.registry.by_alias(CHAMPION)
    if champion is None or champion.family == BASE_RATE:
        return dg.SkipReason("There is no champion but the base rate, which was never traded.")
    return dg.RunRequest(run_key=f"guard:{context.scheduled_execution_time:%Y-%m-%d}")
