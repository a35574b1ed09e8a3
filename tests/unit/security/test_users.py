import stat
from pathlib import Path

import pytest

from levibot_core.errors import CredentialError
from levibot_core.security.passwords import PasswordHashes
from levibot_core.security.roles import Role
from levibot_core.security.users import UsersFile

PASSWORD = "four unrelated words"


@pytest.fixture
def users(tmp_path: Path) -> UsersFile:
    return UsersFile(tmp_path / "secrets" / "users.json", PasswordHashes(1, 8, 1))


def test_what_is_added_is_read_back_and_is_private(users: UsersFile) -> None:
    assert users.read() == {}
    added = users.add("ada", Role.ADMIN, PASSWORD)

    assert users.read() == {"ada": added}
    assert stat.S_IMODE(users.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(users.path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(users.path.with_suffix(".lock").stat().st_mode) == 0o600
    assert PASSWORD not in users.path.read_text()
    assert added.password_hash not in repr(added)


@pytest.mark.parametrize("name", ["", "Ada", "a b", "-ada", "a" * 33, "ada\n", "ada/..", "' OR 1=1"])
def test_a_name_that_could_be_mistaken_is_refused(users: UsersFile, name: str) -> None:
    with pytest.raises(CredentialError, match="Expected a name"):
        users.add(name, Role.VIEWER, PASSWORD)
    assert not users.path.exists()


def test_a_name_is_taken_once(users: UsersFile) -> None:
    users.add("ada", Role.ADMIN, PASSWORD)
    with pytest.raises(CredentialError, match="is a user already"):
        users.add("ada", Role.VIEWER, PASSWORD)
    assert users.read()["ada"].role is Role.ADMIN


def test_another_password_is_another_credential_and_another_role_is_not(users: UsersFile) -> None:
    before = users.add("ada", Role.VIEWER, PASSWORD)
    promoted = users.set_role("ada", Role.ADMIN)
    assert (promoted.role, promoted.credential_id) == (Role.ADMIN, before.credential_id)

    changed = users.set_password("ada", "another four unrelated words")
    assert changed.credential_id != before.credential_id
    assert changed.password_hash != before.password_hash
    assert users.read() == {"ada": changed}


def test_whoever_is_removed_is_gone_and_nobody_else(users: UsersFile) -> None:
    users.add("ada", Role.ADMIN, PASSWORD)
    kept = users.add("bob", Role.VIEWER, PASSWORD)
    users.remove("ada")
    assert users.read() == {"bob": kept}
    for change in (users.remove, lambda name: users.set_role(name, Role.ADMIN)):
        with pytest.raises(CredentialError, match="Known: bob"):
            change("ada")


def test_a_weak_password_changes_nothing(users: UsersFile) -> None:
    before = users.add("ada", Role.ADMIN, PASSWORD)
    with pytest.raises(CredentialError, match="12 to 256"):
        users.set_password("ada", "short")
    assert users.read() == {"ada": before}


def test_a_file_that_others_may_read_is_refused(users: UsersFile) -> None:
    users.add("ada", Role.ADMIN, PASSWORD)
    users.path.chmod(0o640)
    with pytest.raises(CredentialError, match=r"mode 640.*chmod 600"):
        users.read()


def test_a_file_that_was_altered_is_refused_without_showing_it(users: UsersFile) -> None:
    users.add("ada", Role.ADMIN, PASSWORD)
    content = users.path.read_text()
    users.path.write_text(content.replace('"admin"', '"root"'))
    with pytest.raises(CredentialError, match="fields do not fit") as refused:
        users.read()
    assert refused.value.__cause__ is None
    assert "argon2" not in str(refused.value)
