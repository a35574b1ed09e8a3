"""When features are monitored: staleness and parity every hour, everything once a day after the nightly retraining."""

import dagster as dg

from levibot_pipelines.defs.monitoring.jobs import monitoring_job, watch_job
from levibot_pipelines.workspace import Workspace


@dg.schedule(
    job=watch_job,
    # Some minutes after the close of a bar: at the close itself the newest features are always one bar old.
    cron_schedule="3 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every hour: are the features fresh, and are the served ones those of the offline computation?",
)
def hourly_watch(
    context: dg.ScheduleEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> dg.RunRequest | dg.SkipReason:
    """Ask for one run per hour, once there is something to watch."""
    if workspace.lake.current_source() is None:
        return dg.SkipReason("Nothing was ingested yet.")
    return dg.RunRequest(run_key=f"watch:{context.scheduled_execution_time:%Y-%m-%dT%H}")


@dg.schedule(
    job=monitoring_job,
    cron_schedule="0 5 * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="At 05:00 UTC, after the nightly retraining: all of feature monitoring.",
)
def daily_monitoring(
    context: dg.ScheduleEvaluationContext, workspace: dg.ResourceParam[Workspace]
) -> dg.RunRequest | dg.SkipReason:
    """Ask for one run per day, once a model was trained."""
    if not workspace.snapshots.list():
        return dg.SkipReason("No training snapshot yet.")
    return dg.RunRequest(run_key=f"monitoring:{context.scheduled_execution_time:%Y-%m-%d}")
