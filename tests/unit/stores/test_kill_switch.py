import threading
from pathlib import Path

import pytest

from levibot_core.errors import HomeNotWritableError
from levibot_core.stores.kill_switch import KillSwitch


def test_a_home_without_the_file_is_not_killed(tmp_path: Path) -> None:
    state = KillSwitch(tmp_path / "kill.json").state
    assert (state.active, state.reason, state.since) == (False, "", None)


def test_what_one_process_throws_another_sees_at_once(tmp_path: Path) -> None:
    mine, theirs = KillSwitch(tmp_path / "kill.json"), KillSwitch(tmp_path / "kill.json")
    for on, reason in ((True, "misquotes"), (True, "misquotes!"), (False, "quotes are back"), (True, "again")):
        mine.throw(on, reason, "ada")
        assert (theirs.state.active, theirs.state.reason, theirs.state.actor) == (on, reason, "ada")
    mine.path.unlink()
    assert not theirs.state.active


@pytest.mark.parametrize("content", ["", "{", '{"active": "perhaps"}', '{"active": false, "surprise": 1}'])
def test_a_file_that_cannot_be_understood_kills(tmp_path: Path, content: str) -> None:
    switch = KillSwitch(tmp_path / "kill.json")
    switch.path.write_text(content)
    assert switch.state.active
    assert "cannot be read" in switch.state.reason
    assert not switch.throw(False, "repaired", "ada").active
    assert not switch.state.active


def test_a_switch_that_cannot_be_written_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    switch = KillSwitch(tmp_path / "file" / "kill.json")
    with pytest.raises(HomeNotWritableError):
        switch.throw(True, "misquotes", "ada")


def test_readers_see_whole_states_while_it_is_thrown(tmp_path: Path) -> None:
    switch = KillSwitch(tmp_path / "kill.json")
    switch.throw(True, "0", "ada")
    done = threading.Event()
    seen: set[tuple[bool, str]] = set()

    def read() -> None:
        reader = KillSwitch(switch.path)
        while not done.is_set():
            state = reader.state
            seen.add((state.active, state.reason))

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(60):
        switch.throw(number % 2 == 0, str(number), "ada")
    done.set()
    thread.join()
    assert all(active == (int(reason) % 2 == 0) for active, reason in seen)
