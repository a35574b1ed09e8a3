"""How long reading the newest features takes, for one symbol and for fifteen, side by side with Feast.

Both read from SQLite and from the same real Redis server. Ours gives every feature of the platform's current set,
Feast 50 features; each with its own interface, and with every value as a Python float.
"""

import sys
import tempfile

from benchmarks.harness import Contestant, Outcome, compare
from benchmarks.market import SYMBOLS
from benchmarks.redis_server import redis_server
from benchmarks.report import Claim, Figure, Report, parse_options, publish, run, times_better
from levibot_core.features.registry import newest_version

FEAST_FEATURES = 50
CALLS, QUICK_CALLS = 500, 50
P99_LIMIT_MS = 2.0
RATIO_LIMITS = {1: 4.0, 15: 8.0}
BACKENDS = ("sqlite", "redis")


def main() -> None:
    """Measure and publish."""
    options = parse_options(__doc__, runs=3)
    with tempfile.TemporaryDirectory() as folder, redis_server() as port:
        contestants = _contestants(folder, port, QUICK_CALLS if options.quick else CALLS)
        outcomes = compare(contestants, options.runs)
    publish(_report(outcomes), options)


def _contestants(folder: str, port: int, calls: int) -> list[Contestant]:
    contestants = []
    for backend in BACKENDS:
        on_redis = backend == "redis"
        for count in RATIO_LIMITS:
            common = {"folder": folder, "stored": SYMBOLS, "symbols": SYMBOLS[:count], "calls": calls}
            ours = {
                "redis_url": f"redis://127.0.0.1:{port}/0" if on_redis else None,
                "feature_set": newest_version(),
            }
            feast = {"redis": f"127.0.0.1:{port},db=1" if on_redis else None, "features": FEAST_FEATURES}
            case = _case(backend, count)
            contestants += [
                Contestant(f"ours_{case}", "benchmarks.ours.online_read", common | ours),
                Contestant(f"feast_{case}", "benchmarks.peers.feast_online", common | feast, environment="feast"),
            ]
    return contestants


def _case(backend: str, count: int) -> str:
    return f"{backend}_{count}_symbol{'s' if count > 1 else ''}"


def _report(outcomes: dict[str, Outcome]) -> Report:
    cases = {_case(backend, count): limit for backend in BACKENDS for count, limit in RATIO_LIMITS.items()}
    ours = {case: outcomes[f"ours_{case}"] for case in cases}
    feast = {case: outcomes[f"feast_{case}"] for case in cases}
    ratio = {case: times_better(ours[case], feast[case], "p50_ms", more_is_better=False) for case in cases}
    claims = []
    for case, limit in cases.items():
        text = case.replace("_", " ")
        claims += [
            Claim(f"{text}, median against Feast", ratio[case], limit, at_least=True, unit="x"),
            Claim(f"{text}, 99 of 100 reads", ours[case]["p99_ms"], P99_LIMIT_MS, at_least=False, unit="ms"),
        ]
    features = ours[next(iter(cases))]["features"]
    return Report(
        name="online_read",
        about=f"newest vectors of 1 and {max(RATIO_LIMITS)} symbols, {features} features, {FEAST_FEATURES} of Feast's",
        ours=ours,
        peers={"feast": feast},
        ratio={"feast": ratio},
        claims=claims,
        figures=[Figure("p50_ms", "ms"), Figure("p99_ms", "ms"), Figure("features", "per symbol")],
    )


if __name__ == "__main__":
    sys.exit(run(main))
