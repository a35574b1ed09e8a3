"""Create `.venv` with everything the platform needs, or return at once when nothing changed.

Run with the system's Python 3.11; uses the standard library only. `uv` is installed into the environment and does the
work; pip is the fallback. The versions are those of `constraints.txt`. Two at once wait for each other, and what a
killed run left half-built is built again.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = ROOT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
STAMP = ENVIRONMENT / ".levibot-setup"
CONSTRAINTS = ROOT / "constraints.txt"
KERNELS = ROOT / "scripts" / "compile_kernels.py"
REQUIRED_PYTHON = (3, 11)


def main() -> int:
    """Set up the environment; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extras", default="dev", help="comma-separated extras of the project")
    extras = parser.parse_args().extras
    if sys.version_info[:2] != REQUIRED_PYTHON:
        return fail(f"Expected Python 3.11, was {sys.version.split()[0]}. Run `make PYTHON=/path/to/python3.11`.")
    if is_current(extras):
        return 0
    # Beside the environment, not in it: a half-built environment is removed.
    with (ROOT / ".venv.lock").open("w") as lock:
        if not try_lock(lock.fileno()):
            say("Another set-up is under way; waiting for it.")
            fcntl.flock(lock, fcntl.LOCK_EX)
        return 0 if is_current(extras) else build(extras)


def is_current(extras: str) -> bool:
    """Whether the environment was finished with these extras, pins and this Python."""
    try:
        return fingerprint(extras) == STAMP.read_text("utf-8")
    except FileNotFoundError:
        return False


def fingerprint(extras: str) -> str:
    """What the environment depends on, its own place included: scripts inside carry absolute paths."""
    digest = hashlib.sha256(f"{sys.version}|{ENVIRONMENT}|{extras}".encode())
    for path in (ROOT / "pyproject.toml", CONSTRAINTS, Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def build(extras: str) -> int:
    """Build the environment from nothing, or bring an existing one up to date."""
    started = time.monotonic()
    STAMP.unlink(missing_ok=True)
    if not usable():
        say("Creating .venv")
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        venv.create(ENVIRONMENT, with_pip=True, symlinks=True)
    say(f"Installing the pinned packages [{extras}] (about 3 GB; a minute with uv, several with pip)")
    requirement = ["-c", str(CONSTRAINTS), "-e", f"{ROOT}[{extras}]"]
    if not (install_with_uv(requirement) or install_with_pip(requirement)):
        return fail(
            "The packages could not be installed; the messages above say why. A package registry must be reachable "
            "during set-up, directly or through PIP_INDEX_URL. Then run the command again."
        )
    say("Compiling the kernels")
    if not run([str(PYTHON), str(KERNELS)]):
        return fail("The kernels could not be compiled; the messages above say why. Then run the command again.")
    STAMP.write_text(fingerprint(extras), encoding="utf-8")
    say(f"Ready after {time.monotonic() - started:.0f} s")
    return 0


def usable() -> bool:
    """Whether there is an environment whose Python and pip run."""
    return PYTHON.exists() and run([str(PYTHON), "-m", "pip", "--version"], quiet=True)


def install_with_uv(requirement: Sequence[str]) -> bool:
    """Install with uv; say so and return False when it cannot be had or fails."""
    environment = dict(os.environ)
    if "PIP_FIND_LINKS" in environment:
        # uv does not read pip's settings.
        environment.setdefault("UV_FIND_LINKS", environment["PIP_FIND_LINKS"])
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # Compiled once here: where PYTHONDONTWRITEBYTECODE is set, as in many containers, every process would compile the
    # libraries again, which takes longer than most commands do.
    uv = [str(PYTHON), "-m", "uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", str(PYTHON)]
    if run([*pip, "-c", str(CONSTRAINTS), "uv"]) and run([*uv, *requirement], environment):
        return True
    say("uv did not succeed; trying pip, which takes minutes")
    return False


def install_with_pip(requirement: Sequence[str]) -> bool:
    """Install with pip."""
    return run([str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", *requirement])


def run(command: Sequence[str], environment: dict[str, str] | None = None, *, quiet: bool = False) -> bool:
    """Run a command; return whether it succeeded."""
    output = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, env=environment, stdout=output, stderr=output, check=False).returncode == 0  # noqa: S603


def try_lock(descriptor: int) -> bool:
    """Take the lock if it is free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def say(text: str) -> None:
    """Tell the person who waits."""
    print(f"[setup] {text}", file=sys.stderr, flush=True)  # noqa: T201 - a script of the standard library alone


def fail(text: str) -> int:
    """Say what went wrong and return the exit code for it."""
    say(f"Error: {text}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
