"""Retrain when the features have drifted away from what the champion was trained on."""

import dagster as dg

from levibot_pipelines.defs.shared.jobs import retrain_job

REPORT = dg.AssetKey(["drift", "report"])


@dg.sensor(
    job=retrain_job,
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=60,
    description="Starts a retraining when the newest drift report is critical, at most once per champion and day.",
)
def drift_retrain(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Look at the newest drift report once; the run key names the cause, so that no cause starts two runs."""
    event = context.instance.get_latest_materialization_event(REPORT)
    if event is None or event.asset_materialization is None:
        return dg.SensorResult(skip_reason="No drift report yet.")
    # The cursor is stored only after the tick's runs were created: looking again is harmless, missing one is not.
    seen = event.run_id + str(event.timestamp)
    if seen == context.cursor:
        return dg.SensorResult(skip_reason="The newest drift report was already looked at.", cursor=seen)
    facts = {name: value.value for name, value in event.asset_materialization.metadata.items()}
    if facts["level"] != "critical":
        return dg.SensorResult(skip_reason=f"Drift is {facts['level']}.", cursor=seen)
    cause = f"drift:{facts['champion_version']}:{facts['report_day']}"
    request = dg.RunRequest(run_key=cause, tags={"levibot/cause": cause})
    return dg.SensorResult(run_requests=[request], cursor=seen)
