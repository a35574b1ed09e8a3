"""The security of one application: its parts, put together, started and stopped with it."""

import logging
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI

from levibot_core.errors import LevibotError
from levibot_core.security.roles import Principal
from levibot_serving.config import ServingSettings
from levibot_serving.errors import ApiError
from levibot_serving.metrics import Metrics
from levibot_serving.security.access import Access
from levibot_serving.security.audit_trail import NOBODY, AuditTrail
from levibot_serving.security.cross_origin import add_cross_origin
from levibot_serving.security.guard import Guard
from levibot_serving.security.openapi import document_security
from levibot_serving.security.permissions import PERMISSIONS, permissions_by_route
from levibot_serving.security.rate_limits import RateLimits
from levibot_serving.security.routing import RouteTable
from levibot_serving.security.sign_in import SignedIn, SignIn
from levibot_serving.security.state_metrics import DoorState

logger = logging.getLogger(__name__)

_MOST_WAITING: Final = 20
_Result = TypeVar("_Result")


class Security:
    """Who is signed in, what is counted, what is recorded. Open it for as long as the application runs."""

    def __init__(self, settings: ServingSettings, metrics: Metrics) -> None:
        """Read no file yet, and make none.

        Raises:
            CredentialError: a secret of the environment can be guessed, and this is not development.
        """
        self.metrics = metrics
        self.scrape_token = settings.scrape_token()
        self.access = Access(settings.folders, settings.environment_keys())
        self.audit = AuditTrail(settings.folders.audit_log)
        self.limits = RateLimits(settings, settings.redis_address)
        metrics.add(DoorState(self.access, self.limits, self.audit))
        self._sign_in = SignIn(settings.folders, settings, self.audit)
        # One at a time: each takes 64 MiB and as many cores as it can get.
        self._hashing = CapacityLimiter(1)

    async def __aenter__(self) -> "Security":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await to_thread.run_sync(self.audit.stop)
        await self.limits.close()

    async def sign_in(self, name: str, password: str, address: str, *, console: bool = False) -> SignedIn:
        """Begin a session of whoever knows the password; see `SignIn.sign_in`.

        Raises:
            ApiError: 401, the name or the password is wrong; 429, there were too many attempts; 503, too many wait, or
                the files behind it cannot be used.
        """
        charge = await self.limits.charge_sign_in(name, address)
        if not charge.allowed:
            self.metrics.count_auth_failure("limited")
            self.audit.note("login_limited", NOBODY, {"address": address})
            raise charge.refusal()
        if self._hashing.statistics().tasks_waiting >= _MOST_WAITING:
            raise ApiError(503, "busy", "Too many sign-ins wait already. Try again in a minute.")
        begin = partial(self._sign_in.sign_in, name, password, address, console=console)
        return await self._in_thread(begin, "password", self._hashing)

    async def refresh(self, refresh_token: str, address: str) -> SignedIn:
        """Exchange a refresh token for new tokens; see `SignIn.refresh`.

        Raises:
            ApiError: 401, it does not work (any more); 429, there were too many attempts; 503, the files behind it
                cannot be used.
        """
        charge = await self.limits.charge_refresh(address)
        if not charge.allowed:
            raise charge.refusal()
        return await self._in_thread(partial(self._sign_in.refresh, refresh_token, address), "refresh")

    async def sign_out(self, principal: Principal, address: str) -> None:
        """End the session of the token that was sent."""
        end = partial(self._sign_in.sign_out, principal.name, principal.session_id, address)
        await self._in_thread(end, "sign_out")

    async def _in_thread(
        self, work: Callable[[], _Result], counted_as: str, limiter: CapacityLimiter | None = None
    ) -> _Result:
        """Do what waits for hashes and files; its effects hold here at once."""
        try:
            return await to_thread.run_sync(work, limiter=limiter)
        except ApiError:
            self.metrics.count_auth_failure(counted_as)
            raise
        except LevibotError as error:
            # The message names files of the host, which is nothing for whoever knocks.
            logger.error("Users, keys and sessions cannot be used. %s", error)
            raise ApiError(503, "unavailable", "Signing in does not work now; the log of the API says why.") from None
        finally:
            self.access.look()


def secure(app: FastAPI, settings: ServingSettings, security: Security) -> None:
    """Put the door before the application. Call it when all routes are there.

    Raises:
        ConfigurationError: the permission table and the routes do not fit together.
    """
    app.state.security = security
    routes = RouteTable(app.routes, permissions_by_route(PERMISSIONS))
    document_security(app, routes)
    app.add_middleware(
        Guard,
        routes=routes,
        access=security.access,
        limits=security.limits,
        audit=security.audit,
        metrics=security.metrics,
        settings=settings,
        scrape_token=security.scrape_token,
    )
    add_cross_origin(app, settings.cors_origins)
