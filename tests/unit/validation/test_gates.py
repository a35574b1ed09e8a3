from typing import Any

import pytest

from levibot_core.validation.gates import (
    GATE_NAMES,
    TRADING_GATE_NAMES,
    GateFacts,
    LossComparison,
    TradingFacts,
    evaluate_gates,
    evaluate_trading_gates,
    reasons_against_trading,
    rebuild_gate,
)

_BETTER = LossComparison(reference="the champion", mean=-0.01, lower_95=-0.02, upper_95=-0.002, upper_999=-0.001)
_GOOD: dict[str, Any] = {
    "leak_check_passed": True,
    "calibration_error": 0.02,
    "latency_p95_ms": 0.3,
    "against_champion": _BETTER,
    "against_base_rate": _BETTER,
    "snapshot_verified": True,
    "code_version": "0123456789ab+src.ba9876543210",
    "source_kind": "recorded",
    "champion_source_kind": "recorded",
    "rebuild_passed": True,
}


def _failed(**changes: Any) -> set[str]:
    return {result.gate for result in evaluate_gates(GateFacts(**(_GOOD | changes))) if not result.passed}


def test_a_good_candidate_passes_every_gate_in_order() -> None:
    results = evaluate_gates(GateFacts(**_GOOD))

    assert tuple(result.gate for result in results) == GATE_NAMES
    assert all(result.passed for result in results)


@pytest.mark.parametrize(
    ("changes", "gate"),
    [
        ({"leak_check_passed": False, "leak_check_failures": ("perturbation",)}, "leak_check"),
        ({"calibration_error": 0.1}, "calibration"),
        ({"latency_p95_ms": 80.1}, "latency"),
        (
            {
                "against_champion": LossComparison(
                    reference="x", mean=-0.01, lower_95=-0.03, upper_95=-0.001, upper_999=0.0
                )
            },
            "beats_champion",
        ),
        (
            {"against_base_rate": LossComparison(reference="x", mean=0.0, lower_95=0.0, upper_95=0.0, upper_999=0.0)},
            "beats_base_rate",
        ),
        ({"snapshot_verified": False}, "provenance"),
        ({"code_version": ""}, "provenance"),
        ({"source_kind": "simulated"}, "provenance"),
        ({"rebuild_passed": False}, "rebuild"),
        ({"rebuild_passed": None}, "rebuild"),
    ],
)
def test_each_flaw_fails_its_own_gate_and_no_other(changes: dict[str, Any], gate: str) -> None:
    assert _failed(**changes) == {gate}


def test_a_first_candidate_has_no_champion_to_beat() -> None:
    assert _failed(against_champion=None, champion_source_kind=None) == set()


def test_a_simulated_model_may_replace_a_simulated_one_or_none() -> None:
    assert _failed(source_kind="simulated", champion_source_kind="simulated") == set()
    assert _failed(source_kind="simulated", champion_source_kind="none") == set()


def test_every_verdict_says_what_was_found_and_what_was_required() -> None:
    for result in evaluate_gates(GateFacts(**_GOOD)):
        assert result.found
        assert result.required


_TRADED: dict[str, Any] = {
    "days": 400,
    "sharpe": 0.2,
    "probabilistic_sharpe": 0.999,
    "deflated_sharpe": 0.97,
    "expected_maximum_sharpe": 0.1,
    "trials": 300,
    "effective_trials": 120,
    "minimum_track_record_days": 80.0,
    "trials_traded": 200,
    "overfitting": 0.1,
}
_FLAT = {
    "sharpe": None,
    "probabilistic_sharpe": None,
    "deflated_sharpe": None,
    "expected_maximum_sharpe": None,
    "minimum_track_record_days": None,
    "trials_traded": 0,
    "overfitting": None,
}


def _forbidden(**changes: Any) -> set[str]:
    results = evaluate_trading_gates(GateFacts(**_GOOD, trading=TradingFacts(**(_TRADED | changes))))
    assert tuple(result.gate for result in results) == TRADING_GATE_NAMES
    forbidden = [result for result in results if not result.passed]
    assert reasons_against_trading(results) == tuple(f"{one.found} (required: {one.required})" for one in forbidden)
    return {result.gate for result in forbidden}


@pytest.mark.parametrize(
    ("changes", "gates"),
    [
        ({}, set()),
        ({"deflated_sharpe": 0.9499}, {"deflated_sharpe"}),
        ({"overfitting": 0.501}, {"overfitting"}),
        ({"overfitting": None}, {"overfitting"}),
        ({"overfitting": None, "trials_traded": 1}, set()),
        ({"days": 79}, {"track_record"}),
        ({"minimum_track_record_days": None}, {"track_record"}),
    ],
)
def test_each_weakness_of_a_policy_forbids_trading(changes: dict[str, Any], gates: set[str]) -> None:
    assert _forbidden(**changes) == gates


def test_a_flat_policy_is_never_traded_and_its_model_promoted_all_the_same() -> None:
    assert _forbidden(**_FLAT) == {"deflated_sharpe", "track_record"}
    facts = GateFacts(**_GOOD, trading=TradingFacts(**(_TRADED | _FLAT)))
    assert "flat: nothing to deflate" in reasons_against_trading(evaluate_trading_gates(facts))[0]
    assert all(result.passed for result in evaluate_gates(facts))


def test_a_policy_that_was_not_measured_is_not_traded() -> None:
    results = evaluate_trading_gates(GateFacts(**_GOOD))
    assert not any(result.passed for result in results)


@pytest.mark.parametrize(
    ("passed", "found"), [(True, "rebuilt the same"), (False, "differently"), (None, "not rebuilt")]
)
def test_only_a_model_that_was_rebuilt_the_same_passes(passed: bool | None, found: str) -> None:
    result = rebuild_gate(GateFacts(**(_GOOD | {"rebuild_passed": passed}), rebuild_detail="2 files"))
    assert (result.passed, result.gate) == (passed is True, "rebuild")
    assert found in result.found
    assert result.found.endswith(": 2 files")
