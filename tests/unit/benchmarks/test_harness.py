"""What the comparison promises: real processes, asked in turn; whoever is missing or fails is named."""

from pathlib import Path

import pytest

from benchmarks.harness import BenchmarkError, Contestant, compare

ARGUMENTS = {"rows": 100, "inputs": 2, "outputs": 3, "fresh": True}
COPY = Contestant("copy", "benchmarks.peers.copy_once", ARGUMENTS)


def test_a_contestant_is_measured_as_often_as_asked_and_tells_of_itself() -> None:
    outcome = compare([COPY], runs=3, result_bytes=10_000)["copy"]
    assert len(outcome["seconds"]["runs"]) == len(outcome["cpu_seconds"]["runs"]) == 3
    assert outcome["fastest_s"] == outcome["seconds"]["minimum"] <= outcome["seconds"]["median"]
    assert outcome["peak_memory_mb"] > 0
    assert (outcome["rows"], outcome["bytes"], outcome["threads"]) == (100, 5 * 100 * 8, 1)
    assert "numpy" in outcome["versions"]


def test_a_peer_without_its_environment_is_reported_and_the_others_are_measured() -> None:
    absent = Contestant("absent", "benchmarks.peers.copy_once", ARGUMENTS, environment="never-built")
    outcomes = compare([absent, COPY], runs=1)
    assert outcomes["absent"] == {"missing": "run make bench-peers"}
    assert outcomes["copy"]["fastest_s"] > 0


def test_a_failure_of_ours_ends_the_comparison_and_says_why() -> None:
    with pytest.raises(BenchmarkError, match="KeyError: 'rows'"):
        compare([Contestant("ours", "benchmarks.peers.copy_once")], runs=1)


def test_a_failure_of_a_peer_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = tmp_path / "broken" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 'no such package' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr("benchmarks.harness.PEERS", tmp_path)
    broken = Contestant("broken", "benchmarks.peers.copy_once", ARGUMENTS, environment="broken")
    outcomes = compare([broken, COPY], runs=1)
    assert "no such package" in outcomes["broken"]["failed"]
    assert "seconds" in outcomes["copy"]
