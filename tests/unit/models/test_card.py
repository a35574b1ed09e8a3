import copy
import json
import math
import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from levibot_core.errors import SchemaError
from levibot_core.models.candidate import CalibratedCandidate, Candidate
from levibot_core.models.card import build_card, judged_card, validate_card
from levibot_core.models.card_pages import BEESWARM, card_html, card_markdown, verdict
from levibot_core.models.card_sections import (
    CardInputs,
    Interval,
    Judgement,
    LatencySummary,
    Provenance,
    part_summaries,
    reproduction,
    shap_summary,
    tuning_summary,
)
from levibot_core.models.card_verification import compare_cards
from levibot_core.models.rebuild import RebuildReport
from levibot_core.models.recipe import Recipe
from levibot_core.models.shap_values import shap_sample
from levibot_core.models.spread import SpreadReport, SpreadRun
from levibot_core.validation.comparison import compare_with_base_rate
from levibot_core.validation.gates import GateResult, TradingFacts
from levibot_core.validation.leak_report import LeakCheck, LeakReport
from levibot_core.validation.split import SplitResult

_SINCE_FORMAT_2 = ("misuse", "intervals", "against_base_rate", "shap", "spread", "reproduction", "judgement")


@pytest.fixture(scope="module")
def inputs(candidate: Candidate, calibrated: CalibratedCandidate, split: SplitResult, recipe: Recipe) -> CardInputs:
    """All that goes on the card of the planted model."""
    report = calibrated.report
    runs = [
        SpreadRun(fold=fold, seed=seed, rows=90, rounds=9, auc=0.6 + 0.01 * fold, log_loss=0.66, gain=0.01 * seed)
        for fold in (1, 2)
        for seed in (1, 2, 3)
    ]
    rebuilt = RebuildReport(
        identical=True,
        seconds=1.25,
        scope="winner",
        at=datetime(2025, 1, 6, tzinfo=UTC),
        snapshot="verified files",
        mismatches=(),
        differences=("numpy: was 2.3, is 2.4",),
        expected={},
        found={},
        largest_difference=0.0,
    )
    return CardInputs(
        manifest=calibrated.bundle.manifest,
        version=3,
        parts=part_summaries(split),
        report=report,
        against_base_rate=compare_with_base_rate(calibrated.bundle, report.base_rate, split.test),
        intervals={"ece": Interval(value=report.metrics["test"]["ece"], lower_95=0.001, upper_95=0.0987)},
        shap=shap_summary(shap_sample(calibrated.bundle, split.test, 50)),
        leakage=LeakReport((LeakCheck("truncation", True, "3 features | 6 <instants>"),)),
        latency=LatencySummary(warm_up=100, timed=1000, p50_ms=0.05, p90_ms=0.06, p95_ms=0.07, p99_ms=0.1),
        tuning=tuning_summary(recipe, candidate.tuning.trials),
        spread=SpreadReport(folds=2, seeds=(1, 2, 3), runs=tuple(runs)),
        provenance=Provenance(
            source_key="recorded",
            venue="recorded:binance",
            source_description="recorded candles of <Binance>",
            snapshot_checksum="c" * 64,
            features_sha256="f" * 64,
            code_version="0123456789ab",
            libraries=recipe.environment.libraries,
        ),
        reproduction=reproduction(recipe, rebuilt),
    )


@pytest.fixture
def card(inputs: CardInputs) -> dict[str, Any]:
    """The card of the planted model."""
    return build_card(inputs)


@pytest.fixture
def judgement() -> Judgement:
    """One gate passed, one failed; and what trading it is worth."""
    return Judgement(
        at=datetime(2025, 1, 7, tzinfo=UTC),
        gates=(
            GateResult(gate="leak_check", passed=True, found="no leak found", required="nothing from the future"),
            GateResult(gate="beats_champion", passed=False, found="log loss +0.1 | worse", required="below"),
        ),
        champion_version=2,
        against_champion=None,
        sharpe=2.5,
        trading=TradingFacts(
            days=40,
            sharpe=0.13,
            probabilistic_sharpe=0.97,
            deflated_sharpe=0.431,
            expected_maximum_sharpe=0.1,
            trials=1234,
            effective_trials=46,
            minimum_track_record_days=None,
            trials_traded=3,
            overfitting=0.25,
        ),
        trading_gates=(GateResult(gate="deflated_sharpe", passed=False, found="0.431", required="0.95"),),
    )


def test_a_card_survives_json_and_fits_its_schema(card: dict[str, Any], inputs: CardInputs) -> None:
    restored = json.loads(json.dumps(card, allow_nan=False))
    validate_card(restored)
    assert restored == card
    assert build_card(inputs.model_copy(update={"version": None}))["model"]["version"] is None
    assert build_card(inputs.model_copy(update={"spread": None}))["spread"] is None


