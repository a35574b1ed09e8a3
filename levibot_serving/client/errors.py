"""What the client raises: one exception per kind of refusal, each with what the API said."""

from typing import Any

import httpx


class LevibotClientError(Exception):
    """Base of everything the client raises."""


class ConnectionFailedError(LevibotClientError):
    """There was no answer at all."""


class ApiRequestError(LevibotClientError):
    """The API refused.

    Attributes:
        status: Of the response.
        code: Stable word for programs.
        request_id: To be found in the API's log.
        details: More for programs, depending on the code.
        retry_after_s: Seconds after which to try again, where the API said so.
    """

    def __init__(
        self, status: int, code: str, message: str, request_id: str | None, details: Any, retry_after_s: float | None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.request_id = request_id
        self.details = details
        self.retry_after_s = retry_after_s

    @property
    def abstains(self) -> bool:
        """Whether the API declines to forecast: an answer, for which there is no use in asking again at once."""
        return isinstance(self.details, dict) and self.details.get("abstain") is True

    def __str__(self) -> str:
        return f"{self.status} {self.code}: {self.message}"


class InvalidRequestError(ApiRequestError):
    """400, 413 or 422: the request does not fit."""


class AuthenticationError(ApiRequestError):
    """401: nobody is logged in, or no longer."""


class PermissionDeniedError(ApiRequestError):
    """403: the role may not do this."""


class NotFoundError(ApiRequestError):
    """404: there is no such thing."""


class ConflictError(ApiRequestError):
    """409: how things stand forbids it."""


class RateLimitedError(ApiRequestError):
    """429: too many requests; see `retry_after_s`."""


class UnavailableError(ApiRequestError):
    """503: it cannot be answered now; of a forecast, abstain."""


_KINDS: dict[int, type[ApiRequestError]] = {
    400: InvalidRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    413: InvalidRequestError,
    422: InvalidRequestError,
    429: RateLimitedError,
    503: UnavailableError,
}


def error_of(response: httpx.Response, retry_after_s: float | None = None) -> ApiRequestError:
    """The exception for a response that refuses; one that is not the API's own is told as it is."""
    kind = _KINDS.get(response.status_code, ApiRequestError)
    try:
        error = response.json()["error"]
        code, message, details = str(error["code"]), str(error["message"]), error.get("details")
        request_id = error.get("request_id")
    except (ValueError, KeyError, TypeError, AttributeError):
        code, message, details = "unknown", response.text[:200] or response.reason_phrase, None
        request_id = response.headers.get("x-request-id")
    return kind(response.status_code, code, message, request_id, details, retry_after_s)
