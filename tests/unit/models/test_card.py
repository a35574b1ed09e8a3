import copy
import json
import re
from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from levibot_core.errors import SchemaError
from levibot_core.models.candidate import CalibratedCandidate, Candidate
from levibot_core.models.card import (
    CardInputs,
    LatencySummary,
    Provenance,
    build_card,
    card_markdown,
    library_versions,
    part_summaries,
    tuning_summary,
    validate_card,
)
from levibot_core.validation.leak_report import LeakCheck, LeakReport
from levibot_core.validation.split import SplitResult


@pytest.fixture(scope="module")
def inputs(candidate: Candidate, calibrated: CalibratedCandidate, split: SplitResult) -> CardInputs:
    """All that goes on the card of the planted model."""
    return CardInputs(
        manifest=calibrated.bundle.manifest,
        parts=part_summaries(split),
        report=calibrated.report,
        leakage=LeakReport((LeakCheck("truncation", True, "3 features | 6 instants"),)),
        latency=LatencySummary(warm_up=100, timed=1000, p50_ms=0.05, p90_ms=0.06, p95_ms=0.07, p99_ms=0.1),
        tuning=tuning_summary(candidate.tuning, "tiny"),
        provenance=Provenance(
            source_key="recorded",
            venue="recorded:binance",
            source_description="recorded candles of Binance",
            snapshot_checksum="c" * 64,
            features_sha256="f" * 64,
            code_version="0123456789ab",
            libraries=library_versions(),
        ),
    )


@pytest.fixture
def card(inputs: CardInputs) -> dict[str, Any]:
    """The card of the planted model."""
    return build_card(inputs)


def test_a_card_survives_json_and_fits_its_schema(card: dict[str, Any], inputs: CardInputs) -> None:
    restored = json.loads(json.dumps(card, allow_nan=False))
    validate_card(restored)
    assert restored == card
    assert card["model"]["version"] is None
    assert build_card(inputs.model_copy(update={"version": 3}))["model"]["version"] == 3


def test_a_card_repeats_what_was_measured(
    card: dict[str, Any], calibrated: CalibratedCandidate, split: SplitResult
) -> None:
    assert card["metrics"]["test"] == calibrated.report.metrics["test"]
    assert card["base_rate"]["log_loss"] == calibrated.report.base_rate_log_loss
    assert card["split"]["train"]["rows"] == split.train.height
    assert {name: part["purged"] for name, part in card["split"].items()} == dict(split.purged)
    assert card["leakage"]["passed"] is True
    assert card["provenance"]["snapshot_id"] == calibrated.bundle.manifest.snapshot_id
    assert len(card["importance"]) == 4


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("metrics", "test", "auc"), 1.5),
        (("metrics", "test", "log_loss"), None),
        (("leakage", "checks"), []),
        (("created_at",), "yesterday"),
        (("provenance", "source_kind"), "dreamt"),
        (("surprise",), 1),
        (("model", "horizon_bars"), 0),
    ],
)
def test_a_card_that_does_not_fit_names_the_place(card: dict[str, Any], path: tuple[str, ...], value: object) -> None:
    place = card
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(SchemaError, match=path[-1]):
        validate_card(card)


def test_every_section_is_required(card: dict[str, Any]) -> None:
    for section in card:
        lacking = copy.deepcopy(card)
        del lacking[section]
        with pytest.raises(SchemaError, match=section):
            validate_card(lacking)


def test_figures_that_are_no_numbers_never_reach_a_card(inputs: CardInputs) -> None:
    with pytest.raises(ValidationError):
        LatencySummary(**{**inputs.latency.model_dump(), "p95_ms": float("nan")})


def test_the_markdown_shows_figures_limits_and_provenance(card: dict[str, Any]) -> None:
    text = card_markdown(json.loads(json.dumps(card)))
    test = card["metrics"]["test"]
    for shown in (
        f"{test['auc']:.4f}",
        f"{test['log_loss']:.5f}",
        f"{card['base_rate']['log_loss']['test']:.5f}",
        card["provenance"]["snapshot_id"],
        card["tuning"]["study_name"],
        "15 minutes",
        "`momentum`",
        "3 features \\| 6 instants",
        *card["limits"],
    ):
        assert shown in text
    assert "nats a row\n> lower" in text
    assert text.startswith("# levibot-5m-h3\n")
    assert "# levibot-5m-h3, version 3\n" in card_markdown({**card, "model": {**card["model"], "version": 3}})


def test_markdown_tables_are_whole(card: dict[str, Any]) -> None:
    lines = card_markdown(card).splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert len(tables) > 60
    assert all(line.endswith("|") for line in tables)
    for first, second in pairwise(lines):
        if first.startswith("|") and second.startswith("|"):
            assert len(re.split(r"(?<!\\)\|", first)) == len(re.split(r"(?<!\\)\|", second))
    assert not any("{{" in line or "{%" in line for line in lines)


def test_a_failed_leak_check_and_a_worse_model_are_said_aloud(card: dict[str, Any]) -> None:
    card["leakage"] = {"passed": False, "checks": [{"name": "truncation", "passed": False, "detail": "momentum"}]}
    card["metrics"]["test"]["log_loss"] = 0.9
    text = card_markdown(card)
    assert "leak check **FAILED**" in text
    assert "> higher" in text


def test_a_model_of_a_simulated_market_is_never_to_be_traded(inputs: CardInputs) -> None:
    simulated = inputs.manifest.model_copy(update={"source_kind": "simulated"})
    card = build_card(inputs.model_copy(update={"manifest": simulated}))
    assert "never be traded" in card["limits"][0]
    assert "never be traded" in card_markdown(card)


def test_rows_that_are_never_called_have_no_hit_rate(card: dict[str, Any]) -> None:
    for scores in card["metrics"].values():
        scores.pop("hit_rate", None)
    validate_card(card)
    assert "| Hit rate of those calls | no calls | no calls | no calls |" in card_markdown(card)
