"""Who is champion, who was, and changing it: every change is in the audit log before it happens.

Whether a version deserves it is decided by `levibot_core.validation.gates`; aliases as such are in `.versions`, the
log's chain in `levibot_core.stores.audit_log`.
"""

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from levibot_core.errors import RegistryError
from levibot_core.registry.earlier_promotions import EARLIER, promotions_of, take_over
from levibot_core.registry.versions import CHAMPION, PREVIOUS, RegisteredVersion, RegisteredVersions
from levibot_core.stores.audit_log import AuditLog

PROMOTION: Final = "promotion"
ROLLBACK: Final = "rollback"
CANDIDATE: Final = "rollback_candidate"
CLEARED: Final = "rollback_candidate_cleared"
STATE_TAG: Final = "state"
ROLLED_BACK: Final = "rolled_back"

_OF_RECORD: Final = {"sequence", "event", "time", "actor"}

Figures = Mapping[str, float | int | None]


class Change(BaseModel):
    """One recorded change of the champion, or that a version is a rollback candidate, or is none any more.

    It may not have come about: it is recorded before it is made. A mark changes no champion: `from` is `to`.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    sequence: int = Field(description="Number of its record in the audit log")
    event: Literal["promotion", "rollback", "rollback_candidate", "rollback_candidate_cleared"]
    time: AwareDatetime = Field(description="When it was recorded, UTC")
    actor: str
    model: str = Field(description="Registered model")
    from_version: int | None = Field(alias="from", description="The champion at that moment; None where there was none")
    to_version: int = Field(alias="to")
    reason: str
    forced: bool = Field(False, description="Whether the version had not passed its gates")
    gates: dict[str, str] = Field(default_factory=dict, description="Promotion gate to its verdict and what it found")
    evidence: dict[str, float | int | None] = Field(
        default_factory=dict, description="Figures of the comparison that decided it; none where a person did"
    )


def promote(
    registry: RegisteredVersions,
    version: int,
    actor: str,
    reason: str,
    *,
    forced: bool = False,
    evidence: Figures | None = None,
) -> RegisteredVersion | None:
    """Make a version the champion; return the one it replaces, or None.

    The audit record is written first, then `previous`, and `champion` last, so that an interruption never leaves a
    champion that nothing explains.

    Args:
        registry: Where the version is.
        version: The version.
        actor: Who does it.
        reason: Why, for the audit log.
        forced: Whether it is done although it did not pass its gates.
        evidence: Figures of the comparison that decided it, for the audit log.

    Raises:
        RegistryError: there is no such version.
        AuditLogError, HomeNotWritableError: the change cannot be recorded, and so is not made.
    """
    promoted, replaced = registry.version(version), registry.by_alias(CHAMPION)
    details = {
        "model": registry.model_name,
        "from": replaced.version if replaced else None,
        "to": version,
        "reason": reason,
        "forced": forced,
        "gates": _verdicts(promoted),
        "evidence": dict(evidence or {}),
    }
    _log(registry).append(PROMOTION, actor, details)
    if replaced is not None and replaced.version != version:
        registry.point(PREVIOUS, replaced.version)
    registry.annotate(version, {STATE_TAG: "promoted"})
    registry.point(CHAMPION, version)
    return replaced


def roll_back(
    registry: RegisteredVersions, actor: str, reason: str, *, evidence: Figures | None = None
) -> tuple[RegisteredVersion, RegisteredVersion]:
    """Make the champion before the present one champion again; return the one that goes and the one that comes.

    Rolling back twice goes two champions back: what was rolled back is not returned to. Recorded first, `champion`
    moved last, as by `promote`.

    Raises:
        RegistryError: there is no champion, or the audit log names none before it.
        AuditLogError, HomeNotWritableError: as `promote`.
    """
    leaving = registry.by_alias(CHAMPION)
    if leaving is None:
        raise RegistryError(f"Expected a champion of {registry.model_name} to roll back, was none. Promote one first.")
    earlier = champions(registry)[:-1]
    if not earlier:
        raise RegistryError(
            f"Expected a champion of {registry.model_name} before version {leaving.version}, but the audit log names "
            "none. `levibot models promote VERSION` makes another version the champion."
        )
    coming = registry.version(earlier[-1])
    details = {
        "model": registry.model_name,
        "from": leaving.version,
        "to": coming.version,
        "reason": reason,
        "evidence": dict(evidence or {}),
    }
    _log(registry).append(ROLLBACK, actor, details)
    registry.annotate(leaving.version, {STATE_TAG: ROLLED_BACK})
    registry.point(PREVIOUS, earlier[-2] if len(earlier) > 1 else None)
    registry.point(CHAMPION, coming.version)
    return leaving, coming


def champions(registry: RegisteredVersions) -> list[int]:
    """The versions that are or were champion and were not rolled back, each once, the present one last.

    A change that was recorded and not made, as its process was killed in between, is left out: the next record and
    the registry say who was champion then. So is told who became champion by an alias moved by hand.
    """
    standing: list[int] = []
    for change in changes(registry):
        standing = _up_to(standing, change.from_version)
        gone = {change.to_version, change.from_version if change.event == ROLLBACK else None}
        standing = [*(version for version in standing if version not in gone), change.to_version]
    present = registry.by_alias(CHAMPION)
    return _up_to(standing, present.version) if present else standing


def changes(registry: RegisteredVersions) -> list[Change]:
    """Every promotion and rollback of the registry's model, oldest first.

    Raises:
        AuditLogError: the log cannot be read.
    """
    return [change for change in history(registry) if change.event in (PROMOTION, ROLLBACK)]


def history(registry: RegisteredVersions) -> list[Change]:
    """The same with the rollback candidates in between.

    Raises:
        AuditLogError: the log cannot be read.
    """
    records = _log(registry).read()
    found = [
        Change.model_validate({"sequence": record.sequence, "event": PROMOTION, **promotion})
        for record in records
        if record.event == EARLIER
        for promotion in promotions_of(record)
    ]
    found += [
        Change.model_validate({**record.model_dump(include=_OF_RECORD), **record.details})
        for record in records
        if record.event in (PROMOTION, ROLLBACK, CANDIDATE, CLEARED)
    ]
    return [change for change in found if change.model == registry.model_name]


def record_about(
    registry: RegisteredVersions, event: str, version: int, actor: str, reason: str, evidence: Figures
) -> None:
    """Record something about a version that changes no champion: `CANDIDATE` or `CLEARED`.

    Raises:
        AuditLogError, HomeNotWritableError: it cannot be recorded.
    """
    details = {"model": registry.model_name, "from": version, "to": version, "reason": reason}
    _log(registry).append(event, actor, {**details, "evidence": dict(evidence)})


def _up_to(standing: list[int], champion: int | None) -> list[int]:
    """The line of champions when that version was the last of it."""
    if champion is None:
        return standing
    return standing[: standing.index(champion) + 1] if champion in standing else [*standing, champion]


def _log(registry: RegisteredVersions) -> AuditLog:
    log = AuditLog(registry.home.audit_log)
    take_over(registry.home, log)
    return log


def _verdicts(version: RegisteredVersion) -> dict[str, str]:
    """What each promotion gate found, by its name."""
    return {str(gate["gate"]): f"{'passed' if gate['passed'] else 'failed'}: {gate['found']}" for gate in version.gates}
