import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from levibot_core.errors import CredentialError
from levibot_core.security.signing_keys import SigningKeysFile, key_from_secret


@pytest.fixture
def keys(tmp_path: Path) -> SigningKeysFile:
    return SigningKeysFile(tmp_path / "secrets" / "signing_keys.json")


def test_a_key_is_made_once_and_is_private(keys: SigningKeysFile) -> None:
    assert keys.read() == ()
    made = keys.ensure()

    assert keys.ensure() == made
    assert keys.read() == (made,)
    assert len(made.content) >= 32
    assert made.secret not in repr(made)
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600


def test_the_key_before_is_accepted_until_its_tokens_have_expired(keys: SigningKeysFile) -> None:
    first = keys.ensure()
    second = keys.rotate(timedelta(minutes=15))
    now = datetime.now(UTC)

    assert [key.id for key in keys.read()] == [first.id, second.id]
    assert [key.id for key in keys.read(now + timedelta(minutes=14))] == [first.id, second.id]
    assert [key.id for key in keys.read(now + timedelta(minutes=16))] == [second.id]
    assert keys.ensure() == second


def test_a_key_that_others_know_is_refused_at_once(keys: SigningKeysFile) -> None:
    first = keys.ensure()
    second = keys.rotate(timedelta(0))
    assert keys.read() == (second,)
    assert first.secret not in keys.path.read_text()


def test_many_rotations_leave_the_keys_that_still_count(keys: SigningKeysFile) -> None:
    made = [keys.ensure(), *(keys.rotate(timedelta(hours=1)) for _ in range(3))]
    assert [key.id for key in keys.read()] == [key.id for key in made]
    assert [key.accepted_until is None for key in keys.read()] == [False, False, False, True]


def test_the_same_secret_has_the_same_name_everywhere() -> None:
    now = datetime.now(UTC)
    assert key_from_secret("x" * 40, now).id == key_from_secret("x" * 40, now + timedelta(1)).id
    assert key_from_secret("x" * 40, now).id != key_from_secret("y" * 40, now).id


def test_a_file_that_was_altered_is_refused_without_showing_it(keys: SigningKeysFile) -> None:
    made = keys.ensure()
    keys.path.write_text(keys.path.read_text().replace("created_at", "made_at"))
    with pytest.raises(CredentialError, match="fields do not fit") as refused:
        keys.read()
    assert made.secret not in str(refused.value)
