"""A run's progress on a terminal: the stage under way with its newest message, finished ones above it.

On a terminal one line is redrawn; in a log file each finished stage is one line.
"""

import time
from types import TracebackType
from typing import Self

from rich.markup import escape
from rich.progress import Progress as Bar
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from levibot_pipelines.cli.output import messages
from levibot_pipelines.runner import GATES_STEP, Progress

# Longer ones (dbt's, say) are for the event log, not for a line that is redrawn.
_LONGEST_MESSAGE = 80


class ProgressView:
    """Shows the events of one run. A context manager, so that the terminal is restored whatever happens."""

    def __init__(self) -> None:
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=messages,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, float] = {}

    def __enter__(self) -> Self:
        self._bar.start()
        self._waiting = self._bar.add_task("loading the definitions")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Take in one event of the run."""
        title = progress.step.replace("__", "/")
        if progress.kind == "began":
            self._bar.update(self._waiting, visible=False)
            self._began[progress.step] = time.monotonic()
            self._tasks[progress.step] = self._bar.add_task(title)
        elif progress.kind == "said" and progress.step in self._tasks and len(progress.message) <= _LONGEST_MESSAGE:
            self._bar.update(self._tasks[progress.step], description=f"{title}: {escape(progress.message)}")
            if not messages.is_terminal:
                messages.print(f"    {title}: {progress.message}", highlight=False, soft_wrap=True, markup=False)
        elif progress.kind in ("ended", "failed"):
            self._finish(progress, title)

    def _finish(self, progress: Progress, title: str) -> None:
        task = self._tasks.pop(progress.step, None)
        if task is not None:
            self._bar.remove_task(task)
        seconds = time.monotonic() - self._began.pop(progress.step, time.monotonic())
        messages.print(f"{_mark(progress)} {title:<36} {seconds:6.1f} s", highlight=False, soft_wrap=True)


def _mark(progress: Progress) -> str:
    if progress.kind == "ended":
        return "[green]done[/]   "
    # A gate that refuses a candidate did its work.
    return "[yellow]refused[/]" if progress.step == GATES_STEP else "[red]failed[/] "
