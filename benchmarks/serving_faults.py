"""What the API does while things break around it: every answer checked, under a hundred requests a second.

Each fault has a phase before it, one while it lasts and one after it was mended. Claimed of every fault: no answer has
a wrong number, none that is degraded fails to say so, and within ten seconds of the mending answers are as before.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from benchmarks.answer_checks import Answer, Engines, Expected, summary
from benchmarks.fault_scenarios import SCENARIOS, Scenario, Stage
from benchmarks.harness import Outcome
from benchmarks.report import Claim, Figure, Report, parse_options, publish, run
from benchmarks.serving_home import QUICK_TREES, TREES, ServedHome, another_bundle, build_home, champion_bundle
from benchmarks.serving_sign_in import add_users, signed_in
from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.paths import Home

RECOVERY_LIMIT_S = 10.0
CALM_S, FAULT_S = 3.0, 8.0
QUICK_FAULT_S = 5.0
AFTER_S = 12.0


@dataclass(frozen=True, slots=True)
class _Times:
    """Monotonic seconds: when the fault began, was noticeable to the API at the latest, began to be mended, and was."""

    broken: float
    noticed: float
    mending: float
    mended: float


def main() -> None:
    """Measure and publish."""
    options = parse_options(__doc__, runs=1)
    trees, fault_s = (QUICK_TREES, QUICK_FAULT_S) if options.quick else (TREES, FAULT_S)
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory() as folder:
        template = build_home(Path(folder) / "template", trees)
        add_users(template.home)
        second, expected = another_bundle(template, trees), Expected()
        expected.add(1, champion_bundle(template))
        expected.add(2, second)
        for scenario in SCENARIOS:
            # The registry of a copy goes on naming the files of the template, which nobody alters.
            copy = Path(folder) / scenario.name
            shutil.copytree(template.home.root, copy)
            served = replace(template, home=Home.at(copy))
            outcomes[scenario.name] = _one(scenario, served, second, expected, fault_s)
            Console(stderr=True).print(f"{scenario.name}: {outcomes[scenario.name]}", markup=False)
    publish(_report(outcomes), options)


def _one(scenario: Scenario, served: ServedHome, second: ModelBundle, expected: Expected, fault_s: float) -> Outcome:
    """Serve from a home, break something, mend it, and judge the answers."""
    with ExitStack() as running:
        stage = Stage(served, second, running)
        server = scenario.start(stage)
        with Engines(server.port, signed_in(server.url)) as engines:
            time.sleep(CALM_S)
            broken = time.monotonic()
            scenario.break_it(stage)
            noticed = time.monotonic() + scenario.noticed_within_s
            time.sleep(fault_s)
            mending = time.monotonic()
            scenario.mend(stage)
            times = _Times(broken, noticed, mending, time.monotonic())
            time.sleep(AFTER_S)
        answers = engines.answers
    return _judged(scenario, answers, times, expected)


def _judged(scenario: Scenario, answers: Sequence[Answer], times: _Times, expected: Expected) -> Outcome:
    during = [answer for answer in answers if times.broken <= answer.sent < times.mended]
    unflagged = [
        answer
        for answer in during
        # What was asked before the mending and answered after it may be as good as ever.
        if times.noticed <= answer.sent
        and answer.received < times.mending
        and answer.status == 200
        and not scenario.is_healthy_while_broken(answer)
        and not answer.flagged
    ]
    after = [answer for answer in answers if answer.sent >= times.mended]
    return {
        "seconds": times.mended - times.broken,
        **summary(answers, expected),
        "while_broken": summary(during, expected),
        "unflagged": len(unflagged),
        "recovery_s": _recovery_s(scenario, after, times.mended),
        "broken_by_us": scenario.breaks_connections,
    }


def _recovery_s(scenario: Scenario, after: Sequence[Answer], mended: float) -> float | None:
    """Seconds from the mending until every later answer was as it should be; None when it never was."""
    last_bad = max((answer.received for answer in after if not scenario.is_recovered(answer)), default=mended)
    if not after or not scenario.is_recovered(after[-1]):
        return None
    return last_bad - mended


def _report(outcomes: Mapping[str, Outcome]) -> Report:
    claims: list[Claim] = []
    for name, outcome in outcomes.items():
        text = name.replace("_", " ")
        recovery_s = outcome["recovery_s"]
        claims += [
            Claim(f"{text}: wrong answers", float(outcome["wrong"]), 0, at_least=False, unit="answers"),
            Claim(f"{text}: degraded, not flagged", float(outcome["unflagged"]), 0, at_least=False, unit="answers"),
            Claim(
                f"{text}: recovery",
                float("inf") if recovery_s is None else recovery_s,
                RECOVERY_LIMIT_S,
                at_least=False,
                unit="s",
            ),
        ]
        if outcome["broken_by_us"] is False:
            lost = float(outcome["broken"])
            claims.append(Claim(f"{text}: connections lost", lost, 0, at_least=False, unit="requests"))
    return Report(
        name="serving_faults",
        about="faults under 100 requests a second",
        ours=dict(outcomes),
        peers={},
        ratio={},
        claims=claims,
        figures=[
            Figure("requests", ""),
            Figure("answered", ""),
            Figure("wrong", ""),
            Figure("flagged", ""),
            Figure("refused", ""),
            Figure("broken", ""),
            Figure("p99_ms", "ms"),
            Figure("recovery_s", "s"),
        ],
    )


if __name__ == "__main__":
    sys.exit(run(main))
