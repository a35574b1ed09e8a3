"""The kill switch: whether anything may be traded, and who may throw it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from levibot_core.security.roles import Principal, Role

LONGEST_REASON = 200


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
class KillPanel:
    """What the panel shows.

    Attributes:
        known: Whether this API has a kill switch.
        active: Whether it is on: nothing may be traded.
        actor: Who threw it last; empty when nobody ever did.
        since: When, UTC.
        may_throw: Whether this visitor gets the form.
        longest_reason: Characters that a reason may have.
    """

    known: bool
    active: bool
    reason: str
    actor: str
    since: datetime | None
    may_throw: bool
    longest_reason: int = LONGEST_REASON


def kill_panel(switch: KillSwitch | None, visitor: Principal) -> KillPanel:
    """Gather the panel."""
    if switch is None:
        return KillPanel(known=False, active=False, reason="", actor="", since=None, may_throw=False)
    state = switch.state
    return KillPanel(True, state.active, state.reason, state.actor, state.since, visitor.role is Role.ADMIN)
