"""Compare contestants in one run: each in a process of its own, asked in turn, so that a busy machine slows all alike.

What a process measures is its own module's business (`benchmarks.ours`, `benchmarks.peers`); how results are judged
and shown is `benchmarks.report`'s.
"""

import json
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "benchmarks" / ".peers"
PEERS_COMMAND = "run make bench-peers"
CORES = os.cpu_count() or 1

Outcome = dict[str, Any]

_THREAD_VARIABLES = (
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)


class BenchmarkError(Exception):
    """A measured process failed; the message ends with the last lines it wrote."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One side of a comparison.

    Attributes:
        name: Its name in the report.
        module: What to run, such as `benchmarks.peers.qlib_alpha158`; it calls `benchmarks.worker.serve`.
        arguments: Handed to the module, as JSON.
        environment: Name of the peer whose environment it runs in; None is the platform's own.
        threads: Upper limit for every thread pool of the process.
    """

    name: str
    module: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: str | None = None
    threads: int = 1

    @property
    def python(self) -> Path:
        """The interpreter it runs with."""
        if self.environment is None:
            return Path(sys.executable)
        return PEERS / self.environment / "bin" / "python"


def compare(contestants: Sequence[Contestant], runs: int, result_bytes: int = 0) -> dict[str, Outcome]:
    """Run the contestants in turn, `runs` times, after one round that is not counted.

    Args:
        contestants: Who is compared.
        runs: Rounds that count.
        result_bytes: As much memory is touched and released before every run. Many virtual machines hand out memory on
            first touch, at a cost that would exceed the one of computing what is written to it.

    Returns:
        Per contestant `seconds` and `cpu_seconds` (`minimum`, `median`, `runs`), `fastest_s`, `least_user_s` and
        `least_system_s` of processor time, `peak_memory_mb`, `threads` and what it told of itself; times of single
        calls become `p50_ms`, `p95_ms`, `p99_ms`, `p99_ms_by_run` and `calls`. One whose environment was not built is
        `{"missing": ...}`, and a peer that failed is `{"failed": ...}`.

    Raises:
        BenchmarkError: a process in the platform's own environment failed.
    """
    outcomes: dict[str, Outcome] = {}
    with ExitStack() as processes:
        measured: dict[str, _Process] = {}
        for contestant in contestants:
            if not contestant.python.exists():
                outcomes[contestant.name] = {"missing": PEERS_COMMAND}
                continue
            with _failures_of(contestant, outcomes):
                measured[contestant.name] = processes.enter_context(_started(contestant))
        for _ in range(runs + 1):
            for contestant in contestants:
                if contestant.name in measured and contestant.name not in outcomes:
                    with _failures_of(contestant, outcomes):
                        _touch(result_bytes)
                        measured[contestant.name].run()
        for name, process in measured.items():
            outcomes.setdefault(name, process.outcome())
    return {contestant.name: outcomes[contestant.name] for contestant in contestants}


def _touch(size: int) -> None:
    if not size:
        return
    # In this process, not in the measured one, whose peak memory is reported.
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            # What is released is then found again by those who ask for large pages, as numpy does.
            memory.madvise(mmap.MADV_HUGEPAGE)
        memory[:: mmap.PAGESIZE] = bytes(-(-size // mmap.PAGESIZE))


@contextmanager
def _failures_of(contestant: Contestant, outcomes: dict[str, Outcome]) -> Iterator[None]:
    """A peer that fails is reported and the others go on; a failure of the platform's own ends the comparison."""
    try:
        yield
    except BenchmarkError as error:
        if contestant.environment is None:
            raise
        outcomes[contestant.name] = {"failed": str(error)}


class _Process:
    """A contestant at work: its answers so far, and how to ask for one more."""

    def __init__(self, contestant: Contestant, process: "subprocess.Popen[str]", errors: IO[str]) -> None:
        self._contestant = contestant
        self._process = process
        self._errors = errors
        self._facts = self._ask(json.dumps(dict(contestant.arguments)))
        self._answers: list[Outcome] = []

    def run(self) -> None:
        self._answers.append(self._ask("run"))

    def outcome(self) -> Outcome:
        counted = self._answers[1:]
        last = counted[-1]
        calls = [answer["samples_ms"] for answer in counted if "samples_ms" in answer]
        return {
            "seconds": _spread([answer["seconds"] for answer in counted]),
            "fastest_s": min(answer["seconds"] for answer in counted),
            "cpu_seconds": _spread([answer["user_seconds"] + answer["system_seconds"] for answer in counted]),
            "least_user_s": min(answer["user_seconds"] for answer in counted),
            "least_system_s": min(answer["system_seconds"] for answer in counted),
            "peak_memory_mb": round(last["peak_memory_bytes"] / 1e6),
            "threads": self._contestant.threads,
            **(_latency(calls) if calls else {}),
            **{name: value for name, value in last.items() if name not in _MEASURED},
            **self._facts,
        }

    def _ask(self, line: str) -> Outcome:
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101 - both are pipes
        with suppress(BrokenPipeError):  # it ended; what it wrote last says why
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self._errors.seek(0)
            last_lines = "\n".join(self._errors.read().splitlines()[-15:])
            raise BenchmarkError(f"Expected {self._contestant.module} to answer, but it ended:\n{last_lines}")
        parsed: Outcome = json.loads(answer)
        return parsed


_MEASURED = {"seconds", "user_seconds", "system_seconds", "peak_memory_bytes", "samples_ms"}


@contextmanager
def _started(contestant: Contestant) -> Iterator[_Process]:
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as errors,
        subprocess.Popen(  # noqa: S603 - a module of this package, in an environment of this repository
            [str(contestant.python), "-m", contestant.module],
            cwd=ROOT,
            env=_environment(contestant.threads),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield _Process(contestant, process, errors)
        finally:
            process.kill()
            with suppress(BrokenPipeError):  # a line that a process which ended did not take
                process.communicate()


def _environment(threads: int) -> dict[str, str]:
    limits = dict.fromkeys(_THREAD_VARIABLES, str(threads))
    return {**os.environ, **limits, "OMP_WAIT_POLICY": "passive", "PYTHONPATH": ""}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {"minimum": min(values), "median": statistics.median(values), "runs": list(values)}


def _latency(calls_by_run: Sequence[Sequence[float]]) -> dict[str, Any]:
    calls = [call for run in calls_by_run for call in run]
    return {
        "p50_ms": statistics.median(calls),
        "p95_ms": _percentile(calls, 95),
        "p99_ms": _percentile(calls, 99),
        "calls": len(calls),
        # On a busy machine runs differ; the quietest one says what the code can do.
        "p99_ms_by_run": [_percentile(run, 99) for run in calls_by_run],
    }


def _percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
