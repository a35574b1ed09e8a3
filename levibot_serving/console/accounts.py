"""What the console uses of the rest of the API: sessions of people, and the kill switch that is recorded.

The cookie and the tokens in it are `levibot_serving.security`'s; what pages need of them, `.visitors`.
"""

from fastapi import Request, Response

from levibot_core.security.roles import Principal, Role
from levibot_core.stores.kill_switch import KillState
from levibot_serving.console.visitors import SignInRefusedError, Visitor
from levibot_serving.errors import ApiError
from levibot_serving.operations import Operations
from levibot_serving.security.cookies import drop_session_cookie, set_session_cookie
from levibot_serving.security.requests import Credentials, read_headers
from levibot_serving.security.security import Security
from levibot_serving.security.tokens import TokenRefusedError


class ConsoleAccounts:
    """Sessions of browsers."""

    def __init__(self, security: Security) -> None:
        self._security = security

    async def visitor(self, request: Request) -> Visitor | None:
        """Who the request's token says it is; None where it says nothing that holds, or an engine."""
        principal = self._principal(request)
        if principal is None or principal.role == Role.SERVICE:
            return None
        return Visitor(principal.name, principal.role, principal.csrf_token)

    async def sign_in(self, request: Request, response: Response, name: str, password: str) -> None:
        """Check the password and put the session's cookie on the response.

        Raises:
            SignInRefusedError: the name or the password is wrong, there were too many attempts, or it is an engine's.
        """
        try:
            signed_in = await self._security.sign_in(name, password, request.state.client_address, console=True)
        except ApiError as error:
            wait = (error.headers or {}).get("Retry-After")
            raise SignInRefusedError(str(error), error.status, int(wait) if wait else None) from None
        if signed_in.user.role == Role.SERVICE:
            raise SignInRefusedError("Expected the account of a person, was that of an engine.", 403)
        set_session_cookie(response, signed_in, secure=request.url.scheme == "https")

    async def sign_out(self, request: Request, response: Response) -> None:
        """End the session, if there is one, and take the cookie off."""
        principal = self._principal(request)
        if principal is not None:
            await self._security.sign_out(principal, request.state.client_address)
        drop_session_cookie(response)

    def _principal(self, request: Request) -> Principal | None:
        """The door identifies nobody on pages that are for everybody."""
        credentials = Credentials.of(read_headers(request.scope))
        try:
            return None if credentials.token is None else self._security.access.principal(credentials.token)
        except TokenRefusedError:
            return None


class ConsoleKillSwitch:
    """The kill switch of the home, as the API's own endpoint throws it."""

    def __init__(self, operations: Operations) -> None:
        self._operations = operations

    @property
    def state(self) -> KillState:
        """What it says now."""
        return self._operations.kill_switch.state

    def throw(self, on: bool, reason: str, actor: str) -> KillState:
        """Turn it on or off; raises as `Operations.throw_kill_switch`."""
        return self._operations.throw_kill_switch(on, reason, actor)
