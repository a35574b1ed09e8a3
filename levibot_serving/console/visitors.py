"""Who looks at the console, and the two parts of the API that the console uses but does not own: sign-in, kill switch.

Both are narrow protocols, given to the application as `ConsoleParts`. Without accounts everybody who reaches the API
may look, as at its other endpoints, and nobody may change anything; without a kill switch its panel says so.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from fastapi import Request, Response

from levibot_core.security.roles import Role


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who looks.

    Attributes:
        name: Of the account; None where there are no accounts.
        role: What the account may do.
        csrf_token: What a form of this session has to carry; None where nothing may be changed.
    """

    name: str | None
    role: Role
    csrf_token: str | None = None

    @property
    def may_kill(self) -> bool:
        """Whether the forms of the kill switch are shown and obeyed."""
        return self.role == Role.ADMIN and self.name is not None and bool(self.csrf_token)


ANYBODY = Visitor(name=None, role=Role.VIEWER)
"""The visitor of an API without accounts."""


class SignInRefusedError(Exception):
    """A sign-in that failed; the message is for the person who tried, and never says which part was wrong."""

    def __init__(self, message: str, status: int = 401, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s


class Accounts(Protocol):
    """Sessions of people, kept in a cookie that scripts cannot read."""

    async def visitor(self, request: Request) -> Visitor | None:
        """Who the request's cookie says it is; None where it says nothing that holds."""
        ...

    async def sign_in(self, request: Request, response: Response, name: str, password: str) -> None:
        """Check the password and put the session's cookie on the response.

        Raises:
            SignInRefusedError: the name or the password is wrong, or there were too many attempts.
        """
        ...

    async def sign_out(self, request: Request, response: Response) -> None:
        """End the session, if there is one, and take the cookie off."""
        ...


class KillState(Protocol):
    """Whether forecasts may be acted on at all, and who said so last."""

    @property
    def active(self) -> bool:
        """Whether the switch is on: nothing may be traded."""
        ...

    @property
    def reason(self) -> str:
        """Why, in the words of who threw it last."""
        ...

    @property
    def actor(self) -> str:
        """Who threw it last; empty when nobody ever did."""
        ...

    @property
    def since(self) -> datetime | None:
        """When, UTC."""
        ...


class KillSwitch(Protocol):
    """The switch of a home. Throwing it is recorded by whoever implements this."""

    @property
    def state(self) -> KillState:
        """What it says now."""
        ...

    def throw(self, on: bool, reason: str, actor: str) -> object:
        """Turn it on or off.

        Raises:
            LevibotError: it was not thrown; the message says why.
        """
        ...


@dataclass(frozen=True, slots=True)
class ConsoleParts:
    """What an application gives its console; None where it has no such part."""

    accounts: Accounts | None = None
    kill_switch: KillSwitch | None = None
