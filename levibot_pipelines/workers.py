"""Run a function over many arguments in several processes: results come as they are ready.

Unlike with the pools of the standard library, a worker that is killed is an error at once and not a wait without end,
and a worker whose parent was killed ends with the call it is at.
"""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from levibot_core.errors import WorkerDiedError

A = TypeVar("A")
R = TypeVar("R")


def in_processes(function: Callable[[A], R], arguments: Sequence[A], *, processes: int, calls_each: int) -> Iterator[R]:
    """Results of the function, in the order in which they are ready.

    Args:
        function: Of a module that can be imported; it is pickled, as are arguments and results.
        arguments: One per call.
        processes: How many run at a time.
        calls_each: Calls after which a process is replaced by a new one: libraries hold on to memory.

    Raises:
        WorkerDiedError: a process ended in the middle of a call.
        Exception: whatever the function raised.
    """
    waiting = deque(arguments)
    working: list[_Worker[A, R]] = []
    try:
        while waiting or working:
            while waiting and len(working) < processes:
                working.append(_Worker(function))
                working[-1].ask(waiting.popleft())
            ready = set(wait([worker.link for worker in working]))
            for worker in [worker for worker in working if worker.link in ready]:
                result = worker.answer()
                if waiting and worker.calls < calls_each:
                    worker.ask(waiting.popleft())
                else:
                    working.remove(worker)
                    worker.end()
                yield result
    finally:
        for worker in working:
            worker.process.terminate()
            worker.end()


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker(Generic[A, R]):
    """A process that calls the function with what it is sent."""

    def __init__(self, function: Callable[[A], R]) -> None:
        context = multiprocessing.get_context("spawn")
        self.link, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, function), daemon=True)
        self.process.start()
        # Were it open here too, nobody would be told that the process is gone.
        theirs.close()
        self.calls = 0

    def ask(self, argument: A) -> None:
        self.calls += 1
        self.link.send(argument)

    def answer(self) -> R:
        try:
            result, error = self.link.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            raise WorkerDiedError(
                f"Expected a process to finish what it was given, but it ended with code {self.process.exitcode} (-9: "
                "killed, as for want of memory). What was finished before is kept: start again."
            ) from None
        if error is not None:
            raise error
        found: R = result
        return found

    def end(self) -> None:
        self.link.close()
        self.process.join()


def _serve(link: "Connection[Any, Any]", function: Callable[[Any], Any]) -> None:
    """Answer until the other end is gone."""
    # Ctrl-C reaches every process of a terminal: a worker ends without a word, its parent says what there is to say.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    with suppress(EOFError, BrokenPipeError):
        while True:
            argument = link.recv()
            try:
                result, failure = function(argument), None
            except Exception as error:
                result, failure = None, error
            link.send((result, failure))
