"""Build the peers' environments in `benchmarks/.peers/`, one each, versions as in `benchmarks/peers/environments`.

Runs in the platform's environment, whose uv does the work; an environment that is up to date is left alone.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.harness import PEERS, ROOT

REQUIREMENTS = ROOT / "benchmarks" / "peers" / "environments"
_STAMP = ".levibot-setup"

_console = Console(stderr=True)


def main() -> int:
    """Build what is missing or outdated; return the exit code, 1 when one could not be built."""
    failed = [path.stem for path in sorted(REQUIREMENTS.glob("*.txt")) if not _build(path)]
    if failed:
        _console.print(
            f"Expected to install {', '.join(failed)}, but uv refused; its messages above say why. The benchmarks run "
            "without them and report them as missing.",
            style="bold red",
        )
    return 1 if failed else 0


def _build(requirements: Path) -> bool:
    folder = PEERS / requirements.stem
    stamp = folder / _STAMP
    fingerprint = hashlib.sha256(f"{sys.version}|{folder}|".encode() + requirements.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text("utf-8") == fingerprint:
        _console.print(f"{requirements.stem}: up to date")
        return True
    _console.print(f"{requirements.stem}: installing")
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    python = str(folder / "bin" / "python")
    if not (
        _uv("venv", "--quiet", "--python", sys.executable, str(folder))
        and _uv("pip", "install", "--quiet", "--python", python, "--no-deps", "-r", str(requirements))
    ):
        # Half an environment would fail in the middle of a benchmark.
        shutil.rmtree(folder, ignore_errors=True)
        return False
    stamp.write_text(fingerprint, "utf-8")
    return True


def _uv(*arguments: str) -> bool:
    environment = dict(os.environ)
    if "PIP_FIND_LINKS" in environment:
        # uv does not read pip's settings.
        environment.setdefault("UV_FIND_LINKS", environment["PIP_FIND_LINKS"])
    command = [sys.executable, "-m", "uv", *arguments]
    return subprocess.run(command, env=environment, check=False).returncode == 0  # noqa: S603 - fixed arguments


if __name__ == "__main__":
    sys.exit(main())
