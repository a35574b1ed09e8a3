"""What keeps the failure of one dependency from becoming ours: retries with back-off behind a circuit breaker.

A dependency is anything that may be away or slow: the online store on a server, the model registry, the orchestrator,
an exchange. A call is tried again after a short random pause; when calls fail in a row the circuit opens, callers are
refused at once, and one call every few seconds finds out whether it is back. What a caller does instead is its own
business; so is to wait without blocking an event loop.

A breaker holds a lock while it calls, so a dependency is called by one thread at a time. That is on purpose: a slow
dependency never holds more than one thread.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, Protocol, TypeVar, cast

import pybreaker
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from levibot_core.errors import LevibotError

logger = logging.getLogger(__name__)

DependencyName = Literal["online_store", "forecast_cache", "model_registry", "orchestrator", "exchange"]
CircuitState = Literal["closed", "half-open", "open"]
_Result = TypeVar("_Result")


class CircuitOpenError(LevibotError):
    """A dependency failed several times in a row and is left alone for some seconds."""


class DependencyObserver(Protocol):
    """Who is told what happens; the metrics are."""

    def count_retry(self, dependency: str) -> None:
        """A call failed and is tried again."""
        ...

    def count_dependency_failure(self, dependency: str) -> None:
        """A call failed for good."""
        ...

    def set_circuit_state(self, dependency: str, state: CircuitState) -> None:
        """The circuit of the dependency is in that state from now on."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How much a dependency is put up with.

    Attributes:
        attempts: Calls before a failure counts, at least 1.
        longest_pause_s: Longest pause between two of them, seconds; the first is random up to a fiftieth of a second.
        open_after: Failures in a row that open the circuit.
        open_seconds: How long it stays open before one call finds out.
    """

    attempts: int = 2
    longest_pause_s: float = 0.1
    open_after: int = 5
    open_seconds: float = 2.0


class Dependency:
    """One dependency of this process, with its circuit. Safe to share between threads."""

    def __init__(
        self,
        name: DependencyName,
        failures: tuple[type[Exception], ...],
        observer: DependencyObserver | None = None,
        patience: Patience | None = None,
    ) -> None:
        """A closed circuit.

        Args:
            name: What it is called in metrics and messages.
            failures: Exceptions that say that the dependency is not well. Any other is an answer.
            observer: Is told of retries, failures and the state of the circuit; nobody is, if None.
            patience: The defaults of `Patience` when not given.
        """
        self.name = name
        self.patience = patience or Patience()
        self._failures = failures
        self._observer = observer = observer or _Nobody()
        self._last_failure: Exception | None = None
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=self.patience.open_after,
            reset_timeout=self.patience.open_seconds,
            exclude=[lambda error: not isinstance(error, failures)],
            listeners=[_Listener(name, observer)],
            state_storage=_SteadyClockStorage(pybreaker.STATE_CLOSED),
            name=name,
            throw_new_error_on_trip=False,
        )
        self._retrying = Retrying(
            stop=stop_after_attempt(self.patience.attempts),
            wait=wait_random_exponential(multiplier=0.02, max=self.patience.longest_pause_s),
            retry=retry_if_exception_type(failures),
            before_sleep=self._note_retry,
            reraise=True,
        )
        observer.set_circuit_state(name, "closed")

    @property
    def state(self) -> CircuitState:
        """The state of the circuit."""
        return cast(CircuitState, self._breaker.current_state)

    def call(self, function: Callable[[], _Result]) -> _Result:
        """Call the dependency; blocks for as long as all attempts take, so not on the event loop.

        Raises:
            CircuitOpenError: it was not called, since it failed lately.
            Exception: what the function raised last.
        """
        try:
            result: _Result = self._breaker.call(self._attempt, function)
        except pybreaker.CircuitBreakerError as error:
            raise CircuitOpenError(
                f"Expected an answer of the {self.name.replace('_', ' ')}, which does not answer and is asked again "
                f"within {self.patience.open_seconds:g} s. Last it said: {self._last_failure}"
            ) from error
        return result

    def _attempt(self, function: Callable[[], _Result]) -> _Result:
        try:
            return self._retrying(function)
        except self._failures as error:
            self._last_failure = error
            self._observer.count_dependency_failure(self.name)
            raise

    def _note_retry(self, _state: RetryCallState) -> None:
        self._observer.count_retry(self.name)


class _Nobody:
    """Is told and does nothing."""

    def count_retry(self, dependency: str) -> None:
        """See `DependencyObserver`."""

    def count_dependency_failure(self, dependency: str) -> None:
        """See `DependencyObserver`."""

    def set_circuit_state(self, dependency: str, state: CircuitState) -> None:
        """See `DependencyObserver`."""


class _Listener(pybreaker.CircuitBreakerListener):
    """Passes on how the state of a circuit changes."""

    def __init__(self, name: str, observer: DependencyObserver) -> None:
        self._name = name
        self._observer = observer

    def state_change(self, cb: Any, old_state: Any, new_state: Any) -> None:
        del cb, old_state  # Required by the listener's signature.
        logger.warning("The circuit of the %s is %s now", self._name.replace("_", " "), new_state.name)
        self._observer.set_circuit_state(self._name, new_state.name)


class _SteadyClockStorage(pybreaker.CircuitMemoryStorage):
    """Knows by the monotonic clock when the circuit opened: a wall clock that jumps back must not keep it open."""

    def __init__(self, state: str) -> None:
        super().__init__(state)
        self._opened: float | None = None

    @property
    def opened_at(self) -> datetime | None:
        """Now, less the time that the circuit has been open."""
        if self._opened is None:
            return None
        return datetime.now(UTC) - timedelta(seconds=time.monotonic() - self._opened)

    @opened_at.setter
    def opened_at(self, opened_at: datetime) -> None:
        del opened_at  # By the wall clock.
        self._opened = time.monotonic()
