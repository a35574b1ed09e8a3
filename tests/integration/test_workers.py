"""Work shared by processes: every result comes, errors come through, and a worker that is killed is not waited for."""

import math
import os

import pytest

from levibot_core.errors import WorkerDiedError
from levibot_pipelines.workers import available_cores, in_processes


def test_every_result_comes_also_when_processes_are_replaced() -> None:
    found = in_processes(math.factorial, range(5), processes=2, calls_each=2)
    assert sorted(found) == [1, 1, 2, 6, 24]
    assert list(in_processes(math.factorial, (), processes=2, calls_each=2)) == []
    assert available_cores() >= 1


def test_what_a_call_raises_is_raised_here_and_what_came_before_stays() -> None:
    found = in_processes(math.sqrt, (4.0, -1.0, 9.0), processes=1, calls_each=5)
    assert next(found) == 2.0
    with pytest.raises(ValueError, match=r"nonnegative|domain"):
        next(found)


def test_a_process_that_dies_in_a_call_is_an_error() -> None:
    with pytest.raises(WorkerDiedError, match="ended with code 3"):
        list(in_processes(os._exit, (3, 3), processes=2, calls_each=1))
