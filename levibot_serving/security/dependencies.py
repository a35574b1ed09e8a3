"""What a route may depend on: who calls, from where, and counting further forecasts."""

from typing import Annotated, cast

from fastapi import Depends, Request

from levibot_core.security.roles import Principal
from levibot_serving.errors import ApiError
from levibot_serving.security.security import Security


def security_of(request: Request) -> Security:
    """The security of the application that answers the request."""
    return cast(Security, request.app.state.security)


async def _principal(request: Request) -> Principal:
    found = getattr(request.state, "principal", None)
    if found is None:  # A public route has nobody.
        raise ApiError(401, "unauthorized", "Expected a token: send `Authorization: Bearer …`, from POST /auth/login.")
    return cast(Principal, found)


async def _security(request: Request) -> Security:
    return security_of(request)


async def _client_address(request: Request) -> str:
    return cast(str, request.state.client_address)


PrincipalDep = Annotated[Principal, Depends(_principal)]
"""Who calls: `name` and `role`. The door has checked that the role may."""
SecurityDep = Annotated[Security, Depends(_security)]
ClientAddressDep = Annotated[str, Depends(_client_address)]
"""The address of the caller, through trusted proxies; for logs and the audit log."""


async def charge_further_forecasts(request: Request, principal: Principal, forecasts: int) -> None:
    """Count the forecasts of a request beyond the first, which the door has counted.

    A batch of 15 symbols costs 15, as 15 requests would.

    Raises:
        ApiError: 429, the budget of this minute does not hold as many; 400, no minute's does.
    """
    if forecasts <= 1:
        return
    security = security_of(request)
    charge = await security.limits.charge_forecasts(principal, request.state.client_address, forecasts - 1)
    if not charge.allowed:
        security.metrics.count_rate_limited(principal.role)
        raise charge.refusal(forecasts)
