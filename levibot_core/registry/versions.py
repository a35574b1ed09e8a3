"""Registered versions and their aliases, whatever they are kept in.

MLflow behind its client is `levibot_serving.registered_versions`; its database without it, `.alias_database`.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from levibot_core.errors import RegistryError
from levibot_core.stores.paths import Home

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
CANDIDATE_TAG: Final = "rollback_candidate"
"""Tag of a version: why somebody should roll it back; empty where that was so and no longer is."""


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version of the registered model, with the tags the platform gave it."""

    version: int
    run_id: str
    aliases: tuple[str, ...]
    tags: Mapping[str, str]
    created_at: datetime

    @property
    def tradable(self) -> bool:
        """Whether engines may act on it."""
        return self.tags.get("tradable") == "true"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not tradable."""
        return tuple(json.loads(self.tags.get("reasons", "[]")))

    @property
    def family(self) -> str:
        """Kind of model, such as `lightgbm`."""
        return self.tags.get("family", "unknown")

    @property
    def metrics(self) -> Mapping[str, float]:
        """Figures on the untouched test rows."""
        return dict(json.loads(self.tags.get("metrics", "{}")))

    @property
    def gates(self) -> Sequence[Mapping[str, Any]]:
        """Verdicts of the promotion gates; empty when it was never judged."""
        return list(json.loads(self.tags.get("gates", "[]")))

    @property
    def rollback_candidate(self) -> str | None:
        """Why it should be rolled back; None where nothing says so. See `.rollback_candidates`."""
        return self.tags.get(CANDIDATE_TAG) or None

    @property
    def objection(self) -> str | None:
        """Why it may not become champion without force; None where every promotion gate passed."""
        failed = [str(gate["gate"]) for gate in self.gates if not gate["passed"]]
        if failed:
            return f"version {self.version} did not pass {', '.join(failed)}"
        return None if self.gates else f"version {self.version} was never judged"

    @property
    def ensemble(self) -> str | None:
        """Why its training ended with an ensemble or without; None where none was tried."""
        return self.tags.get("ensemble")

    @property
    def trading_gates(self) -> Sequence[Mapping[str, Any]]:
        """Verdicts of the trading gates; empty when it was never judged."""
        return list(json.loads(self.tags.get("trading_gates", "[]")))


class RegisteredVersions(ABC):
    """The versions of one registered model of a home."""

    home: Home
    model_name: str

    @abstractmethod
    def versions(self) -> list[RegisteredVersion]:
        """Every version, newest first."""

    @abstractmethod
    def annotate(self, version: int, tags: Mapping[str, str]) -> None:
        """Add or replace tags of a version."""

    @abstractmethod
    def point(self, alias: str, version: int | None) -> None:
        """Point an alias at a version, or at none."""

    def version(self, version: int) -> RegisteredVersion:
        """One version.

        Raises:
            RegistryError: there is no such version.
        """
        versions = self.versions()
        for found in versions:
            if found.version == version:
                return found
        known = ", ".join(str(found.version) for found in versions) or "none"
        raise RegistryError(f"Expected a version of {self.model_name} ({known}), was {version}.")

    def by_alias(self, alias: str) -> RegisteredVersion | None:
        """The version an alias points to, or None."""
        return next((found for found in self.versions() if alias in found.aliases), None)
