"""Who is told of a failed run, and of which."""

from collections.abc import Iterator

import dagster as dg
import pytest

from levibot_core.config import load_settings
from levibot_core.stores.paths import Home
from levibot_pipelines.alerts import read_alerts
from levibot_pipelines.defs.monitoring.sensors import failed_runs
from levibot_pipelines.runner import GATES_STEP
from levibot_pipelines.workspace import Workspace


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def _tick(instance: dg.DagsterInstance, home: Home, step: str) -> object:
    """One look of the sensor at a run in which that step failed."""

    @dg.op(name=step)
    def failing() -> None:
        raise dg.Failure("the vase fell")

    @dg.job(name="of_a_test")
    def job() -> None:
        failing()

    result = job.execute_in_process(instance=instance, raise_on_error=False)
    context = dg.build_run_status_sensor_context(
        sensor_name="failed_runs",
        dagster_instance=instance,
        dagster_run=result.dagster_run,
        dagster_event=result.get_run_failure_event(),
        resources={"workspace": Workspace(load_settings(home=home.root), home)},
    )
    return failed_runs(context.for_run_failure())


def test_a_failed_run_is_told_with_the_step_and_its_reason(instance: dg.DagsterInstance, home: Home) -> None:
    _tick(instance, home, "training__lightgbm")
    (alert,) = read_alerts(home)
    assert (alert.source, alert.title) == ("dagster", "The job of_a_test failed")
    assert "training__lightgbm: " in alert.text and "the vase fell" in alert.text
    assert alert.details["steps"] == "training__lightgbm"


@pytest.mark.parametrize("step", [GATES_STEP, "promotion__regression_guard_no_regression"])
def test_a_refused_candidate_is_no_fault_and_what_told_already_is_not_told_again(
    instance: dg.DagsterInstance, home: Home, step: str
) -> None:
    assert isinstance(_tick(instance, home, step), dg.SkipReason)
    assert read_alerts(home) == []


def test_the_sensor_runs_from_the_first_start_on() -> None:
    assert failed_runs.default_status is dg.DefaultSensorStatus.RUNNING
