from typing import Any

import pytest

from levibot_core.validation.gates import GATE_NAMES, GateFacts, LossComparison, evaluate_gates

_BETTER = LossComparison(reference="the champion", mean=-0.01, lower_95=-0.02, upper_95=-0.001)
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
            {"against_champion": LossComparison(reference="x", mean=-0.01, lower_95=-0.03, upper_95=0.0)},
            "beats_champion",
        ),
        ({"against_base_rate": LossComparison(reference="x", mean=0.0, lower_95=0.0, upper_95=0.0)}, "beats_base_rate"),
        ({"snapshot_verified": False}, "provenance"),
        ({"code_version": ""}, "provenance"),
        ({"source_kind": "simulated"}, "provenance"),
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
