"""The Dagster instance of a home: its configuration file, and what a killed process left behind in it."""

import os
from importlib.resources import files
from typing import TYPE_CHECKING

from levibot_core.stores.files import write_text_atomically
from levibot_core.stores.paths import Home

if TYPE_CHECKING:
    from dagster import DagsterInstance

OWNER_TAG = "levibot/owner_pid"


def prepare_instance(home: Home) -> None:
    """Give the home its `dagster.yaml` and make it the DAGSTER_HOME of this process and its children."""
    wanted = files(__package__).joinpath("dagster.yaml").read_text("utf-8")
    path = home.dagster / "dagster.yaml"
    if not path.exists() or path.read_text("utf-8") != wanted:
        write_text_atomically(path, wanted)
    os.environ["DAGSTER_HOME"] = str(home.dagster)


def close_abandoned_runs(instance: "DagsterInstance") -> int:
    """Mark as failed every unfinished run that a dead `levibot` process owned; return how many.

    A run in the Dagster daemon's hands carries no owner tag and is left to the daemon's own monitoring.
    """
    from dagster import DagsterRunStatus, RunsFilter

    unfinished = [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED]
    abandoned = [
        run
        for run in instance.get_runs(filters=RunsFilter(statuses=unfinished))
        if OWNER_TAG in run.tags and not process_lives(run.tags[OWNER_TAG])
    ]
    for run in abandoned:
        instance.report_run_failed(run, "The process that worked on this run ended without finishing it.")
    return len(abandoned)


def process_lives(pid: str | None) -> bool:
    """Whether a process of that id exists now. An id that was reused counts as alive: nothing is closed by mistake."""
    if pid is None or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
