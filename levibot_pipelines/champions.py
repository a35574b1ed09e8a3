"""Who is champion, who was, and changing it: every change is in the audit log before it happens.

Whether a version deserves it is decided by `levibot_core.validation.gates`; aliases as such are in `.registry`, the
log's chain in `levibot_core.stores.audit_log`.
"""

from collections.abc import Mapping
from typing import Any, Final

from levibot_core.errors import RegistryError
from levibot_core.stores.audit_log import AuditLog, AuditRecord
from levibot_pipelines.registry import CHAMPION, PREVIOUS, ModelRegistry, RegisteredVersion

PROMOTION: Final = "promotion"
ROLLBACK: Final = "rollback"
STATE_TAG: Final = "state"


def promote(
    registry: ModelRegistry, version: int, actor: str, reason: str, *, forced: bool = False
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

    Raises:
        RegistryError: there is no such version.
        AuditLogError, HomeNotWritableError: the change cannot be recorded, and so is not made.
    """
    promoted, replaced = registry.version(version), registry.by_alias(CHAMPION)
    change = {"from": replaced.version if replaced else None, "to": version, "reason": reason, "forced": forced}
    _record(registry, PROMOTION, actor, {**change, "gates": _verdicts(promoted)})
    if replaced is not None and replaced.version != version:
        registry.point(PREVIOUS, replaced.version)
    registry.annotate(version, {STATE_TAG: "promoted"})
    registry.point(CHAMPION, version)
    return replaced


def roll_back(registry: ModelRegistry, actor: str, reason: str) -> tuple[RegisteredVersion, RegisteredVersion]:
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
    earlier = [version for version in champions(registry) if version != leaving.version]
    if not earlier:
        raise RegistryError(
            f"Expected a champion of {registry.model_name} before version {leaving.version}, but the audit log names "
            "none. `levibot models promote VERSION` makes another version the champion."
        )
    coming = registry.version(earlier[-1])
    _record(registry, ROLLBACK, actor, {"from": leaving.version, "to": coming.version, "reason": reason})
    registry.annotate(leaving.version, {STATE_TAG: "rolled_back"})
    registry.point(PREVIOUS, earlier[-2] if len(earlier) > 1 else None)
    registry.point(CHAMPION, coming.version)
    return leaving, coming


def champions(registry: ModelRegistry) -> list[int]:
    """The versions that are or were champion and were not rolled back, each once, the present one last."""
    standing: list[int] = []
    for record in changes(registry):
        gone = {record.details["to"]} | ({record.details["from"]} if record.event == ROLLBACK else set())
        standing = [version for version in standing if version not in gone]
        standing.append(int(str(record.details["to"])))
    return standing


def changes(registry: ModelRegistry) -> list[AuditRecord]:
    """Every promotion and rollback of the registry's model, oldest first.

    Raises:
        AuditLogError: the log cannot be read.
    """
    moves = (record for record in _log(registry).read() if record.event in (PROMOTION, ROLLBACK))
    return [record for record in moves if record.details["model"] == registry.model_name]


def _record(registry: ModelRegistry, event: str, actor: str, change: Mapping[str, Any]) -> None:
    _log(registry).append(event, actor, {"model": registry.model_name, "alias": CHAMPION, **change})


def _log(registry: ModelRegistry) -> AuditLog:
    return AuditLog(registry.home.audit_log)


def _verdicts(version: RegisteredVersion) -> dict[str, str]:
    """What each promotion gate found, by its name."""
    return {str(gate["gate"]): f"{'passed' if gate['passed'] else 'failed'}: {gate['found']}" for gate in version.gates}
