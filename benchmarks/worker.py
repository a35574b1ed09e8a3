"""The measured process: prepare once, then run whenever the harness asks, one line of JSON per answer.

Runs in the environments of the peers as well, so it needs the standard library alone. Who asks, and what becomes of
the answers, is `benchmarks.harness`.
"""

import gc
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

Arguments = Mapping[str, Any]
Facts = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """What one process measures.

    Attributes:
        run: The timed call.
        describe: What to say about the result of a run, such as the number of cells; not timed, nor is the release
            of the result's memory. Under `samples_ms` it may give the times of single calls in milliseconds.
        reset: Called before each run, not timed: empties caches that would make a second run another measurement.
        facts: What does not change from run to run.
        packages: Distributions whose versions belong into the report.
    """

    run: Callable[[], Any]
    describe: Callable[[Any], Facts] = lambda _: {}
    reset: Callable[[], None] = lambda: None
    facts: Facts = field(default_factory=dict)
    packages: tuple[str, ...] = ()


def serve(prepare: Callable[[Arguments], Task]) -> None:
    """Answer the harness until it closes the connection.

    Reads the arguments from the first line of standard input; after that every line asks for one run. Whatever
    libraries print to standard output goes to standard error.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    task = prepare(json.loads(sys.stdin.readline()))
    _answer(answers, task.facts | {"versions": {name: version(name) for name in task.packages}})
    for _ in sys.stdin:
        task.reset()
        _answer(answers, _timed(task))


def _timed(task: Task) -> Facts:
    gc.collect()
    gc.disable()
    before, started = os.times(), time.perf_counter()
    result = task.run()
    seconds, after = time.perf_counter() - started, os.times()
    gc.enable()
    return {
        "seconds": seconds,
        "user_seconds": after.user - before.user,
        # Mostly the first touch of fresh memory, which costs many times more on some virtual machines.
        "system_seconds": after.system - before.system,
        **task.describe(result),
        "peak_memory_bytes": peak_memory_bytes(),
    }


def peak_memory_bytes() -> int:
    """The most memory that this process has held so far, the interpreter and its libraries included."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not `getrusage`: on Linux its figure starts with that of the process that started this one.
        line = next(line for line in status.read_text("ascii").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def call_times_ms(call: Callable[[], object], warm_up: int, timed: int) -> list[float]:
    """Times of single calls in milliseconds, after calls that are not counted."""
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(timed):
        started = time.perf_counter_ns()
        call()
        times.append((time.perf_counter_ns() - started) / 1e6)
    return times


def _answer(answers: TextIO, payload: Facts) -> None:
    answers.write(json.dumps(payload) + "\n")
    answers.flush()
