import json

import pytest

from benchmarks.report import Claim, Figure, Options, Report, publish, times_better

OURS = {"seconds": {"minimum": 1.0}, "speed": 30.0}


@pytest.mark.parametrize(
    ("value", "at_least", "holds"), [(9.9, True, False), (10.0, True, True), (10.1, False, False), (None, True, None)]
)
def test_a_claim_holds_on_its_side_of_the_limit(value: float | None, at_least: bool, holds: bool | None) -> None:
    assert Claim("speed", value, 10.0, at_least=at_least, unit="x").holds is holds


def test_a_ratio_above_one_says_that_ours_is_better() -> None:
    assert times_better(OURS, {"speed": 10.0}, "speed", more_is_better=True) == 3.0
    assert times_better({"p50_ms": 1.0}, {"p50_ms": 4.0}, "p50_ms", more_is_better=False) == 4.0
    assert times_better(OURS, {"missing": "run make bench-peers"}, "speed", more_is_better=True) is None


def test_a_missing_peer_stands_in_the_json_and_is_named_to_people(capsys: pytest.CaptureFixture[str]) -> None:
    peer = {"missing": "run make bench-peers"}
    claims = [Claim("speed against qlib", None, 10.0, at_least=True, unit="x")]
    figures = [Figure("speed", "cells/s")]
    report = Report("example", "an example", OURS, {"qlib": {"one": peer}}, {"qlib": None}, claims, figures)
    publish(report, Options(runs=1, quick=True))
    printed = capsys.readouterr()
    payload = json.loads(printed.out)
    assert payload["peers"]["qlib"]["one"] == peer
    assert payload["claims"][0]["holds"] is None
    assert {"name", "ours", "peers", "ratio", "machine"} <= payload.keys()
    assert "qlib, one: MISSING: run make bench-peers" in printed.err
