"""The kill switch of a home: one small file, which every process that serves or trades reads before it acts.

A home without the file is not killed. A file that cannot be understood kills: whoever wrote it wanted something, and
not to trade is the answer that costs least. Who may throw the switch, and the audit record of it, is the edges' work.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from levibot_core.stores.files import write_text_atomically

_ABSENT: Final = (0, 0, 0)


class KillState(BaseModel):
    """Whether forecasts may be acted on at all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    active: bool = Field(False, description="Whether the switch is on: nothing may be traded")
    reason: str = Field("", description="Why, in the words of who threw it last")
    actor: str = Field("", description="Who threw it last; empty when nobody ever did")
    since: AwareDatetime | None = Field(None, description="When, UTC")


class KillSwitch:
    """The switch at `path`. Reading it costs one look at the file's date, so it may be read for every forecast."""

    def __init__(self, path: Path) -> None:
        self.path = path
        # Replaced together by one assignment: threads share a switch.
        self._read: tuple[tuple[int, int, int], KillState] = (_ABSENT, KillState())

    @property
    def state(self) -> KillState:
        """What the file says now."""
        try:
            found = self.path.stat()
            identity = (found.st_ino, found.st_mtime_ns, found.st_size)
        except FileNotFoundError:
            identity = _ABSENT
        except OSError as error:
            return _unreadable(str(error.strerror))
        seen, state = self._read
        if identity != seen:
            state = KillState() if identity == _ABSENT else self._parsed()
            self._read = (identity, state)
        return state

    def throw(self, on: bool, reason: str, actor: str) -> KillState:
        """Turn the switch on or off, for every process of the home.

        Raises:
            HomeNotWritableError: the operating system refused; the switch is as it was.
        """
        state = KillState(active=on, reason=reason, actor=actor, since=datetime.now(UTC))
        write_text_atomically(self.path, state.model_dump_json(indent=2) + "\n")
        return state

    def _parsed(self) -> KillState:
        try:
            return KillState.model_validate_json(self.path.read_bytes())
        except OSError as error:
            return _unreadable(str(error.strerror))
        except ValidationError as error:
            return _unreadable(f"{error.error_count()} fields do not fit")


def _unreadable(problem: str) -> KillState:
    return KillState(
        active=True,
        reason=f"the kill switch cannot be read ({problem}), so it counts as on; turn it on or off again to replace it",
    )
