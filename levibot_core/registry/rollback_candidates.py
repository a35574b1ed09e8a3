"""Versions that somebody should roll back: marked and unmarked, both in the audit log before the tag is set.

Who is marked, and why, is decided by `levibot_pipelines.regression_guard`; rolling back is `.champions`' work and a
person's decision, or that of the nightly comparison.
"""

from levibot_core.registry.champions import CANDIDATE, CLEARED, Figures, record_about
from levibot_core.registry.versions import CANDIDATE_TAG, RegisteredVersion, RegisteredVersions


def mark(registry: RegisteredVersions, version: RegisteredVersion, actor: str, reason: str, evidence: Figures) -> None:
    """Make a version a rollback candidate. One that is for that very reason stays so, without another record.

    Raises:
        RegistryError: there is no such version, or its tag cannot be written.
        AuditLogError, HomeNotWritableError: it cannot be recorded, and so is not marked.
    """
    if version.rollback_candidate != reason:
        record_about(registry, CANDIDATE, version.version, actor, reason, evidence)
        registry.annotate(version.version, {CANDIDATE_TAG: reason})


def clear(registry: RegisteredVersions, version: RegisteredVersion, actor: str, reason: str, evidence: Figures) -> None:
    """A version is no rollback candidate any more. Where it was none, nothing is recorded. Raises as `mark`."""
    if version.rollback_candidate is not None:
        record_about(registry, CLEARED, version.version, actor, reason, evidence)
        registry.annotate(version.version, {CANDIDATE_TAG: ""})
