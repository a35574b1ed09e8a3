"""The roles, and whoever acts in one. What a role may do is decided in `levibot_serving.security.permissions`."""

from dataclasses import dataclass, field
from enum import StrEnum


class Role(StrEnum):
    """What somebody is to the platform."""

    ADMIN = "admin"
    TRADER = "trader"
    VIEWER = "viewer"
    SERVICE = "service"
    """A live engine: a program that asks for forecasts, with a budget of its own."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Somebody who proved who they are.

    Attributes:
        name: The user's name.
        role: The role the user has now, whatever it was when the token was issued.
        session_id: The session of the token; ending it refuses all its tokens.
        csrf_token: What a form of this session carries to show that it is from a page of ours.
    """

    name: str
    role: Role
    session_id: str
    csrf_token: str = field(repr=False)
