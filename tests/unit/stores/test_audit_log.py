import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import AuditLogError
from levibot_core.stores.audit_log import GENESIS, TORN_LINE, AuditLog

_DETAILS = st.dictionaries(
    st.text(max_size=8),
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    max_size=4,
)


def _log(folder: Path, records: int = 4) -> AuditLog:
    log = AuditLog(folder / "audit.jsonl")
    for number in range(records):
        log.append("promotion", "ada", {"to": number + 1, "reason": "better"})
    return log


@settings(max_examples=15, deadline=None)
@given(entries=st.lists(st.tuples(st.text(min_size=1, max_size=6), _DETAILS), max_size=3))
def test_what_is_appended_is_read_back_and_verifies(
    entries: list[tuple[str, dict[str, object]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    log = AuditLog(tmp_path_factory.mktemp("audit") / "audit.jsonl")
    appended = [log.append(event, "ada", details) for event, details in entries]

    assert log.read() == appended
    assert [(record.event, record.details) for record in appended] == entries
    verified = log.verify()
    assert verified.intact
    assert (verified.records, verified.head) == (len(entries), appended[-1].hash if appended else GENESIS)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_no_byte_can_be_changed_without_notice(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    log = _log(tmp_path_factory.mktemp("audit"), records=3)
    content = bytearray(log.path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255).filter(lambda value: value != content[place]))
    log.path.write_bytes(bytes(content))

    assert not log.verify().intact


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[1:],
        lambda lines: lines[:-1],
        lambda lines: lines[:1] + lines[2:],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [*lines[:2], lines[1], *lines[2:]],
        lambda _: [],
    ],
    ids=["first removed", "last removed", "inner removed", "exchanged", "last twice", "inner twice", "emptied"],
)
def test_lines_cannot_be_removed_moved_or_repeated_without_notice(
    change: Callable[[list[bytes]], list[bytes]], tmp_path: Path
) -> None:
    log = _log(tmp_path)
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(change(lines)))

    assert not log.verify().intact


@pytest.mark.parametrize(("was", "becomes"), [(b"Z", b"z"), (b"T", b"t"), (b": ", b":"), (b'"ada"', b'"ad\\u0061"')])
def test_what_means_the_same_is_not_what_was_written(was: bytes, becomes: bytes, tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append("promotion", "ada", {"reason": "so: yes"})
    content = log.path.read_bytes()
    assert was in content
    log.path.write_bytes(content.replace(was, becomes, 1))

    assert not log.verify().intact


def test_a_log_written_anew_is_noticed_by_who_remembers_its_head(tmp_path: Path) -> None:
    log = _log(tmp_path)
    remembered = log.verify().head
    log.append("promotion", "ada", {"to": 9})
    assert log.verify(remembered).intact

    for path in tmp_path.iterdir():
        path.unlink()
    _log(tmp_path)

    assert log.verify().intact  # By itself it is a log like any other.
    assert "known from elsewhere" in log.verify(remembered).problems[0]


def test_a_line_that_was_never_finished_is_cut_off_and_said_so(tmp_path: Path) -> None:
    log = _log(tmp_path, records=2)
    with log.path.open("ab") as file:
        file.write(b'{"sequence": 3, "ti')

    assert len(log.read()) == 2
    log.append("promotion", "ada", {"to": 3})

    assert [record.event for record in log.read()] == ["promotion", "promotion", TORN_LINE, "promotion"]
    assert log.read()[2].details == {"bytes": 19}
    assert log.verify().intact


def test_a_writer_killed_before_it_moved_the_head_does_no_harm(tmp_path: Path) -> None:
    log = _log(tmp_path, records=2)
    head = tmp_path / "audit.head.json"
    before = head.read_bytes()
    log.append("promotion", "ada", {"to": 3})
    head.write_bytes(before)

    assert log.verify().intact
    head.unlink()
    assert "missing" in log.verify().problems[0]


def test_nothing_is_chained_to_a_record_that_cannot_be_read(tmp_path: Path) -> None:
    log = _log(tmp_path, records=1)
    log.path.write_bytes(log.path.read_bytes() + b"hello\n")

    with pytest.raises(AuditLogError, match="restore the log from a copy"):
        log.append("promotion", "ada", {})
    with pytest.raises(AuditLogError, match="line 2"):
        log.read()


def test_a_record_longer_than_what_is_read_at_once_is_followed(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append("promotion", "ada", {"gates": "x" * 200_000})
    log.append("promotion", "ada", {"gates": "y" * 70_000})

    assert log.append("promotion", "ada", {}).sequence == 3
    assert log.verify().intact


_APPEND_MANY = """
import sys
from pathlib import Path
from levibot_core.stores.audit_log import AuditLog
for number in range(20):
    AuditLog(Path(sys.argv[1])).append("login", sys.argv[2], {"number": number})
"""


def test_processes_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    writers = [subprocess.Popen([sys.executable, "-c", _APPEND_MANY, str(path), name]) for name in ("ada", "bob")]
    assert [writer.wait() for writer in writers] == [0, 0]

    log = AuditLog(path)
    assert log.verify().intact
    assert [record.sequence for record in log.read()] == list(range(1, 41))
    for name in ("ada", "bob"):
        assert [record.details["number"] for record in log.read() if record.actor == name] == list(range(20))


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    log = _log(tmp_path, records=1)

    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    assert json.loads((tmp_path / "audit.head.json").read_text("utf-8"))["records"] == 1
