"""The kill switch: whether anything may be traded, and who may throw it."""

from dataclasses import dataclass

from levibot_core.security.roles import Principal, Role
from levibot_core.stores.kill_switch import KillState

LONGEST_REASON = 200


@dataclass(frozen=True, slots=True)
class KillPanel:
    """What the panel shows.

    Attributes:
        state: Whether it is on, why, and who threw it last.
        may_throw: Whether this visitor gets the form.
        longest_reason: Characters that a reason may have.
    """

    state: KillState
    may_throw: bool
    longest_reason: int = LONGEST_REASON


def kill_panel(state: KillState, visitor: Principal) -> KillPanel:
    """Gather the panel."""
    return KillPanel(state, may_throw=visitor.role is Role.ADMIN)
