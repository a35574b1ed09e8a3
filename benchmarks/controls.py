"""Negative and positive controls: what the gates say where the right answer is known, over many seeds.

Nothing is measured against a peer. A simulated market without an edge, and one with shuffled labels, must be refused
for every seed; a planted edge must be found, and how often it is by its size is the power curve. One process, one
thread. What is finished is kept in `results/controls.jsonl`, so a run that was stopped goes on where it was.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.control_records import ControlRecord, code_digest, control_records
from benchmarks.harness import Outcome
from benchmarks.power_curve import power_curve_png
from benchmarks.report import RESULTS, Claim, Figure, Report, parse_options, publish, run
from levibot_core.config import Settings
from levibot_core.stores.files import write_bytes_atomically
from levibot_core.stores.kept_results import KeptResults
from levibot_core.validation.controls import Control, ControlSummary, run_control, summarise
from levibot_pipelines.workers import in_processes

SEEDS, QUICK_SEEDS = 20, 3
FIRST_SEED = 301
"""Markets nobody had looked at when the gates and the controls' model were settled: those have seeds up to 200."""
PLANTED = Settings.model_fields["simulated_edge"].default
"""The edge of the platform's simulated market."""
EDGES = (0.03, 0.05, 0.07, 0.10, 0.12, PLANTED, 0.20)
NEGATIVE = (Control(seed=0, edge=0.0), Control(seed=0, edge=PLANTED, shuffled=True))
WITHIN_NOISE_SHARE = 0.8
"""Of 95 % intervals; fewer than 16 of 20 are as unlikely as 3 in a thousand."""
MARKETS_PER_PROCESS = 20
"""The simulator keeps the paths it made for the life of a process."""


def main() -> None:
    """Run the controls that are not kept yet and publish."""
    options = parse_options(__doc__, runs=SEEDS, runs_are="seeds")
    seeds = range(FIRST_SEED, FIRST_SEED + (QUICK_SEEDS if options.quick else options.runs))
    edges = [Control(seed=0, edge=edge) for edge in EDGES]
    controls = [kind.model_copy(update={"seed": seed}) for kind in (*NEGATIVE, *edges) for seed in seeds]
    records = finished(controls, control_records(RESULTS / "controls.jsonl", code_digest()))
    summaries = summarise(record.outcome for record in records)
    ours = {summary.name: _with_seeds(summary, records) for summary in summaries}
    negative, positive = summaries[: len(NEGATIVE)], summaries[len(NEGATIVE) :]
    if not options.quick:
        png = power_curve_png(EDGES, positive, negative)
        write_bytes_atomically(RESULTS / "controls.png", png)
    publish(
        Report(
            name="controls",
            about=(
                f"{len(controls)} markets of {controls[0].days} days, seeds {seeds[0]} to {seeds[-1]} of each kind: "
                "promoted or refused"
            ),
            ours=ours,
            peers={},
            ratio={
                "power": {
                    f"{edge:g}": summary.promoted / summary.controls
                    for edge, summary in zip(EDGES, positive, strict=True)
                }
            },
            claims=_claims(negative, ours[f"edge {PLANTED:g}"]["promoted"], len(seeds)),
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


def finished(controls: Sequence[Control], kept: KeptResults[Control, ControlRecord]) -> list[ControlRecord]:
    """The record of every control, in order: what is kept, and the others run one after the other and kept."""
    missing = [control for control in controls if control not in kept]
    found = in_processes(_timed, missing, processes=1, calls_each=MARKETS_PER_PROCESS)
    for done, record in enumerate(found, start=1):
        kept.add(record)
        sys.stderr.write(f"{done}/{len(missing)} {record.outcome.control.name} {record.seconds:.0f} s\n")
    return [kept[control] for control in controls]


def _timed(control: Control) -> ControlRecord:
    started = time.perf_counter()
    outcome = run_control(control)
    return ControlRecord(outcome, time.perf_counter() - started)


def _claims(negative: Sequence[ControlSummary], planted_found: int, seeds: int) -> list[Claim]:
    return [
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
        Claim(f"promoted, edge {PLANTED:g}", planted_found, seeds, at_least=True, unit="seeds"),
    ]


def _with_seeds(summary: ControlSummary, records: Sequence[ControlRecord]) -> Outcome:
    """The summary of one kind of control, and what each seed gave."""
    group = [record for record in records if record.outcome.control.name == summary.name]
    return {
        **asdict(summary),
        "seconds": round(sum(record.seconds for record in group), 1),
        "seeds": [
            {
                "seed": outcome.control.seed,
                "auc": outcome.area.value,
                "auc_lower_95": outcome.area.lower_95,
                "auc_upper_95": outcome.area.upper_95,
                "log_loss_difference": outcome.against_base_rate.mean,
                "log_loss_upper_999": outcome.against_base_rate.upper_999,
                "refused_by": list(outcome.refused_by),
            }
            for outcome in (record.outcome for record in group)
        ],
    }


if __name__ == "__main__":
    sys.exit(run(main))
