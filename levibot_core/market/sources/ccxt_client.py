"""The ccxt client as the platform uses it: public endpoints only, bounded retries, no page that is silently empty.

Which exchange is taken, and how candles are paged through, is decided in `levibot_core.market.sources.exchange`.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import ccxt
from tenacity import (
    RetryCallState,
    Retrying,
    before_sleep_log,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential_jitter,
)

from levibot_core.errors import ConfigurationError, SourceUnreachableError
from levibot_core.resilience import CircuitOpenError, Dependency, Patience

_Answer = TypeVar("_Answer")
_log = logging.getLogger(__name__)

# What a second attempt may cure: the network, rate limits, maintenance and server errors, unreadable bodies.
_PASSING = (ccxt.NetworkError, ccxt.BadResponse)
# The same without a network that does not answer at all.
_ANSWERED_BADLY = (ccxt.RateLimitExceeded, ccxt.DDoSProtection, ccxt.ExchangeNotAvailable, ccxt.BadResponse)
_PASSING_STATUS = (408, 418, 429)
# Market lists that are needed, where ccxt lets one choose; the others load everything in one or two requests.
_MARKET_TYPES = {
    "binance": ["spot", "linear"],
    "bybit": ["spot", "linear"],
    "okx": ["spot", "swap"],
}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient a client is. Waits double from the first to the longest, with jitter, and honour `Retry-After`."""

    attempts: int = 6
    first_wait_s: float = 0.5
    longest_wait_s: float = 30.0
    request_timeout_s: float = 10.0
    pause_ms: int | None = None
    """Pause between requests; None is what the exchange asks for. Only a replay may be asked faster."""
    open_after: int = 2
    """Requests in a row that failed for good, after which nobody is asked: the next symbol would only wait as long."""
    open_s: float = 30.0
    """For how long; then one request finds out."""


class MalformedPageError(ccxt.BadResponse):  # type: ignore[misc]
    """An exchange answered with something that is not the page asked for; asking again may help."""


class _TellsFailuresApart:
    """Mix-in for ccxt clients, where ccxt 4.5 loses the cause of a failure.

    A body that is not JSON is handed on as text, in which no rows are found; and a rate limit or a server error with
    an error code that the exchange's client does not know becomes a failure that would not be worth a second attempt.
    """

    id: str

    def handle_errors(
        self, code: int, reason: str, url: str, method: str, headers: Any, body: str, response: Any, *request: Any
    ) -> Any:
        if code in _PASSING_STATUS or code >= 500:
            self.handle_http_status_code(code, reason, url, method, body)  # type: ignore[attr-defined]
        if response is None and code < 400:
            raise MalformedPageError(f"{self.id} {method} {url} answered {code} with a body that is not JSON")
        return super().handle_errors(code, reason, url, method, headers, body, response, *request)  # type: ignore[misc]


class Client:
    """One exchange behind ccxt, without any key.

    Args:
        exchange_id: Name of the exchange in ccxt, such as `binance`.
        base_url: Replaces scheme and host of every address, for a replay of the exchange; None for the real one.
        retry: How patient to be.

    Raises:
        ConfigurationError: ccxt knows no such exchange.
    """

    def __init__(self, exchange_id: str, base_url: str | None, retry: RetryPolicy) -> None:
        if exchange_id not in ccxt.exchanges:
            raise ConfigurationError(
                f"LEVIBOT_EXCHANGES expected exchanges that ccxt knows, such as mexc or binance, was {exchange_id!r}."
            )
        self.id = exchange_id
        strict = type(exchange_id, (_TellsFailuresApart, getattr(ccxt, exchange_id)), {})
        self.api: Any = strict({"enableRateLimit": True, "timeout": int(retry.request_timeout_s * 1000)})
        self.api.has["fetchCurrencies"] = False
        if retry.pause_ms is not None:
            self.api.rateLimit = retry.pause_ms
        if exchange_id in _MARKET_TYPES:
            self.api.options["fetchMarkets"] = {"types": _MARKET_TYPES[exchange_id]}
        if base_url is not None:
            self.api.urls["api"] = _rebased(self.api.urls["api"], base_url.rstrip("/"))
        self._retry = retry
        # Its attempts are made here, where `Retry-After` is known.
        patience = Patience(attempts=1, open_after=retry.open_after, open_seconds=retry.open_s)
        self._dependency = Dependency("exchange", _PASSING, patience=patience)

    def ask(self, request: Callable[[], _Answer], insist: bool = True) -> _Answer:
        """The answer to a request, asked again while the failure may pass and patience lasts.

        Args:
            request: Makes one request through `api`.
            insist: Whether to ask again also when there was no answer at all, not only when there was a bad one.

        Raises:
            SourceUnreachableError: it failed for good, or was not asked because it did lately; the cause is in the
                message.
            ccxt.BadSymbol: the exchange does not know the symbol.
        """
        retrying = Retrying(
            stop=stop_after_attempt(self._retry.attempts),
            wait=self._wait,
            retry=retry_if_exception_type(_PASSING if insist else _ANSWERED_BADLY),
            before_sleep=before_sleep_log(_log, logging.INFO),
            reraise=True,
        )
        try:
            return self._dependency.call(lambda: retrying(request))
        except ccxt.BadSymbol:
            raise
        except CircuitOpenError as error:
            raise unreachable({self.id: error}, "to several requests") from error
        except ccxt.BaseError as error:
            raise unreachable({self.id: error}, f"in up to {self._retry.attempts} attempts") from error

    def _wait(self, state: RetryCallState) -> float:
        first, longest = self._retry.first_wait_s, self._retry.longest_wait_s
        backoff = wait_exponential_jitter(multiplier=first, max=longest, jitter=first)(state)
        if state.outcome is None or not isinstance(state.outcome.exception(), _ANSWERED_BADLY):
            return backoff
        asked = str((self.api.last_response_headers or {}).get("Retry-After", ""))
        return min(longest, max(backoff, float(asked))) if asked.isdigit() else backoff


def unreachable(causes: dict[str, Exception], when: str) -> SourceUnreachableError:
    """The error that says which exchanges were tried, why each failed, and which ways out there are."""
    tried = "; ".join(f"{name}: {_one_line(error)}" for name, error in causes.items())
    return SourceUnreachableError(
        f"Expected an answer from an exchange, but there was none {when} ({tried}). Check the network and "
        "LEVIBOT_EXCHANGES, or choose LEVIBOT_SOURCE=recorded with LEVIBOT_MARKET_DATA, or LEVIBOT_SOURCE=simulated."
    )


def _one_line(error: Exception) -> str:
    first = error.__cause__ if isinstance(error, SourceUnreachableError) and error.__cause__ else error
    return f"{type(first).__name__} {' '.join(str(first).split())[:160]}".strip()


def _rebased(address: Any, base_url: str) -> Any:
    if isinstance(address, dict):
        return {name: _rebased(inner, base_url) for name, inner in address.items()}
    return re.sub(r"^https?://[^/]+", base_url, address)
