"""Negative and positive controls: what the gates say where the right answer is known, over many seeds.

Nothing is measured against a peer. A simulated market without an edge, and one with shuffled labels, must be refused
for every seed; a planted edge must be found, and how often it is by its size is the power curve. One process, one
thread.
"""

import sys
import time
from dataclasses import asdict
from multiprocessing import get_context

from benchmarks.harness import Outcome
from benchmarks.report import Claim, Figure, Report, parse_options, publish, run
from levibot_core.config import Settings
from levibot_core.validation.controls import Control, ControlOutcome, ControlSummary, run_control, summarise

SEEDS, QUICK_SEEDS = 20, 3
PLANTED = Settings.model_fields["simulated_edge"].default
"""The edge of the platform's simulated market."""
EDGES = (0.03, 0.05, 0.07, 0.10, PLANTED, 0.20)
WITHIN_NOISE_SHARE = 0.8
"""Of 95 % intervals; fewer than 16 of 20 are as unlikely as 3 in a thousand."""
MARKETS_PER_PROCESS = 20
"""The simulator keeps the paths it made for the life of a process."""


def main() -> None:
    """Run the controls and publish."""
    options = parse_options(__doc__, runs=SEEDS, runs_are="seeds")
    seeds = range(1, (QUICK_SEEDS if options.quick else options.runs) + 1)
    kinds = [Control(seed=0, edge=0.0), Control(seed=0, edge=PLANTED, shuffled=True)]
    kinds += [Control(seed=0, edge=edge) for edge in EDGES]
    controls = [kind.model_copy(update={"seed": seed}) for kind in kinds for seed in seeds]
    # Not an executor: in this version of Python it waits for ever when a process has done its share (gh-115634).
    with get_context("spawn").Pool(1, maxtasksperchild=MARKETS_PER_PROCESS) as pool:
        outcomes = list(pool.imap(_timed, controls))
    summaries = summarise(outcome for outcome, _ in outcomes)
    ours = {summary.name: _with_seeds(summary, outcomes) for summary in summaries}
    negative, positive = summaries[: len(kinds) - len(EDGES)], f"edge {PLANTED:g}"
    publish(
        Report(
            name="controls",
            about=f"{len(controls)} markets of {controls[0].days} days, {len(seeds)} seeds each: promoted or refused",
            ours=ours,
            peers={},
            ratio={"power": {f"{edge:g}": ours[f"edge {edge:g}"]["promoted"] / len(seeds) for edge in EDGES}},
            claims=[
                *(
                    Claim(f"false promotions, {summary.name}", summary.promoted, 0, at_least=False, unit="")
                    for summary in negative
                ),
                *(
                    Claim(
                        f"AUC within noise of 0.5, {summary.name}",
                        summary.within_noise / summary.controls,
                        WITHIN_NOISE_SHARE,
                        at_least=True,
                        unit="of seeds",
                    )
                    for summary in negative
                ),
                Claim(f"promoted, {positive}", ours[positive]["promoted"], len(seeds), at_least=True, unit="seeds"),
            ],
            figures=[
                Figure("controls", "markets"),
                Figure("promoted", "markets"),
                Figure("mean_area", "AUC"),
                Figure("lowest_area", "AUC"),
                Figure("highest_area", "AUC"),
                Figure("within_noise", "markets"),
            ],
        ),
        options,
    )


def _timed(control: Control) -> tuple[ControlOutcome, float]:
    started = time.perf_counter()
    outcome = run_control(control)
    return outcome, time.perf_counter() - started


def _with_seeds(summary: ControlSummary, outcomes: list[tuple[ControlOutcome, float]]) -> Outcome:
    """The summary of one kind of control, and what each seed gave."""
    group = [(outcome, seconds) for outcome, seconds in outcomes if outcome.control.name == summary.name]
    return {
        **asdict(summary),
        "seconds": round(sum(seconds for _, seconds in group), 1),
        "seeds": [
            {
                "seed": outcome.control.seed,
                "auc": outcome.area.value,
                "auc_lower_95": outcome.area.lower_95,
                "auc_upper_95": outcome.area.upper_95,
                "log_loss_difference": outcome.against_base_rate.mean,
                "log_loss_upper_95": outcome.against_base_rate.upper_95,
                "refused_by": list(outcome.refused_by),
            }
            for outcome, _ in group
        ],
    }


if __name__ == "__main__":
    sys.exit(run(main))