def test_a_card_repeats_what_was_measured(
    card: dict[str, Any], calibrated: CalibratedCandidate, split: SplitResult, recipe: Recipe
) -> None:
    assert card["metrics"]["test"] == calibrated.report.metrics["test"]
    assert card["base_rate"]["log_loss"] == calibrated.report.base_rate_log_loss
    assert card["split"]["train"]["rows"] == split.train.height
    assert {name: part["purged"] for name, part in card["split"].items()} == dict(split.purged)
    assert card["leakage"]["passed"] is True
    assert card["provenance"]["snapshot_id"] == calibrated.bundle.manifest.snapshot_id
    assert len(card["importance"]) == len(card["shap"]["columns"]) == 4
    assert card["shap"]["columns"][0]["feature"] == "momentum"
    assert card["tuning"]["best_parameters"] == recipe.parameters
    assert card["reproduction"]["rebuild"]["identical"] is True
    loss, against = card["metrics"]["test"]["log_loss"], card["against_base_rate"]
    constant = math.log(2.0) if "a half" in against["reference"] else card["base_rate"]["log_loss"]["test"]
    assert against["mean"] == pytest.approx(loss - constant)
    summary = card["spread"]["summary"]
    assert summary["gain"]["between_seeds"] == pytest.approx(0.01)
    assert (summary["gain"]["between_folds"], summary["auc"]["mean"]) == pytest.approx((0.0, 0.615))


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
        (("reproduction", "rebuild", "identical"), "yes"),
        (("spread", "runs"), []),
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


def test_a_card_of_the_first_format_is_still_read_and_shown(card: dict[str, Any]) -> None:
    earlier = {name: part for name, part in card.items() if name not in _SINCE_FORMAT_2}
    earlier["format"] = "levibot-model-card/1"
    validate_card(earlier)
    assert "Not judged yet" in card_markdown(earlier)
    assert "Promotion gates" not in card_html(earlier)
    with pytest.raises(SchemaError, match="shap"):
        validate_card({**earlier, "shap": card["shap"]})


def test_a_card_of_format_2_is_shown_with_the_confidence_it_was_judged_with(
    card: dict[str, Any], judgement: Judgement
) -> None:
    judged = judged_card(card, judgement)
    against = {name: value for name, value in card["against_base_rate"].items() if name != "upper_999"}
    for earlier in (card, judged):
        earlier = {**earlier, "format": "levibot-model-card/2", "against_base_rate": {**against, "upper_99": -0.0123}}
        validate_card(earlier)
        for shown in (card_markdown(earlier), _Page(card_html(earlier)).text):
            assert re.search(r"with 99 % confidence below\s-0\.01230", shown)
    bound = re.escape(f"{card['against_base_rate']['upper_999']:+.5f}")
    for shown in (card_markdown(judged), _Page(card_html(judged)).text):
        assert re.search(rf"with 99\.9 % confidence below\s{bound}", shown)
    with pytest.raises(SchemaError, match="against_base_rate"):
        validate_card({**card, "against_base_rate": against})


def test_figures_that_are_no_numbers_never_reach_a_card(inputs: CardInputs) -> None:
    with pytest.raises(ValidationError):
        LatencySummary(**{**inputs.latency.model_dump(), "p95_ms": float("nan")})


def test_the_verdict_is_one_sentence_that_names_what_failed(card: dict[str, Any], judgement: Judgement) -> None:
    assert verdict(card).startswith("Not judged yet: on ")
    refused = judged_card(card, judgement)
    assert verdict(refused).startswith("Refused by 1 of 2 promotion gates (beats champion): on ")
    passed = judged_card(card, judgement.model_copy(update={"gates": judgement.gates[:1]}))
    assert verdict(passed).startswith("Passed all 1 promotion gates: on ")
    assert card["judgement"] is None
    card["metrics"]["test"]["log_loss"] = 0.9
    assert " worse than always saying " in verdict(card)


def test_the_markdown_shows_figures_limits_and_provenance(card: dict[str, Any], judgement: Judgement) -> None:
    text = card_markdown(json.loads(json.dumps(judged_card(card, judgement), sort_keys=True)))
    test = card["metrics"]["test"]
    for shown in (
        f"{test['auc']:.4f}",
        f"{test['log_loss']:.5f}",
        f"{card['base_rate']['log_loss']['test']:.5f}",
        card["provenance"]["snapshot_id"],
        card["tuning"]["study_name"],
        "15 minutes",
        "`momentum`",
        "3 features \\| 6 <instants>",
        "log loss +0.1 \\| worse",
        "0.09870",
        "0.431",
        "numpy: was 2.3, is 2.4" if card["reproduction"]["rebuild"]["mismatches"] else "it came out identical",
        *card["limits"],
        *card["misuse"],
    ):
        assert shown in text
    assert text.startswith("# levibot-5m-h3, version 3\n")
    parts = [line.split("|")[1].strip() for line in text.splitlines() if re.match(r"\| \w+ \| 2025-", line)]
    assert parts[:4] == ["Train", "Validation", "Calibration", "Test"]


def test_markdown_tables_are_whole(card: dict[str, Any], judgement: Judgement) -> None:
    lines = card_markdown(judged_card(card, judgement)).splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert len(tables) > 80
    assert all(line.endswith("|") for line in tables)
    for first, second in pairwise(lines):
        if first.startswith("|") and second.startswith("|"):
            assert len(re.split(r"(?<!\\)\|", first)) == len(re.split(r"(?<!\\)\|", second))
    assert not any("{{" in line or "{%" in line for line in lines)


