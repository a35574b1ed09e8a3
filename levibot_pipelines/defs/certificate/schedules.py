"""When the certificate is made: every night before all other work, once somebody turns it on."""

import dagster as dg

from levibot_pipelines.defs.certificate.jobs import certificate_job


@dg.schedule(
    job=certificate_job,
    cron_schedule="30 0 * * *",
    execution_timezone="UTC",
    # A quarter of an hour of every core: for a machine that has nothing better to do at night.
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="At 00:30 UTC, off until it is turned on: 20 markets without an edge, a quarter of an hour on two "
    "cores. Markets that are finished count as long as the code is the same.",
)
def nightly_certificate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
    """Ask for one run per night."""
    return dg.RunRequest(run_key=f"certificate:{context.scheduled_execution_time:%Y-%m-%d}")
