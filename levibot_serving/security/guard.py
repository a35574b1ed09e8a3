"""The door: every request passes here before any route, and only if the permission table lets it.

Plain ASGI. A request with a token that was seen before costs a few dictionary look-ups. What a route may rely on is in
`dependencies`; who may do what, in `permissions`.
"""

import asyncio
import hmac
from typing import Final

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from levibot_core.security.roles import Principal
from levibot_serving.errors import ApiError, refusal
from levibot_serving.metrics import Metrics
from levibot_serving.security.access import Access
from levibot_serving.security.addresses import Networks, client_address, peer_address
from levibot_serving.security.audit_trail import NOBODY, AuditTrail
from levibot_serving.security.bodies import read_limited
from levibot_serving.security.permissions import Permission
from levibot_serving.security.rate_limits import RateLimits, RawHeaders
from levibot_serving.security.requests import SAFE_METHODS, Credentials, Headers, expect_own_page, read_headers
from levibot_serving.security.routing import RouteTable
from levibot_serving.security.settings import SecuritySettings
from levibot_serving.security.tokens import TokenRefusedError

SIGN_IN_PAGE: Final = "/sign-in"
_ROUTINE: Final = frozenset({"expired"})
"""What is wrong with tokens every quarter of an hour, and nothing to record."""


class Guard:
    """Middleware that admits requests, or refuses them with 401, 403, 404, 405, 413, 429 or 504."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: RouteTable,
        access: Access,
        limits: RateLimits,
        audit: AuditTrail,
        metrics: Metrics,
        settings: SecuritySettings,
        scrape_token: bytes | None = None,
    ) -> None:
        self._app = app
        self._routes = routes
        self._access = access
        self._limits = limits
        self._audit = audit
        self._metrics = metrics
        self._proxies = Networks(settings.trusted_proxies)
        self._admin_addresses = Networks(settings.admin_addresses)
        self._origins = frozenset(origin.encode() for origin in settings.cors_origins)
        self._scrape_token = scrape_token
        self._max_body_bytes = settings.max_body_bytes
        self._seconds = settings.request_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # No WebSocket has a line.
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        line: Permission | None = None
        try:
            line = self._routes.find(scope["method"], _route_path(scope))
            scope["route"] = line  # What a refusal is counted under; the router puts its own here.
            headers = read_headers(scope)
            extra = await self._admit(scope, line, headers)
            await self._serve(scope, receive, send, line, headers, extra)
        except ApiError as error:
            if line is not None and line.page and error.status == 401:
                await RedirectResponse(SIGN_IN_PAGE, 303)(scope, receive, send)
                return
            await refusal(scope["state"]["request_id"], error)(scope, receive, send)

    async def _admit(self, scope: Scope, line: Permission, headers: Headers) -> RawHeaders:
        """Decide, and say which headers the response gets."""
        address = client_address(scope, headers.get(b"x-forwarded-for"), self._proxies)
        state = scope["state"]
        state["client_address"] = address
        if headers.get(b"x-forwarded-proto") == b"https" and peer_address(scope) in self._proxies:
            scope["scheme"] = "https"
        credentials = Credentials.of(headers)
        if scope["method"] not in SAFE_METHODS and not credentials.by_header:
            try:
                expect_own_page(headers, credentials, self._origins)
            except ApiError:
                self._note(scope, line, "other_site", NOBODY)
                raise
        if line.public or (line.scraped and self._is_scrape_token(credentials.token)):
            return ()
        principal = self._identify(scope, line, credentials)
        state["principal"] = principal
        self._authorize(scope, line, principal, address)
        if not line.forecasts:
            return ()
        charge = await self._limits.charge_forecasts(principal, address)
        if not charge.allowed:
            self._metrics.count_rate_limited(principal.role)
            raise charge.refusal()
        return charge.raw_headers()

    def _identify(self, scope: Scope, line: Permission, credentials: Credentials) -> Principal:
        if credentials.token is None:
            self._metrics.count_auth_failure("missing")
            raise _unauthorized("Expected a token: send `Authorization: Bearer …`, from POST /auth/login.", "Bearer")
        try:
            return self._access.principal(credentials.token)
        except TokenRefusedError as error:
            self._metrics.count_auth_failure(error.flaw)
            if error.flaw not in _ROUTINE:
                self._note(scope, line, f"token_{error.flaw}", NOBODY)
            raise _unauthorized(
                "Expected a token of this API that has not expired, for a user and a session that still exist. "
                "Sign in again.",
                'Bearer error="invalid_token"',
            ) from None

    def _authorize(self, scope: Scope, line: Permission, principal: Principal, address: str) -> None:
        if principal.role not in line.roles:
            self._metrics.count_auth_failure("role")
            self._note(scope, line, "role", principal.name)
            allowed = ", ".join(sorted(line.roles))
            raise ApiError(
                403, "forbidden", f"Expected one of the roles {allowed} for this endpoint, was {principal.role}."
            )
        if line.admins_only and address not in self._admin_addresses:
            self._metrics.count_auth_failure("address")
            self._note(scope, line, "address", principal.name)
            raise ApiError(
                403,
                "address_not_allowed",
                f"Expected this endpoint to be called from a listed address, was {address}. "
                "LEVIBOT_ADMIN_ADDRESSES lists them.",
            )

    def _is_scrape_token(self, token: str | None) -> bool:
        if self._scrape_token is None or token is None:
            return False
        return hmac.compare_digest(token.encode("latin-1"), self._scrape_token)

    def _note(self, scope: Scope, line: Permission, reason: str, actor: str) -> None:
        address = scope["state"]["client_address"]
        details = {"reason": reason, "method": line.method, "path": line.path, "address": address}
        self._audit.note("denied", actor, details)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, line: Permission, headers: Headers, extra: RawHeaders
    ) -> None:
        """Let the application begin to answer, within the limits of size and time."""
        limit = asyncio.timeout(None if line.streams else self._seconds)

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                # What has begun is not cut off: a slow reader is no fault of the answer.
                limit.reschedule(None)
                if extra:
                    message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        try:
            async with limit:
                await self._app(scope, await read_limited(headers, receive, self._max_body_bytes), send_marked)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ApiError(
                504, "timeout", f"The answer took longer than {self._seconds:g} s and was given up. Try again later."
            ) from None


def _unauthorized(message: str, challenge: str) -> ApiError:
    return ApiError(401, "unauthorized", message, headers={"WWW-Authenticate": challenge})


def _route_path(scope: Scope) -> str:
    """The path that the router compares with its patterns: without the prefix under which a server mounts the app."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path
