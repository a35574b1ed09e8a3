"""`levibot features attack`: a table or JSON, and an exit code that says whether the guard can be trusted."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from levibot_core.validation.attack import suite
from levibot_core.validation.mutations.catalogue import MUTATIONS
from levibot_core.validation.mutations.mutation import Mutation
from levibot_pipelines.cli.features import app

BY_NAME = {mutation.name: mutation for mutation in MUTATIONS}
HARMLESS = replace(BY_NAME["negative_shift"], name="harmless", plant=lambda pipeline, _: pipeline)


def attack(monkeypatch: pytest.MonkeyPatch, mutations: Sequence[Mutation], *arguments: str) -> tuple[int, str]:
    """Run the command on a short list; the whole one is attacked in the unit tests."""
    monkeypatch.setattr(suite, "MUTATIONS", mutations)
    monkeypatch.setattr(suite, "EDGES", (0.15,))
    monkeypatch.setattr(suite, "_CLEAN_SEEDS", 0)  # leaves the whole feature set as the one clean run
    monkeypatch.setenv("LEVIBOT_FEATURE_SET", "v1")  # a sixth of the features
    answer = CliRunner().invoke(app, ["attack", "--seed", "3", *arguments])
    return answer.exit_code, answer.stdout


def test_all_caught_is_a_success_for_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    code, printed = attack(monkeypatch, [BY_NAME["same_bar_fill"], BY_NAME["label_ends_early"]], "--json")
    answer = json.loads(printed)
    assert code == 0
    assert {name: answer[name] for name in ("planted", "caught", "false_alarms")} == {
        "planted": 2,
        "caught": 2,
        "false_alarms": 0,
    }
    assert answer["seconds"] > 0
    assert answer["clean_runs"] == 1
    assert [leak["caught_by"] for leak in answer["leaks"]] == [leak["expected"] for leak in answer["leaks"]]


def test_a_missed_leak_is_a_failure_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    code, printed = attack(monkeypatch, [HARMLESS])
    assert code == 1
    assert "MISSED" in printed
    assert "0 of 1 leaks caught, 0 false alarms" in printed
