import stat
import threading
from pathlib import Path

import pytest

from levibot_core.security import sessions as module
from levibot_core.security.sessions import RefreshRefusedError, Sessions

DAY = 86_400.0


@pytest.fixture
def sessions(tmp_path: Path) -> Sessions:
    return Sessions(tmp_path / "secrets" / "sessions.sqlite")


def refused(sessions: Sessions, token: str) -> str:
    with pytest.raises(RefreshRefusedError) as error:
        sessions.renew(token, DAY)
    return error.value.problem


def test_a_refresh_token_works_once(sessions: Sessions) -> None:
    first = sessions.begin("ada", "c1", DAY)
    second = sessions.renew(first.refresh_token, DAY)

    assert (second.id, second.user, second.credential_id) == (first.id, "ada", "c1")
    assert refused(sessions, first.refresh_token) == "reused"
    assert sessions.renew(second.refresh_token, DAY).id == first.id  # A moment later it may have been a second tab.


def test_a_token_that_comes_back_later_ends_the_session(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> None:
    first = sessions.begin("ada", "c1", DAY)
    other = sessions.begin("ada", "c1", DAY)
    second = sessions.renew(first.refresh_token, DAY)
    monkeypatch.setattr(module, "RETRY_SECONDS", -1.0)

    assert sessions.live() == {first.id, other.id}
    assert refused(sessions, first.refresh_token) == "reused"
    assert refused(sessions, second.refresh_token) == "ended"
    assert sessions.live() == {other.id}


def test_what_is_no_token_changes_nothing(sessions: Sessions) -> None:
    assert refused(sessions, "x.y") == "unknown"
    assert not sessions.path.parent.exists()
    session = sessions.begin("ada", "c1", DAY)
    for token in ("", ".", "x.y", "' OR 1=1 --", "\ud800.\ud800", "ä"):
        assert refused(sessions, token) == "unknown"
    assert sessions.renew(session.refresh_token, DAY).id == session.id


def test_a_session_ends_and_expires(sessions: Sessions) -> None:
    ended, expired = sessions.begin("ada", "c1", DAY), sessions.begin("ada", "c1", 0.0)
    sessions.end(ended.id)
    assert refused(sessions, ended.refresh_token) == "ended"
    assert refused(sessions, expired.refresh_token) == "expired"
    assert sessions.live() == frozenset()


def test_the_file_is_private_and_holds_no_token(sessions: Sessions) -> None:
    session = sessions.begin("ada", "c1", DAY)
    assert stat.S_IMODE(sessions.path.stat().st_mode) == 0o600
    assert session.refresh_token.partition(".")[2].encode() not in sessions.path.read_bytes()
    assert session.refresh_token not in repr(session)


def test_of_many_who_ask_at_once_with_one_token_one_is_answered(sessions: Sessions) -> None:
    session = sessions.begin("ada", "c1", DAY)
    answers: list[bool] = []

    def ask() -> None:
        try:
            sessions.renew(session.refresh_token, DAY)
        except RefreshRefusedError:
            answers.append(False)
        else:
            answers.append(True)

    askers = [threading.Thread(target=ask) for _ in range(6)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert sorted(answers) == [False] * 5 + [True]
    assert sessions.live() == {session.id}
