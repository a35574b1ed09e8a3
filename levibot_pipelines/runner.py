"""Run a job of the platform in this process, watched by a person at a shell.

The Dagster UI, schedules and sensors start the same jobs through the daemon. This module adds what a shell needs:
one run at a time per home, recovery from a killed predecessor, progress, and a verdict that tells a refused
candidate (a correct result) from a failure.
"""

import os
import threading
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from sqlalchemy.exc import SQLAlchemyError

from levibot_core import errors
from levibot_core.errors import HomeBusyError, HomeNotWritableError
from levibot_core.stores.paths import Home
from levibot_pipelines.instance import OWNER_TAG, close_abandoned_runs, prepare_instance
from levibot_pipelines.workspace import Workspace

if TYPE_CHECKING:
    from dagster import DagsterEvent, DagsterInstance, ExecuteInProcessResult

LIFECYCLE, INGEST, RETRAIN, SHADOW, GUARD = "lifecycle", "ingest", "retrain", "shadow", "guard"
BACKTEST_ON_REQUEST = "backtest_on_request"
"""Names of the jobs; kept here so that naming one does not load Dagster."""
GATES_STEP = "promotion_gates"
"""Name of the check that refuses a candidate."""
CHAMPION_STEP, CHALLENGER_STEP = (
    "promotion__champion_watch_champion_no_worse",
    "promotion__shadow_challenger_no_worse",
)
"""Steps of the checks that say that a champion, or a challenger, is worse than what it is compared with."""
VERDICT_STEPS = frozenset({GATES_STEP, CHAMPION_STEP, CHALLENGER_STEP})
"""Steps that fail where a model was found wanting: every stage did its work, and nothing is broken."""
# Dagster lists a run under its code location by this tag.
_REPOSITORY_TAG, _REPOSITORY = ".dagster/repository", "__repository__@levibot"
_POLL_SECONDS = 0.3


@dataclass(frozen=True, slots=True)
class Progress:
    """Something that happened in a run: a step began, said something or ended."""

    kind: str
    step: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended."""

    run_id: str
    succeeded: bool
    refused: bool
    failures: Mapping[str, str]

    @property
    def ended_well(self) -> bool:
        """True when every stage did its work, whatever was found of the models."""
        return self.succeeded or self.refused


OnProgress = Callable[[Progress], None]


@contextmanager
def lifecycle_lock(home: Home, wait: bool, on_wait: Callable[[str], None]) -> Iterator[None]:
    """Hold the home for one lifecycle at a time.

    Raises:
        HomeBusyError: another process holds it and `wait` is False.
    """
    lock = FileLock(home.lock)
    owner = home.lock.with_suffix(".pid")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        holder = owner.read_text("utf-8") if owner.exists() else "unknown"
        found = f"process {holder} is already working in {home.root}"
        if not wait:
            raise HomeBusyError(f"Expected to be alone, but {found}. Wait for it to end.") from None
        on_wait(f"Waiting: {found}. This run goes on when it ends.")
        lock.acquire()
    try:
        owner.write_text(str(os.getpid()), encoding="utf-8")
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def run_job(workspace: Workspace, job_name: str, tags: Mapping[str, str], on_progress: OnProgress) -> RunOutcome:
    """Run a job to its end in this process, reporting progress from its event log.

    The caller holds `lifecycle_lock`.

    Raises:
        HomeBusyError: the Dagster daemon is working in this home.
        HomeNotWritableError: the home's device is full or fails, now or in the middle of the run; what was finished
            before stays, and the next run goes on from it.
    """
    workspace.home.require_free_space()
    prepare_instance(workspace.home)
    # Imported late: loading Dagster and every definition takes seconds, and reads DAGSTER_HOME.
    warnings.filterwarnings("ignore", module="dagster")
    import dagster as dg

    from levibot_pipelines.definitions import defs

    with _storage_trouble_in_words(workspace.home), dg.DagsterInstance.get() as instance:
        close_abandoned_runs(instance)
        _refuse_when_busy(instance, workspace.home)
        run_id = str(uuid.uuid4())
        stop = threading.Event()
        watcher = threading.Thread(target=_watch, args=(instance, run_id, on_progress, stop), daemon=True)
        watcher.start()
        try:
            # dbt talks on standard output, which belongs to the command's result.
            with (workspace.home.logs / "lifecycle.log").open("a", encoding="utf-8") as log, redirect_stdout(log):
                job = defs().resolve_job_def(job_name)
                result = job.execute_in_process(
                    instance=instance,
                    run_id=run_id,
                    raise_on_error=False,
                    # The progress view shows what matters; the event log keeps everything.
                    run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                    tags={**tags, OWNER_TAG: str(os.getpid()), _REPOSITORY_TAG: _REPOSITORY},
                )
        finally:
            stop.set()
            watcher.join()
    return _outcome(run_id, result)


@contextmanager
def _storage_trouble_in_words(home: Home) -> Iterator[None]:
    """Dagster's own records are SQLite files in the home; what its driver says of a full disk helps nobody."""
    try:
        yield
    except SQLAlchemyError as error:
        home.require_free_space()
        cause = getattr(error, "orig", None) or error
        raise HomeNotWritableError(
            f"Expected to write Dagster's records in {home.dagster}, but the database says: {cause}. Make sure that "
            "the device works and has space, then run the command again: it goes on from what is finished."
        ) from error


