import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pybreaker
import pytest

from levibot_core import resilience
from levibot_core.errors import MissingFeatureError, OnlineStoreError
from levibot_core.resilience import CircuitOpenError, Dependency, Patience

PATIENCE = Patience(attempts=2, longest_pause_s=0.001, open_after=2, open_seconds=0.05)


class Notes:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.retries = 0
        self.failures = 0
        self.states: list[str] = []

    def count_retry(self, dependency: str) -> None:
        assert dependency == "online_store"
        self.retries += 1

    def count_dependency_failure(self, dependency: str) -> None:
        assert dependency == "online_store"
        self.failures += 1

    def set_circuit_state(self, dependency: str, state: str) -> None:
        assert dependency == "online_store"
        self.states.append(state)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def dependency(notes: Notes) -> Dependency:
    return Dependency("online_store", (OnlineStoreError,), notes, PATIENCE)


class Flaky:
    """Fails so many times, then answers."""

    def __init__(self, failures: int) -> None:
        self.left = failures
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise OnlineStoreError("away")
        return "here"


def test_a_call_that_fails_once_is_tried_again(dependency: Dependency, notes: Notes) -> None:
    assert dependency.call(Flaky(1)) == "here"
    assert (notes.retries, notes.failures, dependency.state) == (1, 0, "closed")


def test_failures_in_a_row_open_the_circuit_and_nobody_calls_until_it_is_tried(
    dependency: Dependency, notes: Notes
) -> None:
    flaky = Flaky(4)
    for _ in range(2):
        with pytest.raises(OnlineStoreError, match="away"):
            dependency.call(flaky)
    assert (dependency.state, notes.failures, flaky.calls) == ("open", 2, 4)
    with pytest.raises(CircuitOpenError, match=r"online store, which does not answer .* Last it said: away"):
        dependency.call(flaky)
    assert flaky.calls == 4
    time.sleep(PATIENCE.open_seconds)
    assert dependency.call(flaky) == "here"
    assert notes.states == ["closed", "open", "half-open", "closed"]


def test_a_trial_that_fails_leaves_the_circuit_open(dependency: Dependency) -> None:
    flaky = Flaky(6)
    for _ in range(2):
        with pytest.raises(OnlineStoreError):
            dependency.call(flaky)
    time.sleep(PATIENCE.open_seconds)
    with pytest.raises(OnlineStoreError):
        dependency.call(flaky)
    assert dependency.state == "open"


def test_an_error_that_is_an_answer_is_neither_tried_again_nor_held_against_it(
    dependency: Dependency, notes: Notes
) -> None:
    def answers() -> None:
        raise MissingFeatureError("there is none")

    for _ in range(5):
        with pytest.raises(MissingFeatureError):
            dependency.call(answers)
    assert (dependency.state, notes.retries) == ("closed", 0)


def test_a_wall_clock_that_jumps_back_does_not_keep_the_circuit_open(
    dependency: Dependency, monkeypatch: pytest.MonkeyPatch
) -> None:
    flaky = Flaky(4)
    for _ in range(2):
        with pytest.raises(OnlineStoreError):
            dependency.call(flaky)

    class Yesterday(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime.now(tz or UTC) - timedelta(days=1)

    monkeypatch.setattr(pybreaker, "datetime", Yesterday)
    monkeypatch.setattr(resilience, "datetime", Yesterday)
    time.sleep(PATIENCE.open_seconds)
    assert dependency.call(flaky) == "here"
