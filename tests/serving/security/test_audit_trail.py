from pathlib import Path
from typing import Any

import pytest

from levibot_core.stores.audit_log import AuditLog
from levibot_serving.security import audit_trail as module
from levibot_serving.security.audit_trail import AuditTrail


def events(path: Path) -> list[tuple[str, str, dict[str, Any]]]:
    return [(record.event, record.actor, record.details) for record in AuditLog(path).read()]


def test_what_repeats_itself_is_one_record_and_a_count(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    trail = AuditTrail(path)
    for _ in range(5):
        trail.note("denied", "ada", {"reason": "role", "address": "a"})
    trail.note("denied", "ada", {"reason": "role", "address": "b"})
    trail.record("login", "ada", {"address": "a"})
    trail.stop()
    assert sorted(events(path), key=str) == sorted(
        [
            ("denied", "ada", {"reason": "role", "address": "a"}),
            ("denied", "ada", {"reason": "role", "address": "b"}),
            ("denied", "ada", {"reason": "role", "address": "a", "repeated": 4}),
            ("login", "ada", {"address": "a"}),
        ],
        key=str,
    )
    assert AuditLog(path).verify().intact
    trail.note("denied", "ada", {"reason": "role", "address": "a"})
    trail.stop()
    assert len(events(path)) == 5


def test_whoever_knocks_from_everywhere_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_WAITING", 4)
    monkeypatch.setattr(module, "_MOST_KINDS", 3)
    monkeypatch.setattr(AuditTrail, "_write_until_stopped", lambda _: None)
    trail = AuditTrail(tmp_path / "audit.jsonl")
    for number in range(10):
        trail.note("denied", "anonymous", {"address": str(number)})
    assert len(trail._repeated) == 3
    assert trail.dropped == 6


def test_a_log_that_cannot_be_written_keeps_nobody_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "logs").write_text("a file where a folder has to be")
    trail = AuditTrail(tmp_path / "logs" / "audit.jsonl")
    trail.record("login", "ada", {})
    trail.note("denied", "ada", {})
    trail.stop()
    assert trail.dropped == 2
    assert "lacks an event of the kind login" in caplog.text
