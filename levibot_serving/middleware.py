"""What every request gets, whatever it asks for: an id, security headers, a measured duration, a last resort.

Plain ASGI: no task is spawned and no body is buffered. Authentication and limits are in `security`.
"""

import logging
import os
import re
import time
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from levibot_serving.errors import internal_error
from levibot_serving.json_logs import current_request_id
from levibot_serving.metrics import Metrics

logger = logging.getLogger(__name__)

_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._\-]{1,128}")
_ID_HEADER = b"x-request-id"
_SECURITY_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
_OVER_TLS = (*_SECURITY_HEADERS, (b"strict-transport-security", b"max-age=31536000"))


class RequestContextMiddleware:
    """Wraps the whole application, its error handlers included."""

    def __init__(self, app: ASGIApp, metrics: Metrics, slow_ms: float = 100.0) -> None:
        """Requests that fail, or take longer than `slow_ms`, are logged."""
        self._app = app
        self._metrics = metrics
        self._slow_s = slow_ms / 1000

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        current_request_id.set(request_id)
        started = time.perf_counter()
        sent_status: int | None = None

        async def send_dressed(message: Message) -> None:
            nonlocal sent_status
            if message["type"] == "http.response.start":
                sent_status = message["status"]
                message["headers"] = _dressed(message.get("headers", ()), request_id, scope.get("scheme"))
            await send(message)

        try:
            await self._app(scope, receive, send_dressed)
        except Exception:
            logger.exception("Request %s on %s failed in an unforeseen way", request_id, scope["path"])
            if sent_status is not None:
                raise
            await internal_error(request_id)(scope, receive, send_dressed)
        finally:
            seconds = time.perf_counter() - started
            route = scope.get("route")
            endpoint = getattr(route, "path", "unmatched")
            self._metrics.observe_request(endpoint, sent_status, seconds)
            if sent_status is None or sent_status >= 400 or seconds > self._slow_s:
                _log(scope, endpoint, sent_status, seconds)


def _log(scope: Scope, endpoint: str, status: int | None, seconds: float) -> None:
    """One line for a request that went wrong or took long. No query, no header: they may hold what is nobody's."""
    level = logging.WARNING if status is None or status >= 500 else logging.INFO
    facts = {"method": scope["method"], "endpoint": endpoint, "status": status, "duration_ms": round(seconds * 1e3, 3)}
    logger.log(level, "%s %s: %s in %.1f ms", *facts.values(), extra={"facts": facts})


def _request_id(scope: Scope) -> str:
    """The id that the caller sent, if it is safe to repeat and to log, else a new one of 32 hexadecimal digits."""
    for name, value in scope["headers"]:
        if name == _ID_HEADER:
            given = value.decode("latin-1")
            if _ACCEPTABLE_ID.fullmatch(given):
                return str(given)
            break
    return os.urandom(16).hex()


def _dressed(headers: Iterable[tuple[bytes, bytes]], request_id: str, scheme: str | None) -> list[tuple[bytes, bytes]]:
    """The headers of a response with those that every response has.

    A page has a stricter policy of its own, and files whose addresses change may be kept.
    """
    own = list(headers)
    names = {name.lower() for name, _ in own}
    general = _OVER_TLS if scheme == "https" else _SECURITY_HEADERS
    added = [pair for pair in general if pair[0] not in names]
    return [*own, (_ID_HEADER, request_id.encode()), *added]