def _refuse_when_busy(instance: "DagsterInstance", home: Home) -> None:
    from dagster import DagsterRunStatus, RunsFilter

    for run in instance.get_runs(filters=RunsFilter(statuses=[DagsterRunStatus.STARTED]), limit=1):
        raise HomeBusyError(
            f"Expected no run in {home.root}, but the Dagster daemon is working on {run.job_name} ({run.run_id[:8]}). "
            "Wait for it to end or cancel it in the Dagster UI, then run the command again."
        )


def _outcome(run_id: str, result: "ExecuteInProcessResult") -> RunOutcome:
    failed_checks = _failed_checks(result)
    failures = {
        step: failed_checks.get(step) or _reason(event)
        for event in result.all_events
        if event.is_step_failure
        for step in (event.step_key or "run",)
    }
    return RunOutcome(
        run_id=run_id,
        succeeded=result.success,
        refused=not result.success and bool(failures) and failures.keys() <= VERDICT_STEPS,
        failures=failures,
    )


def _failed_checks(result: "ExecuteInProcessResult") -> dict[str, str]:
    """What the failed blocking checks of each step found; Dagster's own error has their names alone."""
    found: dict[str, list[str]] = {}
    for event in result.all_events:
        if event.event_type_value == "ASSET_CHECK_EVALUATION":
            check = event.asset_check_evaluation_data
            if not check.passed and check.blocking:
                found.setdefault(event.step_key or "run", []).append(f"{check.check_name}: {check.description}")
    return {step: "; ".join(said) for step, said in found.items()}


def _reason(event: "DagsterEvent") -> str:
    """What a person needs of a failure: the platform's own words where it has some, else the innermost cause."""
    error = event.step_failure_data.error
    if error is None:
        return event.message or "unknown reason"
    while error.cause is not None and error.cls_name not in errors.__all__:
        error = error.cause
    return error.message.strip().removeprefix("levibot_core.errors.").removeprefix(f"{error.cls_name}: ")


def _watch(instance: "DagsterInstance", run_id: str, on_progress: OnProgress, stop: threading.Event) -> None:
    """Follow a run's event log until told to stop; the last look comes after the run has ended."""
    cursor: str | None = None
    while True:
        last = stop.wait(_POLL_SECONDS)
        try:
            connection = instance.get_records_for_run(run_id, cursor=cursor)
        except SQLAlchemyError:
            return  # The run itself meets the same trouble and reports it.
        for record in connection.records:
            progress = _progress(record.event_log_entry)
            if progress is not None:
                on_progress(progress)
        cursor = connection.cursor
        if last and not connection.has_more:
            return


def _progress(entry: object) -> Progress | None:
    from dagster import DagsterEventType, EventLogEntry

    if not isinstance(entry, EventLogEntry) or not entry.step_key:
        return None
    if entry.dagster_event is None:
        return Progress("said", entry.step_key, entry.user_message)
    kinds = {
        DagsterEventType.STEP_START: "began",
        DagsterEventType.STEP_SUCCESS: "ended",
        DagsterEventType.STEP_FAILURE: "failed",
        DagsterEventType.STEP_SKIPPED: "skipped",
    }
    kind = kinds.get(entry.dagster_event.event_type)
    return Progress(kind, entry.step_key) if kind else None
