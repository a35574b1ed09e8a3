"""`levibot models promote`, `rollback`, `history` and `compare`: who is champion, for how long, and changing it."""

import getpass
from typing import Annotated, Any

import typer
from rich.markup import escape

from levibot_core.config import load_settings
from levibot_core.errors import RegistryError
from levibot_core.registry import champions
from levibot_core.registry.versions import RegisteredVersions
from levibot_core.stores.paths import Home
from levibot_pipelines.cli.output import JsonOption, print_facts, print_json, print_notes, print_table, working
from levibot_pipelines.versions import open_versions

_EVENTS = {
    champions.PROMOTION: "promotion",
    champions.ROLLBACK: "rollback",
    champions.CANDIDATE: "rollback candidate",
    champions.CLEARED: "no candidate any more",
}
ActorOption = Annotated[str | None, typer.Option(help="Who does it, for the audit log; the user when left out.")]


def promote(
    version: Annotated[int, typer.Argument(help="Registered version.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")],
    force: Annotated[bool, typer.Option("--force", help="Also a version that did not pass its gates.")] = False,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a version the champion that the API serves. One that did not pass every gate needs --force."""
    registry = _registry()
    with working("Moving the champion"):
        wanted = registry.version(version)
        objection = wanted.objection
        if objection and not force:
            raise RegistryError(
                f"Expected a version that passed every promotion gate, but {objection}; "
                "--force promotes it all the same."
            )
        replaced = champions.promote(registry, version, named(actor), reason, forced=bool(objection))
    _show({"champion": version, "replaced": replaced.version if replaced else None, "forced": bool(objection)}, as_json)


def rollback(
    reason: Annotated[str, typer.Option(help="Why, for the audit log.")],
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the champion before the present one champion again."""
    registry = _registry()
    with working("Moving the champion"):
        leaving, coming = champions.roll_back(registry, named(actor), reason)
    _show(
        {
            "champion": coming.version,
            "replaced": leaving.version,
            "was_rollback_candidate": leaving.rollback_candidate,
            "is_rollback_candidate": coming.rollback_candidate,
        },
        as_json,
    )


def history(as_json: JsonOption = False) -> None:
    """Show every promotion and rollback, and who became a rollback candidate, newest first."""
    registry = _registry()
    changes = champions.history(registry)[::-1]
    if as_json:
        print_json([change.model_dump(mode="json", by_alias=True) for change in changes])
        return
    print_table(
        f"{registry.model_name}: who was champion",
        ("time, UTC", "what", "from", "to", "actor", "reason"),
        [
            (
                f"{change.time:%Y-%m-%d %H:%M:%S}",
                _EVENTS[change.event] + (", forced" if change.forced else ""),
                change.from_version,
                change.to_version,
                # What people wrote is shown as it is, not taken for instructions on how to show it.
                escape(change.actor),
                escape(change.reason),
            )
            for change in changes
        ],
    )


def compare(as_json: JsonOption = False) -> None:
    """Show what is known of challenger against champion, and of the champion against the one before it."""
    # Seconds of libraries that other commands do not need.
    from levibot_pipelines.comparison_reports import comparison_report
    from levibot_pipelines.shadow import champion_comparison, look, shadow_comparison
    from levibot_pipelines.workspace import Workspace

    workspace = Workspace.open(load_settings())
    with working("Weighing the evidence"):
        found = (shadow_comparison(workspace), champion_comparison(workspace))
        reports = [comparison_report(look(workspace, pair), pair.kind) for pair in found if pair is not None]
    if as_json:
        print_json({"model": workspace.settings.model_name, "comparisons": reports})
        return
    for report in reports:
        _show_comparison(report)
    if not reports:
        print_notes(["There is no challenger but the champion, and no champion before it: nothing to compare."])


def _show_comparison(report: dict[str, Any]) -> None:
    verdict = report["verdict"]
    loss, pnl = verdict["log_loss"], verdict["pnl"]
    contender = "challenger" if report["kind"] == "shadow" else "champion"
    expected = verdict["expected_days"]
    print_table(
        f"{contender.capitalize()} {report['contender']} against version {report['reference']}: "
        f"{verdict['blocks']:,} blocks, {verdict['days']:.1f} days",
        ("", "gain per block", "95 % at all times", "e better", "e worse"),
        [
            (name, *_gain(part), f"{part['better']:.3g}", f"{part['worse']:.3g}")
            for name, part in (("log loss, nats", loss), ("return after costs", pnl))
        ],
    )
    promotes = f"promoted at a log loss of e {report['decisive']:g} (so far at most {loss['better_peak']:.3g}), "
    print_notes(
        [
            f"The {contender} is "
            + (promotes if report["kind"] == "shadow" else "")
            + f"{'no longer waited for' if report['kind'] == 'shadow' else 'rolled back'} when e worse, the mean of "
            f"both, is {report['decisive']:g} (so far at most {verdict['worse_peak']:.3g}).",
            "Going on as so far, it is known "
            + ("in no time that is in sight." if expected is None else f"{expected:.1f} days after the first block."),
        ]
    )


def _gain(part: dict[str, Any]) -> tuple[str, str]:
    mean = "-" if part["mean"] is None else f"{part['mean']:+.5f}"
    return mean, f"{part['lower_95']:+.5f} to {part['upper_95']:+.5f}"


def _registry() -> RegisteredVersions:
    settings = load_settings()
    return open_versions(Home.at(settings.home).create(), settings.model_name)


def named(actor: str | None) -> str:
    """Who does it: as given, or the user."""
    return actor or getpass.getuser()


def _show(result: dict[str, int | bool | str | None], as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    facts = [(name.replace("_", " "), "no" if value is None else value) for name, value in result.items()]
    print_facts("Champion", facts)
