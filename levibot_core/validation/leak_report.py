"""What a leak check says: one verdict per check, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class LeakCheck:
    """One check: its name, whether it passed, and what was compared or found."""

    name: str
    passed: bool
    detail: str


@dataclass(frozen=True, slots=True)
class LeakReport:
    """All checks of one training set."""

    checks: tuple[LeakCheck, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[str, ...]:
        """What the failed checks found, each with the name of its check."""
        return tuple(f"{check.name}: {check.detail}" for check in self.checks if not check.passed)


def verdict(name: str, found: Sequence[str], all_is_well: str) -> LeakCheck:
    """A check that passes when nothing was found; the detail shows the first findings and counts the rest."""
    if not found:
        return LeakCheck(name, True, all_is_well)
    more = f"; and {len(found) - _EXAMPLES} more" if len(found) > _EXAMPLES else ""
    return LeakCheck(name, False, "; ".join(found[:_EXAMPLES]) + more)
