"""Tell somebody when a run failed."""

import dagster as dg

from levibot_pipelines.alerts import raise_alert
from levibot_pipelines.runner import VERDICT_STEPS
from levibot_pipelines.workspace import Workspace

# They told already, with figures that are not known here.
_TOLD = frozenset({"promotion__regression_guard", "promotion__regression_guard_no_regression"})


@dg.run_failure_sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Raises an alert for every failed run, but not where a model was found wanting: that is no fault.",
)
def failed_runs(context: dg.RunFailureSensorContext, workspace: dg.ResourceParam[Workspace]) -> dg.SkipReason | None:
    """Raise an alert that names the job, the steps that failed and what they said."""
    steps = {event.step_key or "run": event.step_failure_data.error for event in context.get_step_failure_events()}
    if steps and steps.keys() <= VERDICT_STEPS | _TOLD:
        return dg.SkipReason("Every stage did its work; a model was found wanting.")
    run = context.dagster_run
    what = [f"{step}: {error.message.strip() if error else 'unknown reason'}" for step, error in steps.items()]
    raise_alert(
        workspace.settings,
        workspace.home,
        "dagster",
        f"The job {run.job_name} failed",
        "\n".join(what) or context.failure_event.message or "unknown reason",
        {"run_id": run.run_id, "steps": ", ".join(sorted(steps))},
    )
    return None
