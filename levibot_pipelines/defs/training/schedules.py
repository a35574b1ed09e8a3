"""The nightly retraining."""

from collections.abc import Iterator
from datetime import datetime

import dagster as dg

from levibot_core.errors import LevibotError
from levibot_pipelines.defs.shared.jobs import lifecycle_job
from levibot_pipelines.lifecycle import lifecycle_tags
from levibot_pipelines.workspace import Workspace


@dg.schedule(
    job=lifecycle_job,
    cron_schedule="0 3 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="At 03:00 UTC: take in what is new, train a candidate, and promote it only if it is better.",
)
def nightly_retrain(
    context: dg.ScheduleEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Ask for one lifecycle run per night over the months that can still change."""
    night: datetime = context.scheduled_execution_time
    try:
        tags = lifecycle_tags(workspace, days=2)
    except LevibotError as error:
        yield dg.SkipReason(str(error))
        return
    yield dg.RunRequest(run_key=f"nightly:{night:%Y-%m-%d}", tags=tags)
