"""Changing the champion over the API: checked, recorded, and only then moved.

The order in which the record, the other alias and `champion` are written is `levibot_core.registry.champions`'. A
version is fetched and verified before anything moves, so that no alias ever points at what cannot be served.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from filelock import FileLock, Timeout

from levibot_core.errors import BundleError
from levibot_core.registry.champions import champions, promote, roll_back
from levibot_core.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, RegisteredVersion, RegisteredVersions
from levibot_core.stores.paths import Home
from levibot_serving.contract_control import ChampionChange, Gate, ModelList, ModelVersion
from levibot_serving.errors import ApiError
from levibot_serving.model_store import ModelStore
from levibot_serving.registry import ModelRegistry

_PATIENCE_S = 10.0
_TAGS_SHOWN_APART = frozenset({"family", "tradable", "reasons", "metrics", "gates", "trading_gates"})
_FOLLOWED = "every worker serves it within 5 s."


class ModelAliases:
    """The versions of the served model, and who is champion."""

    def __init__(
        self, home: Home, open_versions: Callable[[], RegisteredVersions], registry: ModelRegistry, models: ModelStore
    ) -> None:
        self._home = home
        self._open_versions = open_versions
        self._registry = registry
        self._models = models

    def listed(self) -> ModelList:
        """Every version, newest first.

        Raises:
            RegistryError: the registry does not answer.
        """
        found, served = self._open_versions().versions(), self._models.served

        def carrying(alias: str) -> int | None:
            return next((version.version for version in found if alias in version.aliases), None)

        return ModelList(
            model=self._models.model_name,
            champion=carrying(CHAMPION),
            challenger=carrying(CHALLENGER),
            previous=carrying(PREVIOUS),
            served=None if served is None else served.version,
            versions=tuple(_described(version) for version in found),
        )

    def activate(self, number: int, reason: str, actor: str, *, force: bool) -> ChampionChange:
        """Make a version champion; one that did not pass its gates only by force, which is recorded.

        Raises:
            ApiError: 404 without such a version; 409 where its gates were not passed, or it cannot be served.
            RegistryError, AuditLogError, HomeNotWritableError: nothing was changed, or the change is recorded and not
                made; the message says what to do.
        """
        with self._alone():
            versions = self._open_versions()
            wanted = _known(versions, number)
            if CHAMPION in wanted.aliases:
                message = f"Version {number} is champion already."
                return ChampionChange(
                    champion=number, replaced=None, changed=False, forced=False, reason=reason, message=message
                )
            objection = wanted.objection
            if objection is not None and not force:
                raise ApiError(
                    409,
                    "gates_not_passed",
                    f"Expected a version that passed every promotion gate, but {objection}. Train another, or give "
                    "force: true, which is recorded.",
                    {"gates": [gate.model_dump() for gate in _gates(wanted.gates)]},
                )
            self._expect_servable(number)
            replaced = promote(versions, number, actor, reason, forced=objection is not None)
        return ChampionChange(
            champion=number,
            replaced=None if replaced is None else replaced.version,
            changed=True,
            forced=objection is not None,
            reason=reason,
            message=f"Version {number} is champion; {_FOLLOWED}",
        )

    def roll_back(self, reason: str, actor: str) -> ChampionChange:
        """Make the champion before the present one champion again.

        Raises:
            ApiError: 409 where there is none, or it cannot be served.
            RegistryError, AuditLogError, HomeNotWritableError: as `activate`.
        """
        with self._alone():
            versions = self._open_versions()
            earlier = champions(versions)[:-1]
            if versions.by_alias(CHAMPION) is None or not earlier:
                raise ApiError(
                    409,
                    "nothing_to_roll_back_to",
                    "Expected a champion before the present one, but the audit log names none. Activate another "
                    "version instead.",
                )
            self._expect_servable(earlier[-1])
            leaving, coming = roll_back(versions, actor, reason)
        return ChampionChange(
            champion=coming.version,
            replaced=leaving.version,
            changed=True,
            forced=False,
            reason=reason,
            message=f"Version {coming.version} is champion again; {_FOLLOWED}",
        )

    def _expect_servable(self, number: int) -> None:
        record = self._registry.record_of(self._models.model_name, number)
        try:
            self._models.fetch(record)
        except BundleError as error:
            raise ApiError(
                409, "not_servable", f"Version {number} cannot be served, and stays as it is. {error}"
            ) from error

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One request of all workers at a time; a nightly comparison, which takes a while, holds nobody up."""
        try:
            with FileLock(self._home.alias_lock, timeout=_PATIENCE_S):
                yield
        except Timeout:
            raise ApiError(
                409, "busy", "Expected to be alone, but another request changes the champion already. Try again."
            ) from None


def _known(versions: RegisteredVersions, number: int) -> RegisteredVersion:
    found = versions.versions()
    for version in found:
        if version.version == number:
            return version
    known = ", ".join(str(version.version) for version in found) or "none"
    raise ApiError(404, "unknown_version", f"Expected a version of {versions.model_name} ({known}), was {number}.")


def _described(version: RegisteredVersion) -> ModelVersion:
    return ModelVersion(
        version=version.version,
        family=version.family,
        aliases=version.aliases,
        created_at=version.created_at,
        tradable=version.tradable,
        reasons=version.reasons,
        gates_passed=version.objection is None,
        gates=_gates(version.gates),
        trading_gates=_gates(version.trading_gates),
        metrics=dict(version.metrics),
        tags={name: value for name, value in version.tags.items() if name not in _TAGS_SHOWN_APART},
    )


def _gates(verdicts: Sequence[Mapping[str, Any]]) -> tuple[Gate, ...]:
    return tuple(
        Gate(
            gate=str(verdict["gate"]),
            passed=bool(verdict["passed"]),
            found=str(verdict["found"]),
            required=str(verdict.get("required", "")),
        )
        for verdict in verdicts
    )
