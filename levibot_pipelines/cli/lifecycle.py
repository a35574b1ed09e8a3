"""`levibot demo` and `levibot run`: the whole lifecycle, watched."""

import os
import time
from typing import Annotated

import typer

from levibot_core.config import Settings, load_settings
from levibot_core.errors import HomeNotWritableError, LevibotError
from levibot_pipelines.cli.output import JsonOption, messages, print_json
from levibot_pipelines.cli.progress import ProgressView
from levibot_pipelines.cli.summary import collect_summary, print_summary
from levibot_pipelines.runner import LIFECYCLE, RunOutcome, lifecycle_lock, run_job
from levibot_pipelines.workspace import Workspace

NoWaitOption = Annotated[
    bool, typer.Option("--no-wait", help="Fail at once when another run works in this home, instead of waiting.")
]


def demo(as_json: JsonOption = False, no_wait: NoWaitOption = False) -> None:
    """Run the whole lifecycle once, setting up what is missing, and show what happened."""
    _lifecycle(load_settings(), as_json=as_json, wait=not no_wait)


def run(
    source: Annotated[str | None, typer.Option(help="exchange, recorded, simulated or auto.")] = None,
    symbols: Annotated[str | None, typer.Option(help="Comma-separated symbols.")] = None,
    days: Annotated[int | None, typer.Option(help="Days of history to work on.")] = None,
    until: Annotated[str | None, typer.Option(help="End of the history, such as 2023-04-01.")] = None,
    profile: Annotated[str | None, typer.Option(help="fast or full.")] = None,
    as_json: JsonOption = False,
    no_wait: NoWaitOption = False,
) -> None:
    """Run the lifecycle with other settings than those of the environment."""
    given = {"SOURCE": source, "SYMBOLS": symbols, "DAYS": days, "UNTIL": until, "PROFILE": profile}
    # Assets read the settings from the environment, in this process and in those that Dagster starts.
    os.environ.update({f"LEVIBOT_{name}": str(value) for name, value in given.items() if value is not None})
    _lifecycle(load_settings(), as_json=as_json, wait=not no_wait)


def _lifecycle(settings: Settings, *, as_json: bool, wait: bool) -> None:
    started = time.monotonic()
    workspace = Workspace.open(settings)
    with lifecycle_lock(workspace.home, wait, on_wait=messages.print):
        _announce(workspace)
        # `auto` is decided once: the run that follows must not ask the exchanges again and decide otherwise.
        os.environ["LEVIBOT_SOURCE"] = workspace.source.identity.kind
        # Loads Dagster, which takes seconds: not before the person was told what is going on.
        from levibot_pipelines.lifecycle import lifecycle_tags

        tags = lifecycle_tags(workspace, settings.days)
        with ProgressView() as view:
            outcome = run_job(workspace, LIFECYCLE, tags, view.show)
        if not outcome.ended_well:
            raise LevibotError(_failure(workspace, outcome))
        summary = collect_summary(workspace, outcome, time.monotonic() - started)
    if as_json:
        print_json(summary)
    else:
        print_summary(summary)


def _announce(workspace: Workspace) -> None:
    """Say loudly where the data comes from before any work is done on it."""
    identity = workspace.source.identity
    messages.print(f"[bold]Market source:[/] {identity.description}", soft_wrap=True)
    if identity.kind == "simulated":
        edge = workspace.settings.simulated_edge
        planted = f"WITH A PLANTED EDGE OF {edge:.2f}" if edge else "WITHOUT ANY EDGE"
        messages.print(
            f"[bold yellow]THIS IS A SIMULATED MARKET {planted}. NOTHING TRAINED ON IT IS EVER TRADABLE. "
            "SET LEVIBOT_MARKET_DATA TO A FOLDER OF RECORDED CANDLES FOR A REAL ONE.[/]",
            soft_wrap=True,
        )


def _failure(workspace: Workspace, outcome: RunOutcome) -> str:
    what = "\n".join(f"  {step}: {reason}" for step, reason in outcome.failures.items())
    try:
        workspace.home.require_free_space()
    except HomeNotWritableError as full:
        # The likely cause of whatever failed: SQLite calls a full disk an input/output error.
        what += f"\n  {full}"
    return (
        f"The run failed; the champion is untouched and everything finished before stays.\n{what}\n"
        f"Details: `levibot up`, then the run {outcome.run_id[:8]} in the Dagster UI ({workspace.home.root})."
    )
