import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from levibot_core.errors import CredentialError
from levibot_core.security.passwords import PasswordHashes
from levibot_core.security.roles import Role
from levibot_core.security.users import UsersFile
from levibot_core.stores.audit_log import AuditLog
from levibot_core.stores.paths import Home
from levibot_pipelines.cli.main import app
from levibot_pipelines.cli.up import _say_who_may_sign_in

PASSWORD = "four unrelated words"


@pytest.fixture(autouse=True)
def _home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVIBOT_HOME", str(home.root))
    cheap = PasswordHashes(1, 8, 1)
    monkeypatch.setattr("levibot_core.security.users.PasswordHashes", lambda: cheap)


def levibot(*arguments: str, given: str = "") -> Result:
    result = CliRunner().invoke(app, list(arguments), input=given)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_users_are_added_changed_listed_and_removed_and_it_is_recorded(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert levibot("users", "list", "--json").stdout.strip() == "[]"
    _say_who_may_sign_in(home)
    assert "levibot users add NAME --role admin" in capsys.readouterr().err.replace("\n", " ")

    shown = levibot("users", "add", "ada", "--role", "admin", given=f"{PASSWORD}\n{PASSWORD}\n").output
    shown += levibot("users", "add", "engine", "--role", "service", "--password-stdin", given=f"{PASSWORD}\n").output
    shown += levibot("users", "role", "engine", "viewer").output
    shown += levibot("users", "password", "engine", "--password-stdin", given="another four words\n").output
    listed = json.loads(levibot("users", "list", "--json").stdout)
    assert [(user["name"], user["role"]) for user in listed] == [("ada", "admin"), ("engine", "viewer")]
    assert all(set(user) == {"name", "role", "created_at", "password_changed_at"} for user in listed)
    shown += levibot("users", "list").output + levibot("users", "remove", "engine").output
    assert list(UsersFile(home.users).read()) == ["ada"]
    _say_who_may_sign_in(home)
    assert "users add" not in capsys.readouterr().err

    assert PASSWORD not in shown
    events = [(record.event, record.details["user"]) for record in AuditLog(home.audit_log).read()]
    assert events == [
        ("user_added", "ada"),
        ("user_added", "engine"),
        ("role_changed", "engine"),
        ("password_changed", "engine"),
        ("user_removed", "engine"),
    ]
    assert json.loads(levibot("audit", "verify", "--json").stdout)["intact"] is True


def test_a_password_file_is_private(home: Home, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    file.chmod(0o644)
    arguments = ("users", "add", "ada", "--role", "admin", "--password-file", str(file))
    with pytest.raises(CredentialError, match="mode 644"):
        levibot(*arguments)
    file.chmod(0o600)
    levibot(*arguments)
    assert UsersFile(home.users).read()["ada"].role is Role.ADMIN


@pytest.mark.parametrize(
    ("arguments", "given", "why"),
    [
        (("add", "ada", "--role", "admin", "--password-stdin"), "short\n", "12 to 256"),
        (("add", "ada", "--role", "admin", "--password-stdin"), "", "is empty"),
        (("add", "ada", "--role", "admin", "--password-file", "nowhere"), "", "no such file"),
        (("add", "ada", "--role", "admin", "--password-file", "x", "--password-stdin"), "", "one source"),
        (("remove", "ada"), "", "none yet"),
        (("password", "ada", "--password-stdin"), f"{PASSWORD}\n", "none yet"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    home: Home, arguments: tuple[str, ...], given: str, why: str
) -> None:
    with pytest.raises(CredentialError, match=why):
        levibot("users", *arguments, given=given)
    assert not home.audit_log.exists()
    assert UsersFile(home.users).read() == {}


def test_a_password_is_never_an_argument() -> None:
    assert CliRunner().invoke(app, ["users", "add", "ada", PASSWORD, "--role", "admin"]).exit_code == 2
    assert CliRunner().invoke(app, ["users", "add", "ada", "--role", "root"]).exit_code == 2


def test_keys_are_rotated_listed_without_what_they_are_and_it_is_recorded(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert levibot("keys", "list", "--json").stdout.strip() == "[]"
    levibot("keys", "rotate")
    levibot("keys", "rotate")
    listed = json.loads(levibot("keys", "list", "--json").stdout)
    assert [set(key) for key in listed] == [{"id", "created_at", "accepted_until"}] * 2
    shown = levibot("keys", "list").output + levibot("keys", "rotate", "--at-once").output
    assert len(json.loads(levibot("keys", "list", "--json").stdout)) == 1
    secrets = [key["secret"] for key in json.loads(home.signing_keys.read_text())["keys"]]
    assert not any(secret in shown for secret in secrets)
    assert [record.event for record in AuditLog(home.audit_log).read()] == ["key_rotation"] * 3

    monkeypatch.setenv("LEVIBOT_SIGNING_KEY", "x" * 40)
    with pytest.raises(CredentialError, match="LEVIBOT_PREVIOUS_SIGNING_KEY"):
        levibot("keys", "rotate")
