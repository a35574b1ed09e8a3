"""The model card: everything a person has to know before trusting a model, as JSON that fits a schema and as Markdown.

The card repeats what was measured elsewhere and measures nothing itself. Its JSON schema is `model_card.schema.json`,
its Markdown is laid out in `model_card.md.j2`, both beside this module.
"""

import json
import platform
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from jsonschema import Draft202012Validator
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from levibot_core.errors import SchemaError
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.bundle import BundleManifest
from levibot_core.models.candidate import CalibrationReport
from levibot_core.models.metrics import LONG_THRESHOLD, SHORT_THRESHOLD
from levibot_core.models.tuning import TuningResult
from levibot_core.validation.leak_report import LeakReport
from levibot_core.validation.split import SplitResult

CARD_FORMAT: Final = "levibot-model-card/1"
TOP_FEATURES = 20
_LIBRARIES = ("lightgbm", "numpy", "optuna", "polars", "scikit-learn", "scipy")


class _Inputs(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PartSummary(_Inputs):
    """One part of the split: decision times of its first and last row, rows, and rows purged at its end."""

    start: AwareDatetime
    end: AwareDatetime
    rows: int
    purged: int


class TuningSummary(_Inputs):
    """What the search did and found."""

    profile: str
    study_name: str
    trials: int = Field(description="Finished: completed or pruned")
    pruned: int
    resumed: int = Field(description="Finished by an earlier run that was interrupted")
    best_parameters: dict[str, int | float]
    best_rounds: int
    best_validation_log_loss: float = Field(description="Before calibration, nats")


class LatencySummary(_Inputs):
    """Duration of single-row predictions, from feature values to probability, in milliseconds."""

    warm_up: int
    timed: int
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float


class Provenance(_Inputs):
    """Where data and code came from, beside what the bundle's manifest already says."""

    source_key: str
    venue: str
    source_description: str
    snapshot_checksum: str
    features_sha256: str
    code_version: str = Field(description="Git commit and hash of the sources")
    libraries: dict[str, str] = Field(description="Name to version")


class CardInputs(_Inputs):
    """All that goes on a card."""

    manifest: BundleManifest
    version: int | None = Field(None, description="Of the registered model; None before it is registered")
    parts: dict[str, PartSummary]
    report: CalibrationReport
    leakage: LeakReport
    latency: LatencySummary
    tuning: TuningSummary
    provenance: Provenance


def build_card(inputs: CardInputs) -> dict[str, Any]:
    """The card as JSON-ready content that fits `model_card.schema.json`.

    Raises:
        SchemaError: it does not fit; the message names the first places.
    """
    manifest, report = inputs.manifest, inputs.report.model_dump(mode="json")
    card = {
        "format": CARD_FORMAT,
        "created_at": manifest.model_dump(mode="json")["created_at"],
        "model": {
            "name": manifest.model_name,
            "version": inputs.version,
            "family": manifest.family,
            "timeframe": manifest.timeframe,
            "horizon_bars": manifest.horizon_bars,
            "symbols": list(manifest.symbols),
            "feature_set": manifest.feature_set,
            "features": list(manifest.features),
        },
        "intended_use": _intended_use(manifest),
        "limits": _limits(manifest),
        "split": {name: part.model_dump(mode="json") for name, part in inputs.parts.items()},
        "metrics": report["metrics"],
        "base_rate": {"probability": report["base_rate"], "log_loss": report["base_rate_log_loss"]},
        "calibration": {"method": report["method"], "validation_log_loss": report["validation_loss"]},
        "reliability": report["reliability"],
        "importance": report["importance"][:TOP_FEATURES],
        "leakage": {
            "passed": inputs.leakage.passed,
            "checks": [
                {"name": check.name, "passed": check.passed, "detail": check.detail} for check in inputs.leakage.checks
            ],
        },
        "latency": inputs.latency.model_dump(),
        "tuning": inputs.tuning.model_dump(),
        "provenance": {
            "source_kind": manifest.source_kind,
            "snapshot_id": manifest.snapshot_id,
            "seed": manifest.seed,
            **inputs.provenance.model_dump(),
        },
    }
    validate_card(card)
    return card


def validate_card(card: dict[str, Any]) -> None:
    """Check a card against its schema.

    Raises:
        SchemaError: it does not fit; the message names the first places.
    """
    problems = sorted(_validator().iter_errors(card), key=lambda error: error.json_path)
    if problems:
        named = "; ".join(f"{error.json_path}: {error.message[:200]}" for error in problems[:5])
        raise SchemaError(
            f"Expected a model card that fits its schema, was one with {len(problems)} problems: {named}."
        )


def card_markdown(card: dict[str, Any]) -> str:
    """The card as Markdown for people.

    Args:
        card: What `build_card` gave, or a JSON file of it.
    """
    environment = Environment(  # noqa: S701 - the output is Markdown, not HTML
        loader=PackageLoader("levibot_core.models", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("model_card.md.j2").render(
        card, minutes=_horizon_minutes(card["model"]), long=LONG_THRESHOLD, short=SHORT_THRESHOLD
    )


def part_summaries(split: SplitResult) -> dict[str, PartSummary]:
    """The parts of a split as the card shows them."""
    return {
        name: PartSummary(
            start=rows["known_at"].min(), end=rows["known_at"].max(), rows=rows.height, purged=split.purged[name]
        )
        for name, rows in split.parts.items()
    }


def tuning_summary(result: TuningResult, profile: str) -> TuningSummary:
    """A search as the card shows it."""
    return TuningSummary(
        profile=profile,
        study_name=result.study_name,
        trials=result.trials.height,
        pruned=result.pruned,
        resumed=result.resumed,
        best_parameters=dict(result.best_parameters),
        best_rounds=result.best_rounds,
        best_validation_log_loss=result.best_value,
    )


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that a training's figures depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


@cache
def _validator() -> Draft202012Validator:
    schema = json.loads(files("levibot_core.models").joinpath("model_card.schema.json").read_text("utf-8"))
    return Draft202012Validator(schema)


def _horizon_minutes(model: dict[str, Any]) -> int:
    return int(Timeframe.parse(model["timeframe"]).milliseconds * model["horizon_bars"] // 60_000)


def _intended_use(manifest: BundleManifest) -> str:
    minutes = _horizon_minutes(manifest.model_dump(include={"timeframe", "horizon_bars"}))
    return (
        f"Forecast the probability that the close of {', '.join(manifest.symbols)} {minutes} minutes "
        f"({manifest.horizon_bars} bars of {manifest.timeframe}) after a closed bar is above that bar's close, for "
        "trading engines that weigh it against costs and risk, and for people who study such forecasts."
    )


def _limits(manifest: BundleManifest) -> list[str]:
    limits = [
        "It says in which direction, not how far: a right forecast can lose money after costs. The backtest says "
        "whether trading it would have paid.",
        "It answers for the symbols above and refuses others, and refuses a row with a missing feature.",
        "Its figures come from one stretch of one market. Labels of neighbouring rows overlap and symbols move "
        "together, so the figures are less certain than the number of rows suggests.",
        "Markets change: it is to be retrained when the drift report says so, and not to be used beyond that.",
    ]
    if manifest.source_kind not in ("exchange", "recorded"):
        limits.insert(0, "IT WAS TRAINED ON A SIMULATED MARKET. It must never be traded.")
    return limits
