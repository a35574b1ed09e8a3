"""`levibot users`: who may sign in to the inference API, and in which role."""

import getpass
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from levibot_core.config import load_settings
from levibot_core.errors import CredentialError
from levibot_core.security.roles import Role
from levibot_core.security.secret_files import read_secret_file
from levibot_core.security.users import User, UsersFile
from levibot_core.stores.audit_log import AuditLog
from levibot_core.stores.paths import Home
from levibot_pipelines.cli.output import JsonOption, print_json, print_notes, print_table

app = typer.Typer(help="Who may sign in to the inference API, and in which role.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(help="Lower-case letters, digits, dots, dashes, underscores.")]
PasswordFile = Annotated[
    Path | None, typer.Option(help="Read the password from the first line of this file, of mode 600.")
]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@app.command("add")
def add(
    name: NameArgument,
    role: Annotated[Role, typer.Option(help="admin, trader, viewer; service is for engines.")],
    password_file: PasswordFile = None,
    password_stdin: PasswordStdin = False,
) -> None:
    """Add a user. The password is asked for, or read; it is never an argument, which others could see."""
    home = _home()
    user = UsersFile(home.users).add(name, role, _password(password_file, from_stdin=password_stdin))
    _record(home, "user_added", user)
    print_notes([f"{user.name} may sign in as {user.role}."])


@app.command("list")
def list_users(as_json: JsonOption = False) -> None:
    """List the users."""
    users = sorted(UsersFile(_home().users).read().values(), key=lambda user: user.name)
    if as_json:
        print_json([_facts(user) for user in users])
        return
    print_table(
        "Users",
        ("name", "role", "added, UTC", "password of, UTC"),
        [
            (
                user.name,
                user.role.value,
                f"{user.created_at:%Y-%m-%d %H:%M}",
                f"{user.password_changed_at:%Y-%m-%d %H:%M}",
            )
            for user in users
        ],
    )
    if not users:
        print_notes(["Nobody can sign in yet. Add the first: levibot users add NAME --role admin"])


@app.command("remove")
def remove(name: NameArgument) -> None:
    """Remove a user; their tokens are refused within a second."""
    home = _home()
    user = UsersFile(home.users).remove(name)
    _record(home, "user_removed", user)
    print_notes([f"{user.name} may not sign in any more."])


@app.command("password")
def password(name: NameArgument, password_file: PasswordFile = None, password_stdin: PasswordStdin = False) -> None:
    """Change a user's password; the tokens they have are refused within a second."""
    home = _home()
    user = UsersFile(home.users).set_password(name, _password(password_file, from_stdin=password_stdin))
    _record(home, "password_changed", user)
    print_notes([f"{user.name} has a new password, and has to sign in again."])


@app.command("role")
def role(name: NameArgument, role: Annotated[Role, typer.Argument(help="admin, trader, viewer or service.")]) -> None:
    """Change a user's role; it holds within a second, for the tokens they have as well."""
    home = _home()
    users = UsersFile(home.users)
    before = users.read().get(name)
    user = users.set_role(name, role)
    _record(home, "role_changed", user, before=None if before is None else before.role.value)
    print_notes([f"{user.name} is {user.role} now."])


def _home() -> Home:
    return Home.at(load_settings().home)


def _facts(user: User) -> dict[str, Any]:
    return user.model_dump(mode="json", include={"name", "role", "created_at", "password_changed_at"})


def _record(home: Home, event: str, user: User, **details: Any) -> None:
    AuditLog(home.audit_log).append(event, getpass.getuser(), {"user": user.name, "role": user.role, **details})


def _password(file: Path | None, *, from_stdin: bool) -> str:
    if file is not None and from_stdin:
        raise CredentialError("Expected one source of the password, was --password-file and --password-stdin.")
    if from_stdin:
        return _first_line(sys.stdin.readline(), "standard input")
    if file is None:
        return str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    content = read_secret_file(file)
    if content is None:
        raise CredentialError(f"Expected the password in {file}, but there is no such file.")
    return _first_line(content.decode("utf-8", "replace"), str(file))


def _first_line(text: str, source: str) -> str:
    lines = text.splitlines()
    if not lines or not lines[0]:
        raise CredentialError(f"Expected the password in the first line of {source}, which is empty.")
    return lines[0]
