"""How the client talks: attach the token, refresh it once when it is refused, wait and try again when that may help.

Written once, without input or output: a generator says what to do next, and the synchronous and the asynchronous client
do it. What can be asked is in `.calls`.
"""

import random
from collections.abc import Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from levibot_serving.client.calls import Call
from levibot_serving.client.errors import ConnectionFailedError, LevibotClientError, error_of

_Result = TypeVar("_Result")

_PASSING = (429, 503)
_REFUSED = (400, 401, 403, 422)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How patient the client is. Waits double, with jitter, and what `Retry-After` asks for is waited at least.

    Attributes:
        attempts: Of one request, the first included.
        first_wait_s: Before the second attempt.
        longest_wait_s: Where the API asks for more, the error is raised at once.
    """

    attempts: int = 4
    first_wait_s: float = 0.25
    longest_wait_s: float = 30.0

    def wait_s(self, attempt: int, asked_s: float | None) -> float | None:
        """Seconds to wait after that attempt, counted from 1; None is not to try again."""
        if attempt >= self.attempts or (asked_s is not None and asked_s > self.longest_wait_s):
            return None
        backoff = min(self.longest_wait_s, self.first_wait_s * 2.0 ** (attempt - 1))
        return max(asked_s or 0.0, backoff * random.uniform(0.5, 1.0))  # noqa: S311 - spreads callers, hides nothing


class Tokens(BaseModel):
    """What a login gives. Kept in memory alone."""

    access_token: str
    refresh_token: str
    token_type: str
    expires_in: float


@dataclass(slots=True)
class Session:
    """Who is logged in."""

    tokens: Tokens | None = None

    @property
    def access_token(self) -> str | None:
        """What requests carry."""
        return None if self.tokens is None else self.tokens.access_token

    def adopt(self, response: httpx.Response) -> None:
        """Take over the tokens of a login or a refresh; a refusal of who asks ends the session.

        Raises:
            ApiRequestError: the API refused.
            LevibotClientError: what it gave are no tokens.
        """
        if not response.is_success:
            if response.status_code in _REFUSED:
                self.tokens = None
            raise error_of(response, retry_after_s(response))
        try:
            self.tokens = Tokens.model_validate_json(response.content)
        except ValidationError as error:
            self.tokens = None
            raise LevibotClientError("Expected tokens from the API, was something else.") from error


@dataclass(frozen=True, slots=True)
class Ask(Generic[_Result]):
    """Send the call with this token; hand back the response, or the error of the transport."""

    call: Call[_Result]
    token: str | None


@dataclass(frozen=True, slots=True)
class Refresh:
    """Get new tokens, unless somebody else did since this one was refused."""

    refused: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait so many seconds."""

    seconds: float


Step = Ask[_Result] | Refresh | Wait
Answer = httpx.Response | httpx.TransportError | None


def conversation(
    call: Call[_Result], session: Session, policy: RetryPolicy
) -> Generator[Step[_Result], Answer, _Result]:
    """What to do, step by step, to have a call answered; returns its result.

    Raises:
        ApiRequestError: the API refused, and trying again did not help.
        ConnectionFailedError: there was no answer.
    """
    attempt, refreshed = 1, False
    while True:
        token = session.access_token
        answer = yield Ask(call, token)
        wait_s: float | None = None
        if isinstance(answer, httpx.Response):
            if call.answered_by(answer):
                return call.parse(answer)
            if answer.status_code == 401 and token is not None and not refreshed:
                refreshed = True
                yield Refresh(token)
                continue
            refusal = error_of(answer, retry_after_s(answer))
            if refusal.status in _PASSING and call.repeatable and not refusal.abstains:
                wait_s = policy.wait_s(attempt, refusal.retry_after_s)
            if wait_s is None:
                raise refusal
        elif call.repeatable:
            wait_s = policy.wait_s(attempt, None)
        if wait_s is None:
            raise ConnectionFailedError(f"Expected an answer to {call.method} {call.path}, was {answer!r}.")
        yield Wait(wait_s)
        attempt += 1


def retry_after_s(response: httpx.Response) -> float | None:
    """Seconds that `Retry-After` asks for: a number, or a date (RFC 9110, section 10.2.3); None without."""
    asked = response.headers.get("retry-after", "").strip()
    if asked.isascii() and asked.isdigit():
        return float(asked)
    try:
        until: datetime = parsedate_to_datetime(asked)
    except ValueError:
        return None
    if until.tzinfo is None:  # `-0000`, which says UTC and nothing of where it is.
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - datetime.now(UTC)).total_seconds())
