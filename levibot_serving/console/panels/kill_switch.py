"""The kill switch: whether anything may be traded, and who may throw it."""

from dataclasses import dataclass
from datetime import datetime

from levibot_serving.console.visitors import KillSwitch, Visitor

LONGEST_REASON = 200


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


def kill_panel(switch: KillSwitch | None, visitor: Visitor) -> KillPanel:
    """Gather the panel."""
    if switch is None:
        return KillPanel(known=False, active=False, reason="", actor="", since=None, may_throw=False)
    state = switch.state
    return KillPanel(True, state.active, state.reason, state.actor, state.since, visitor.may_kill)
