"""How soon the API is ready, what it holds in memory, and how much disk its extra takes where it is installed.

Cold start is from the start of the process to the first good `/readyz`: of a home that has served before, from its
local copy of the model, and of one that has not, which has to ask the registry. The size is that of the files of every
distribution that `levibot-platform[serving]` needs, found through its metadata; it stands in for that of an image.
"""

import re
import shutil
import statistics
import sys
import tempfile
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

from benchmarks.harness import Outcome
from benchmarks.local_servers import python, serving
from benchmarks.report import Claim, Figure, Report, parse_options, publish, run
from benchmarks.serving_home import QUICK_TREES, SERVED_SYMBOLS, TREES, ServedHome, build_home, open_store, vector_of
from benchmarks.serving_sign_in import add_users

READY_LIMIT_S = 3.0
MEMORY_LIMIT_MB = 300.0
LARGEST_SHOWN = 10
API = python("-m", "uvicorn", "--factory", "levibot_serving.main:create_app", "--port", "{port}", "--no-access-log")


def main() -> None:
    """Measure and publish."""
    options = parse_options(__doc__, runs=5)
    with tempfile.TemporaryDirectory() as folder:
        served = build_home(Path(folder) / "home", QUICK_TREES if options.quick else TREES)
        add_users(served.home)
        store = open_store(served)
        store.put([vector_of(symbol, 0) for symbol in SERVED_SYMBOLS])
        store.close()
        first = _starts(served, options.runs, forget=True)
        again = _starts(served, options.runs, forget=False)
    sizes = installed_sizes_mb("levibot-platform", "serving")
    publish(_report(again, first, sizes), options)


def _starts(served: ServedHome, runs: int, *, forget: bool) -> Outcome:
    """Start and stop so often, after one start that is not counted."""
    ready, memory = [], []
    for _ in range(runs + 1):
        if forget:
            shutil.rmtree(served.home.root / "serving", ignore_errors=True)
        with serving(API, "/readyz", served.environment) as server:
            ready.append(server.ready_s)
            memory.append(sum(server.memory_mb()))
    return {
        "seconds": ready[1:],
        "ready_s": statistics.median(ready[1:]),
        "slowest_ready_s": max(ready[1:]),
        "memory_mb": statistics.median(memory[1:]),
    }


def installed_sizes_mb(name: str, extra: str) -> dict[str, float]:
    """Size of every distribution that an extra of a distribution needs, its own included, megabytes (1e6 bytes)."""
    sizes: dict[str, float] = {}
    wanted = [(name, frozenset({extra}))]
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        project, extras = wanted.pop()
        if (project, extras) in seen:
            continue
        seen.add((project, extras))
        try:
            found = distribution(project)
        except PackageNotFoundError:  # For another platform or interpreter.
            continue
        sizes[project] = _size_mb(found)
        for line in found.requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": one}) for one in (extras or {""})):
                wanted.append((_normalized(needed.name), frozenset(needed.extras)))
    return sizes


def _size_mb(found: Distribution) -> float:
    files = (Path(str(found.locate_file(file))) for file in found.files or ())
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e6


def _normalized(name: str) -> str:
    """As PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _report(again: Outcome, first: Outcome, sizes: dict[str, float]) -> Report:
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:LARGEST_SHOWN]
    installed: Outcome = {"seconds": [], "installed_mb": sum(sizes.values()), "distributions": len(sizes)}
    return Report(
        name="serving_footprint",
        about="cold start and memory of the API, disk of its extra: " + ", ".join(f"{n} {mb:.0f}" for n, mb in largest),
        ours={"started_again": again, "started_for_the_first_time": first, "installed": installed},
        peers={},
        ratio={},
        claims=[
            Claim("ready, of a home that served before", again["ready_s"], READY_LIMIT_S, at_least=False, unit="s"),
            Claim("memory of a worker once ready", again["memory_mb"], MEMORY_LIMIT_MB, at_least=False, unit="MB"),
        ],
        figures=[
            Figure("ready_s", "s"),
            Figure("slowest_ready_s", "s"),
            Figure("memory_mb", "MB"),
            Figure("installed_mb", "MB"),
            Figure("distributions", ""),
        ],
    )


if __name__ == "__main__":
    sys.exit(run(main))
