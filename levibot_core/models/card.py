"""The model card: everything a person has to know before trusting a model, as JSON that fits a schema.

The card repeats what was measured elsewhere and measures nothing itself. Its JSON schema, `model_card.schema.json`
beside this module, describes this format and those before it; the pages made from it are in `.card_pages`, computing
its figures again is `.card_verification`'s work.
"""

import json
from functools import cache
from importlib.resources import files
from typing import Any, Final

from jsonschema import Draft202012Validator

from levibot_core.errors import SchemaError
from levibot_core.labels.definition import event_in_words
from levibot_core.market.timeframe import Timeframe
from levibot_core.models.bundle import BundleManifest
from levibot_core.models.card_sections import CardInputs, Judgement
from levibot_core.models.predictors import ENSEMBLE

CARD_FORMAT: Final = "levibot-model-card/3"
TOP_FEATURES = 20


def build_card(inputs: CardInputs) -> dict[str, Any]:
    """The card as JSON-ready content that fits `model_card.schema.json`; `judged_card` adds what the gates say.

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
            "window": manifest.window,
            "symbols": list(manifest.symbols),
            "feature_set": manifest.feature_set,
            "features": list(manifest.features),
            **_label(manifest),
        },
        "intended_use": _intended_use(manifest),
        "limits": _limits(manifest),
        "misuse": _misuse(manifest),
        "split": {name: part.model_dump(mode="json") for name, part in inputs.parts.items()},
        "metrics": report["metrics"],
        "intervals": {name: interval.model_dump() for name, interval in inputs.intervals.items()},
        "base_rate": {"probability": report["base_rate"], "log_loss": report["base_rate_log_loss"]},
        "against_base_rate": inputs.against_base_rate.model_dump(),
        "calibration": {"method": report["method"], "validation_log_loss": report["validation_loss"]},
        "reliability": report["reliability"],
        "importance": report["importance"][:TOP_FEATURES],
        "shap": _shap(inputs),
        "leakage": {
            "passed": inputs.leakage.passed,
            "checks": [
                {"name": check.name, "passed": check.passed, "detail": check.detail} for check in inputs.leakage.checks
            ],
        },
        "latency": inputs.latency.model_dump(),
        "tuning": inputs.tuning.model_dump(),
        "spread": _spread(inputs),
        "reproduction": _reproduction(inputs),
        **({"ensemble": inputs.ensemble.model_dump(mode="json")} if inputs.ensemble else {}),
        "judgement": None,
        "provenance": {
            "source_kind": manifest.source_kind,
            "snapshot_id": manifest.snapshot_id,
            "seed": manifest.seed,
            **inputs.provenance.model_dump(),
        },
    }
    validate_card(card)
    return card


def judged_card(card: dict[str, Any], judgement: Judgement) -> dict[str, Any]:
    """The card with what the promotion gates said; the card itself is not changed.

    Raises:
        SchemaError: the outcome does not fit the schema.
    """
    content = judgement.model_dump(mode="json")
    judged = {**card, "judgement": {**content, "accepted": all(gate.passed for gate in judgement.gates)}}
    validate_card(judged)
    return judged


def validate_card(card: dict[str, Any]) -> None:
    """Check a card of this format, or of one before it, against the schema.

    Raises:
        SchemaError: it does not fit; the message names the first places.
    """
    problems = sorted(_validator().iter_errors(card), key=lambda error: error.json_path)
    if problems:
        named = "; ".join(f"{error.json_path}: {error.message[:200]}" for error in problems[:5])
        raise SchemaError(
            f"Expected a model card that fits its schema, was one with {len(problems)} problems: {named}."
        )


def horizon_minutes(card: dict[str, Any]) -> int:
    """How far ahead the model of a card forecasts, in minutes."""
    return _minutes(card["model"]["timeframe"], card["model"]["horizon_bars"])


def _label(manifest: BundleManifest) -> dict[str, Any]:
    """What a card says of the label and the weights where they are not the usual ones."""
    found: dict[str, Any] = {}
    if manifest.triple_barrier is not None:
        found["triple_barrier"] = manifest.triple_barrier.model_dump()
    if manifest.sample_weights != "none":
        found["sample_weights"] = manifest.sample_weights
    return found


@cache
def _validator() -> Draft202012Validator:
    schema = json.loads(files("levibot_core.models").joinpath("model_card.schema.json").read_text("utf-8"))
    return Draft202012Validator(schema)


def _minutes(timeframe: str, bars: int) -> int:
    return int(Timeframe.parse(timeframe).milliseconds * bars // 60_000)


def _spread(inputs: CardInputs) -> dict[str, Any] | None:
    if inputs.spread is None:
        return None
    return {**inputs.spread.model_dump(mode="json"), "summary": inputs.spread.summary()}


def _shap(inputs: CardInputs) -> dict[str, Any] | None:
    if inputs.shap is None:
        return None
    columns = [column.model_dump() for column in inputs.shap.columns[:TOP_FEATURES]]
    return {"rows": inputs.shap.rows, "columns": columns}


def _reproduction(inputs: CardInputs) -> dict[str, Any]:
    shown = {"version", "found", "expected"}
    found = inputs.reproduction.model_dump(mode="json", exclude={"rebuild"})
    rebuilt = inputs.reproduction.rebuild
    return {**found, "rebuild": rebuilt.model_dump(mode="json", exclude=shown) if rebuilt else None}


def _intended_use(manifest: BundleManifest) -> str:
    minutes = _minutes(manifest.timeframe, manifest.horizon_bars)
    if manifest.triple_barrier is not None:
        return (
            f"Forecast the probability, for {', '.join(manifest.symbols)}, that "
            f"{event_in_words(manifest.label, manifest.timeframe)}; for people who study such forecasts. The API does "
            "not serve it, and the policy does not act on it."
        )
    return (
        f"Forecast the probability that the close of {', '.join(manifest.symbols)} {minutes} minutes "
        f"({manifest.horizon_bars} bars of {manifest.timeframe}) after a closed bar is above that bar's close, for "
        "trading engines that weigh it against costs and risk, and for people who study such forecasts."
    )


def _limits(manifest: BundleManifest) -> list[str]:
    limits = [
        _first_limit(manifest),
        "It answers for the symbols above and refuses others, and refuses a row with a missing feature.",
        "Its figures come from one stretch of one market. Labels of neighbouring rows overlap and symbols move "
        "together, so the figures are less certain than the number of rows suggests.",
        "Markets change: it is to be retrained when the drift report says so, and not to be used beyond that.",
    ]
    if manifest.family == ENSEMBLE:
        limits.append(
            "It was chosen over its best member on the test rows, which the gates look at too: a choice of two, which "
            "flatters it a little. How much its figures move with fold and seed was not measured."
        )
    if manifest.source_kind not in ("exchange", "recorded"):
        limits.insert(0, "IT WAS TRAINED ON A SIMULATED MARKET. It must never be traded.")
    return limits


def _first_limit(manifest: BundleManifest) -> str:
    if manifest.triple_barrier is not None:
        return (
            "It says whether the profit is reached first. What is not may be stopped or may just take longer, so one "
            "less its probability is no forecast of a fall."
        )
    return (
        "It says in which direction, not how far: a right forecast can lose money after costs. The backtest says "
        "whether trading it would have paid."
    )


def _misuse(manifest: BundleManifest) -> list[str]:
    minutes = _minutes(manifest.timeframe, manifest.horizon_bars)
    return [
        f"Other horizons than {minutes} minutes, other bars than {manifest.timeframe}, other symbols.",
        "Sizing a position from the probability alone: it knows neither fees, nor spread, nor how far a price moves.",
        "Acting on features that are stale, filled in or computed by other code than that of the feature set "
        f"{manifest.feature_set}.",
        "Trading while its registered version is not tagged as tradable, or the served answer is not.",
        "Advice to people on what to buy or sell.",
    ]
