"""`levibot features attack`: plant mistakes in a small pipeline and see that the leak guard catches each."""

from types import TracebackType
from typing import Self

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from levibot_core.config import load_settings
from levibot_core.features.registry import load_registry
from levibot_core.validation.attack.suite import LeakOutcome, Outcome, SuiteResult, outcomes_count, run_suite
from levibot_pipelines.cli.output import messages, print_json, print_table, results


def attack(as_json: bool, seed: int) -> None:
    """Run the suite and show what it found; exit code 1 unless every leak was caught and no clean run alarmed."""
    with _Progress() as progress:
        result = run_suite(load_registry(load_settings().feature_set), seed, progress.show)
    if as_json:
        print_json(_as_json(result))
    else:
        _show(result)
    if not result.passed:
        raise typer.Exit(1)


def _show(result: SuiteResult) -> None:
    print_table(
        f"{len(result.leaks)} planted leaks",
        ("leak", "stage", "caught by", "seconds"),
        [
            (
                leak.mutation.name,
                leak.mutation.stage,
                _caught_by(leak),
                f"{leak.seconds:.1f}",
            )
            for leak in result.leaks
        ],
    )
    print_table(
        f"{len(result.clean)} clean runs",
        ("run", "false alarms", "seconds"),
        [(run.name, "; ".join(run.alarms) or "none", f"{run.seconds:.1f}") for run in result.clean],
    )
    caught = len(result.leaks) - len(result.missed)
    results.print(
        f"{caught} of {len(result.leaks)} leaks caught, {len(result.false_alarms)} false alarms, {result.seconds:.0f} s"
    )


def _caught_by(leak: LeakOutcome) -> str:
    """One check a line: the names are long."""
    return "\n".join(leak.failed) if leak.caught else f"MISSED: {', '.join(leak.failed) or 'no check failed'}"


def _as_json(result: SuiteResult) -> dict[str, object]:
    return {
        "planted": len(result.leaks),
        "caught": len(result.leaks) - len(result.missed),
        "false_alarms": len(result.false_alarms),
        "clean_runs": len(result.clean),
        "seconds": round(result.seconds, 1),
        "leaks": [
            {
                "name": leak.mutation.name,
                "stage": leak.mutation.stage,
                "mistake": leak.mutation.mistake,
                "caught": leak.caught,
                "caught_by": list(leak.failed),
                "expected": list(leak.mutation.caught_by),
                "seconds": round(leak.seconds, 2),
            }
            for leak in result.leaks
        ],
        "alarms": list(result.false_alarms),
    }


class _Progress:
    """One line that counts what was attacked, on a terminal; a line per outcome in a log file."""

    def __init__(self) -> None:
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
        self._bar = Progress(*columns, console=messages, transient=True)

    def __enter__(self) -> Self:
        self._bar.start()
        self._task = self._bar.add_task("attacking", total=outcomes_count())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, outcome: Outcome) -> None:
        """Take in one outcome."""
        name = outcome.mutation.name if isinstance(outcome, LeakOutcome) else outcome.name
        self._bar.update(self._task, advance=1, description=name)
        if not messages.is_terminal:
            messages.print(f"attacked {name} ({outcome.seconds:.1f} s)", highlight=False, soft_wrap=True)
