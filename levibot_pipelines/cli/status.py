"""`levibot status`: what this home holds and what is served from it."""

from rich.markup import escape

from levibot_core.config import load_settings
from levibot_pipelines.cli.output import JsonOption, first_of, print_facts, print_json, working
from levibot_pipelines.registry import CHALLENGER, CHAMPION, RegisteredVersion
from levibot_pipelines.workspace import Workspace


def status(as_json: JsonOption = False) -> None:
    """Show the data source, the champion, the challenger and how much data there is."""
    workspace = Workspace.open(load_settings())
    with working("Opening the model registry"):
        facts = collect_status(workspace)
    if as_json:
        print_json(facts)
        return
    champion, challenger = facts["champion"], facts["challenger"]
    print_facts(
        f"LeviBot home {facts['home']}",
        [
            ("source", facts["source"] or "nothing ingested yet: run `levibot demo`"),
            ("candles", f"{facts['rows']:,}"),
            ("champion", _describe(champion)),
            ("challenger", _describe(challenger)),
            *_candidate(champion),
        ],
    )


def collect_status(workspace: Workspace) -> dict[str, object]:
    """Everything `status` prints, ready for JSON."""
    identity = workspace.lake.current_source()
    rows = 0
    if identity is not None:
        rows = workspace.lake.read(workspace.candles(identity), symbols=workspace.settings.symbols).height
    registry = workspace.registry
    return {
        "home": str(workspace.home.root),
        "source": identity.kind if identity else None,
        "source_description": identity.description if identity else None,
        "champion": _version(workspace, registry.by_alias(CHAMPION)),
        "challenger": _version(workspace, registry.by_alias(CHALLENGER)),
        "rows": rows,
    }


def _version(workspace: Workspace, version: RegisteredVersion | None) -> dict[str, object] | None:
    if version is None:
        return None
    return {
        "name": workspace.settings.model_name,
        "version": version.version,
        "family": version.family,
        "snapshot_id": version.tags.get("snapshot_id"),
        "tradable": version.tradable,
        "reasons": list(version.reasons),
        "rollback_candidate": version.rollback_candidate,
    }


def _candidate(champion: object) -> list[tuple[str, str]]:
    """Why the champion should be rolled back, where something says so."""
    reason = champion["rollback_candidate"] if isinstance(champion, dict) else None
    return [("rollback candidate", escape(f"{reason}; `levibot models rollback --reason …`"))] if reason else []


def _describe(version: object) -> str:
    if not isinstance(version, dict):
        return "none"
    reason = first_of(version["reasons"], f"levibot models card show {version['version']}")
    tradable = "tradable" if version["tradable"] else f"not tradable: {reason}"
    return f"{version['name']} version {version['version']} ({version['family']}), {tradable}"
