"""Which code produced a result: the git commit where there is one, always the hash of the sources themselves."""

import hashlib
import subprocess
from functools import cache
from pathlib import Path

from levibot_core.models.recipe import Environment, library_versions
from levibot_core.stores.files import sha256_of

_PACKAGES = ("levibot_core", "levibot_pipelines")


@cache
def current_environment() -> Environment:
    """What runs now: the code, whether it was changed since its commit, the pins and the installed versions."""
    root = Path(__file__).resolve().parents[1]
    constraints = root / "constraints.txt"
    return Environment(
        code_version=code_version(),
        uncommitted_changes=uncommitted_changes(root),
        constraints_sha256=sha256_of(constraints) if constraints.is_file() else None,
        libraries=library_versions(),
    )


@cache
def code_version() -> str:
    """Commit and source hash, such as `1a2b3c4d5e6f+src.0123456789ab`; the hash alone outside a git checkout.

    The source hash covers every `.py` and `.yml` file of the core and the pipelines, so that two runs with equal
    versions ran the same code even when the checkout had uncommitted changes.
    """
    root = Path(__file__).resolve().parents[1]
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted((root / package).rglob("*")):
            if path.suffix in {".py", ".yml"}:
                digest.update(path.relative_to(root).as_posix().encode())
                digest.update(path.read_bytes())
    source = f"src.{digest.hexdigest()[:12]}"
    commit = git_commit(root)
    return f"{commit[:12]}+{source}" if commit else source


def git_commit(root: Path) -> str | None:
    """The commit checked out at `root`, or None where there is no git or no repository."""
    return _git(root, "rev-parse", "HEAD") or None


def uncommitted_changes(root: Path) -> bool | None:
    """Whether tracked files at `root` differ from the commit, or None where there is no git or no repository."""
    answer = _git(root, "status", "--porcelain", "--untracked-files=no")
    return None if answer is None else bool(answer)


def _git(root: Path, *arguments: str) -> str | None:
    try:
        answer = subprocess.run(  # noqa: S603 - no text from outside
            ["git", "-C", str(root), *arguments],  # noqa: S607 - git is found on PATH like any tool
            capture_output=True,
            text=True,
            check=False,
            timeout=10,
        )
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
