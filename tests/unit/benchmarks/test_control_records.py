"""Kept controls survive a run that is killed while it writes, and only count for the code they were run with."""

from pathlib import Path

import pytest

from benchmarks.control_records import ControlRecord, code_digest, control_records
from levibot_core.models.auc import AreaUnderCurve
from levibot_core.validation.controls import Control, ControlOutcome
from levibot_core.validation.gates import LossComparison


def _record(seed: int) -> ControlRecord:
    area = AreaUnderCurve(0.1 + 0.2, 0.01, 0.28, 0.32)
    loss = LossComparison(reference="a half", mean=1e-17, lower_95=-1.0, upper_95=1.0, upper_999=1.5)
    return ControlRecord(ControlOutcome(Control(seed=seed, edge=0.1), area, loss, ("beats_base_rate",)), 1.25)


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_line_that_was_cut_short_is_run_again_and_the_others_are_kept(tmp_path: Path, cut: int) -> None:
    path, records = tmp_path / "results" / "controls.jsonl", [_record(seed) for seed in (1, 2, 3)]
    kept = control_records(path, "code")
    kept.add(records[0])
    kept.add(records[1])
    path.write_bytes(path.read_bytes()[: -1 - cut])
    again = control_records(path, "code")
    assert again[records[0].outcome.control] == records[0]
    assert records[1].outcome.control not in again
    again.add(records[2])
    found = control_records(path, "code")
    assert [record.outcome.control in found for record in records] == [True, False, True]
    assert found[records[2].outcome.control] == records[2]


def test_outcomes_of_other_code_do_not_count(tmp_path: Path) -> None:
    path, record = tmp_path / "controls.jsonl", _record(1)
    control_records(path, "before").add(record)
    assert record.outcome.control not in control_records(path, "after")
    assert record.outcome.control in control_records(path, "before")
    assert code_digest() == code_digest() and len(code_digest()) == 64
