"""`levibot drill`: faults made on purpose, to see that what is meant to notice them does."""

import os
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from levibot_core.config import load_settings
from levibot_core.errors import LevibotError
from levibot_pipelines.cli.output import JsonOption, print_facts, print_json, print_table, working
from levibot_pipelines.runner import INGEST, SHADOW, lifecycle_lock, run_job
from levibot_pipelines.workspace import Workspace

if TYPE_CHECKING:
    from levibot_pipelines.drill import BadChampion, DrillNight

app = typer.Typer(help="Faults made on purpose, in a home of their own.", no_args_is_help=True)


@app.callback()
def drills() -> None:
    """Keep `levibot drill` a group of commands while there is only one."""


@app.command("rollback")
def rollback(
    factor: Annotated[
        float, typer.Option(min=1.5, help="What the log-odds of the bad model are multiplied by.")
    ] = 20.0,
    until: Annotated[str | None, typer.Option(help="Take in bars up to that day first, such as 2023-04-01.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a bad model champion, and compare night by night until it is rolled back; exit code 1 when it is not."""
    from levibot_core.registry.champions import roll_back  # Seconds of libraries that other commands do not need.
    from levibot_pipelines.drill import ACTOR, nights, promote_bad_model

    if until is not None:
        os.environ["LEVIBOT_UNTIL"] = until
    workspace = Workspace.open(load_settings())
    with lifecycle_lock(workspace.home, wait=False, on_wait=lambda _: None), working("Comparing night by night"):
        if until is not None:
            _run(INGEST, workspace)
        bad = promote_bad_model(workspace, factor)
        found = list(nights(workspace, bad, _run_night))
        caught = bool(found) and found[-1].rolled_back_after_seconds is not None
        if not caught:
            roll_back(workspace.registry, ACTOR, "the drill ends: the bad model was not noticed in the bars there are")
    if as_json:
        print_json(
            {**asdict(bad), "factor": factor, "rolled_back": caught, "nights": [asdict(night) for night in found]}
        )
    else:
        _show(bad, found, caught)
    if not caught:
        raise typer.Exit(1)


def _run_night(until: datetime) -> None:
    """The nightly job, through Dagster, with the bars there were at an instant."""
    # Assets read the settings from the environment.
    os.environ["LEVIBOT_UNTIL"] = until.isoformat()
    _run(SHADOW, Workspace.open(load_settings()))


def _run(job: str, workspace: Workspace) -> None:
    from levibot_pipelines.lifecycle import lifecycle_tags  # Loads Dagster.

    tags = lifecycle_tags(workspace, workspace.settings.days) if job == INGEST else {}
    outcome = run_job(workspace, job, tags, lambda _: None)
    # The night that finds the champion worse ends in a check that says so.
    if not outcome.ended_well:
        raise LevibotError(f"Expected the job {job} to end well, but {dict(outcome.failures)}. See the Dagster UI.")


def _show(bad: "BadChampion", found: "list[DrillNight]", caught: bool) -> None:
    print_table(
        f"Version {bad.version}, bad on purpose (a copy of {bad.copied}), in the place of version {bad.replaced}",
        ("bars until, UTC", "blocks", "e-value: worse", "night took", "rolled back"),
        [
            (
                f"{night.until:%Y-%m-%d %H:%M}",
                night.blocks,
                f"{night.e_worse:.3g}",
                f"{night.seconds:.1f} s",
                "no" if night.rolled_back_after_seconds is None else f"after {night.rolled_back_after_seconds:.1f} s",
            )
            for night in found
        ],
    )
    print_facts(
        "Drill",
        [
            ("registered in", f"{bad.register_seconds:.1f} s"),
            ("made champion in", f"{bad.promote_seconds:.2f} s"),
            (
                "rolled back by itself",
                f"yes, on {found[-1].blocks} blocks of {found[-1].days:.1f} days" if caught else "no",
            ),
        ],
    )
