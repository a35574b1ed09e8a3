"""The shapes of what changes something: the champion and the kill switch; and of how these stand."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Reason = Field(min_length=3, max_length=500, description="Why; kept in the audit log", examples=["beats version 6"])


class Gate(BaseModel):
    """What one gate found."""

    model_config = ConfigDict(frozen=True)

    gate: str
    passed: bool
    found: str
    required: str = ""


_VERSION: dict[str, Any] = {
    "version": 7,
    "family": "lightgbm",
    "aliases": ["champion"],
    "created_at": "2026-01-02T03:40:11Z",
    "tradable": True,
    "reasons": [],
    "gates_passed": True,
    "gates": [{"gate": "latency", "passed": True, "found": "p95 0.214 ms", "required": "at most 80 ms for one row"}],
    "trading_gates": [],
    "metrics": {"log_loss": 0.6901, "auc": 0.534, "ece": 0.006},
    "tags": {"snapshot_id": "20260102T000000Z-0123456789ab", "source_kind": "exchange"},
}


class ModelVersion(BaseModel):
    """A registered version."""

    model_config = ConfigDict(frozen=True)

    version: int
    family: str
    aliases: tuple[str, ...]
    created_at: datetime
    tradable: bool
    reasons: tuple[str, ...] = Field(description="Why it is not tradable")
    gates_passed: bool = Field(description="Whether it may become champion without force")
    gates: tuple[Gate, ...] = Field(description="Promotion gates; empty when it was never judged")
    trading_gates: tuple[Gate, ...]
    metrics: dict[str, float | None] = Field(description="On the untouched test rows")
    tags: dict[str, str] = Field(description="The others")


class ModelList(BaseModel):
    """Every registered version, newest first."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "ok": True,
                    "model": "levibot-5m-h12",
                    "champion": 7,
                    "challenger": None,
                    "previous": 6,
                    "served": 7,
                    "versions": [_VERSION],
                }
            ]
        },
    )

    ok: bool = True
    model: str
    champion: int | None
    challenger: int | None
    previous: int | None
    served: int | None = Field(description="The version that answers here now")
    versions: tuple[ModelVersion, ...]


class Activation(BaseModel):
    """Make a version the champion."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"version": 7, "reason": "beats version 6"}]},
    )

    version: int = Field(ge=1)
    reason: str = Reason
    force: bool = Field(False, description="Also a version that did not pass its gates; recorded as forced")


class Rollback(BaseModel):
    """Make the champion before the present one champion again."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", json_schema_extra={"examples": [{"reason": "it loses money"}]}
    )

    reason: str = Reason


class ChampionChange(BaseModel):
    """What became of a request to change the champion. Every worker serves it within 5 s."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "ok": True,
                    "champion": 7,
                    "replaced": 6,
                    "changed": True,
                    "forced": False,
                    "reason": "beats version 6",
                    "message": "Version 7 is champion; every worker serves it within 5 s.",
                }
            ]
        },
    )

    ok: bool = True
    champion: int
    replaced: int | None
    changed: bool = Field(description="False where the version was champion already; nothing is recorded then")
    forced: bool
    reason: str
    message: str


class Selection(BaseModel):
    """The name of a model that should answer."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", json_schema_extra={"examples": [{"name": "lightgbm"}]}
    )

    name: str = Field(min_length=1, max_length=100, description="A registered model or a family of models")


class Selected(BaseModel):
    """What answers."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [{"ok": True, "current": "levibot-5m-h12", "message": "Version 7 (lightgbm) answers."}]
        },
    )

    ok: bool = True
    current: str
    message: str


class KillRequest(BaseModel):
    """Throw the kill switch."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        json_schema_extra={"examples": [{"on": True, "reason": "exchange misquotes"}]},
    )

    on: bool
    reason: str = Reason


class KillAnswer(BaseModel):
    """How the switch stands now, in every worker."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "ok": True,
                    "kill_switch": True,
                    "reason": "exchange misquotes",
                    "message": "Every forecast abstains from now on.",
                }
            ]
        },
    )

    ok: bool = True
    kill_switch: bool
    reason: str
    message: str


class LiveStatus(BaseModel):
    """Whether forecasts may be acted on."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "kill_switch_active": False,
                    "reason": "quotes are back",
                    "mode": "live",
                    "active": True,
                    "actor": "ada",
                    "since": "2026-01-02T03:00:00Z",
                }
            ]
        },
    )

    kill_switch_active: bool
    reason: str = Field(description="In the words of who threw it last; empty when nobody ever did")
    mode: Literal["live", "killed"]
    active: bool = Field(description="False while killed, and while no model is loaded")
    actor: str
    since: datetime | None