class _Page(HTMLParser):
    """Which tags are open, what is linked, and the text people read."""

    _WITHOUT_END = frozenset({"meta", "img", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset") and value]
        if tag not in self._WITHOUT_END:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A tag without content, such as a line of a drawing."""

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone_and_is_well_formed(card: dict[str, Any], judgement: Judgement) -> None:
    html = card_html(judged_card(card, judgement), {BEESWARM: b"\x89PNG", "tuning_history": b"\x89PNG"})
    page = _Page(html)
    assert (page.open, page.wrong) == ([], [])
    assert len(page.links) == 2
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    assert not re.search(r"<script|@import|url\(|https?://", html)
    assert "prefers-color-scheme: dark" in html
    assert html == card_html(judged_card(card, judgement), {BEESWARM: b"\x89PNG", "tuning_history": b"\x89PNG"})


def test_the_page_says_the_verdict_first_and_how_to_compute_it_again(
    card: dict[str, Any], judgement: Judgement
) -> None:
    judged = json.loads(json.dumps(judged_card(card, judgement), sort_keys=True))
    text = " ".join(_Page(card_html(judged)).text.split())
    for shown in (
        "levibot models card verify 3",
        "levibot models rebuild 3 --study",
        "recorded candles of <Binance>",
        "6 <instants>",
        "1,234 ever run, 46 of them different",
        "0.431 (deflated Sharpe ratio)",
        "2.50",
        "numpy: was 2.3, is 2.4",
        "0.0010 to 0.0987 (95 %)",
        *judged["misuse"],
    ):
        assert shown in text
    assert text.index("Refused by 1 of 2") < text.index("Promotion gates") < text.index("How good it is")


def test_a_failed_leak_check_is_said_aloud(card: dict[str, Any]) -> None:
    card["leakage"] = {"passed": False, "checks": [{"name": "truncation", "passed": False, "detail": "momentum"}]}
    assert "leak check **FAILED**" in card_markdown(card)
    assert "Leak attack: FAILED" in _Page(card_html(card)).text


def test_a_model_of_a_simulated_market_is_never_to_be_traded(inputs: CardInputs) -> None:
    simulated = inputs.manifest.model_copy(update={"source_kind": "simulated"})
    card = build_card(inputs.model_copy(update={"manifest": simulated}))
    assert "never be traded" in card["limits"][0]
    assert "never be traded" in card_markdown(card)
    assert "it must never be traded" in card_html(card)


def test_rows_that_are_never_called_have_no_hit_rate(card: dict[str, Any]) -> None:
    for scores in card["metrics"].values():
        scores.pop("hit_rate", None)
    validate_card(card)
    assert "| Hit rate of those calls | no calls | no calls | no calls |" in card_markdown(card)
    assert "no calls" in card_html(card)


def test_a_card_is_the_same_as_itself_read_from_its_file(card: dict[str, Any], judgement: Judgement) -> None:
    judged = judged_card(card, judgement)
    report = compare_cards(json.loads(json.dumps(judged, sort_keys=True)), judged, deep=True)
    assert report.mismatches == ()
    assert report.checked > 150
    assert {"latency", "reproduction.rebuild", "judgement.trading"} <= set(report.not_checked)
    assert "spread" not in report.not_checked


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metrics.test.auc", 0.9),
        ("metrics.test.rows", 1.0),
        ("split.train.purged", 0),
        ("base_rate.probability", 0.50001),
        ("leakage.passed", False),
        ("reliability.counts[0]", 1),
        ("importance[1].feature", "moonlight"),
        ("spread.runs[2].gain", 0.5),
        ("limits[0]", "It has no limits."),
        ("provenance.snapshot_checksum", "d" * 64),
        ("judgement.gates[1].passed", True),
    ],
)
def test_one_altered_value_is_found_where_it_is(
    card: dict[str, Any], judgement: Judgement, path: str, value: object
) -> None:
    right = judged_card(card, judgement)
    altered = copy.deepcopy(right)
    place: Any = altered
    *keys, last = [int(key) if key.isdigit() else key for key in re.findall(r"\w+", path)]
    for key in keys:
        place = place[key]
    before, place[last] = place[last], value

    report = compare_cards(altered, right, deep=True)

    assert [(found.path, found.on_the_card, found.recomputed) for found in report.mismatches] == [(path, value, before)]


def test_latency_is_reported_and_never_a_mismatch_and_what_is_missing_is(card: dict[str, Any]) -> None:
    slower = {**card, "latency": {**card["latency"], "p95_ms": 70.0}, "misuse": card["misuse"][:-1]}
    report = compare_cards(card, slower, deep=False)
    assert report.latency["p95_ms"] == {"on_the_card": 0.07, "now": 70.0}
    assert [found.path for found in report.mismatches] == ["misuse[4]"]
    assert {"spread", "leakage"} <= set(report.not_checked)
