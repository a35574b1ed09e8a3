"""Files that hold secrets: written whole or not at all, readable by their owner alone, and refused otherwise."""

import os
import stat
from pathlib import Path
from typing import Final

from levibot_core.errors import CredentialError
from levibot_core.stores.files import write_atomically
from levibot_core.stores.paths import not_writable

PRIVATE_FILE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700
_OTHERS: Final = 0o077


def write_secret_file(path: Path, content: bytes) -> None:
    """Write `content` to a file of mode 600, in a folder that is made with mode 700 where it is missing.

    Raises:
        HomeNotWritableError: the operating system refused; what stood at `path` is as it was.
    """

    def fill(temporary: Path) -> None:
        # It is empty until it is private.
        temporary.chmod(PRIVATE_FILE)
        temporary.write_bytes(content)

    make_private_folder(path.parent)
    write_atomically(path, fill)


def read_secret_file(path: Path) -> bytes | None:
    """What the file holds, or None where there is none.

    Raises:
        CredentialError: others than its owner may read or write it, or it cannot be read at all.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & _OTHERS:
                raise CredentialError(
                    f"Expected {path} to be readable by its owner alone (mode 600), was mode {mode:03o}. Run "
                    f"`chmod 600 '{path}'`, and replace the secret if others may have read it."
                )
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CredentialError(f"Expected to read {path}, but {error.strerror}. Change its owner or mode.") from error


def make_private_folder(folder: Path) -> None:
    """Make the folder with mode 700 where it is missing.

    Raises:
        HomeNotWritableError: the operating system refused.
    """
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    except OSError as error:
        raise not_writable(folder, error) from error
