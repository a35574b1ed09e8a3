"""The users of a home: one private JSON file with names, roles and password hashes.

Whoever may write the home may write this file; the audit log says who did.
"""

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

from filelock import FileLock
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from levibot_core.errors import CredentialError
from levibot_core.security.passwords import PasswordHashes
from levibot_core.security.roles import Role
from levibot_core.security.secret_files import PRIVATE_FILE, make_private_folder, read_secret_file, write_secret_file
from levibot_core.security.strength import refuse_weak_password
from levibot_core.stores.paths import not_writable

NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9._-]{0,31}$"

Users = Mapping[str, "User"]


class User(BaseModel):
    """Somebody, or some engine, that may sign in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    role: Role
    password_hash: str = Field(repr=False)
    credential_id: str = Field(description="Changes with the password; tokens of another one are refused")
    created_at: AwareDatetime
    password_changed_at: AwareDatetime


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    users: tuple[User, ...] = ()


class UsersFile:
    """The file of one home. Processes take turns in changing it; a reader sees the old users or the new ones."""

    def __init__(self, path: Path, passwords: PasswordHashes | None = None) -> None:
        self.path = path
        self._passwords = passwords or PasswordHashes()

    def read(self) -> dict[str, User]:
        """Everybody, by name; nobody where there is no file.

        Raises:
            CredentialError: the file cannot be read, or by others too, or is not what was written.
        """
        content = read_secret_file(self.path)
        if content is None:
            return {}
        try:
            users = _Content.model_validate_json(content).users
        except ValidationError as error:
            raise CredentialError(
                f"Expected {self.path} to hold users as `levibot users` writes them, but {error.error_count()} fields "
                "do not fit. Restore it from a copy, or delete it and add the users again."
            ) from None  # The cause would repeat the file.
        return {user.name: user for user in users}

    def add(self, name: str, role: Role, password: str) -> User:
        """Add somebody.

        Raises:
            CredentialError: the name cannot be used or is taken, or the password is weak.
            HomeNotWritableError: the file cannot be written.
        """
        refuse_weak_password(password, name)
        now = datetime.now(UTC)
        try:
            user = User(
                name=name,
                role=role,
                password_hash=self._passwords.hash(password),
                credential_id=secrets.token_hex(8),
                created_at=now,
                password_changed_at=now,
            )
        except ValidationError:
            raise CredentialError(
                f"Expected a name of up to 32 lower-case letters, digits, dots, dashes and underscores that begins "
                f"with a letter or a digit, was {name!r}."
            ) from None

        def change(users: dict[str, User]) -> None:
            if name in users:
                raise CredentialError(
                    f"Expected a new name, but {name} is a user already ({users[name].role}). Use `levibot users "
                    "password` or `levibot users role` to change one."
                )
            users[name] = user

        self._change(change)
        return user

    def remove(self, name: str) -> User:
        """Remove somebody; their tokens are refused as soon as the API has read the file.

        Raises:
            CredentialError: there is no such user.
            HomeNotWritableError: the file cannot be written.
        """
        removed: list[User] = []

        def change(users: dict[str, User]) -> None:
            removed.append(_known(users, name))
            del users[name]

        self._change(change)
        return removed[0]

    def set_password(self, name: str, password: str) -> User:
        """Give somebody another password; the tokens they have are refused from then on.

        Raises:
            CredentialError: there is no such user, or the password is weak.
            HomeNotWritableError: the file cannot be written.
        """
        refuse_weak_password(password, name)
        changes = {
            "password_hash": self._passwords.hash(password),
            "credential_id": secrets.token_hex(8),
            "password_changed_at": datetime.now(UTC),
        }
        return self._update(name, changes)

    def set_role(self, name: str, role: Role) -> User:
        """Give somebody another role; it holds for the tokens they have as well.

        Raises:
            CredentialError: there is no such user.
            HomeNotWritableError: the file cannot be written.
        """
        return self._update(name, {"role": role})

    def _update(self, name: str, changes: Mapping[str, object]) -> User:
        changed: list[User] = []

        def change(users: dict[str, User]) -> None:
            users[name] = _known(users, name).model_copy(update=changes)
            changed.append(users[name])

        self._change(change)
        return changed[0]

    def _change(self, change: Callable[[dict[str, User]], None]) -> None:
        make_private_folder(self.path.parent)
        try:
            with FileLock(self.path.with_suffix(".lock"), mode=PRIVATE_FILE):
                users = self.read()
                change(users)
                content = _Content(users=tuple(users[name] for name in sorted(users)))
                write_secret_file(self.path, content.model_dump_json(indent=2).encode() + b"\n")
        except OSError as error:
            raise not_writable(self.path, error) from error


def _known(users: Users, name: str) -> User:
    if name not in users:
        known = ", ".join(sorted(users)) or "none yet; add one with `levibot users add NAME --role admin`"
        raise CredentialError(f"Expected the name of a user, was {name!r}. Known: {known}.")
    return users[name]
