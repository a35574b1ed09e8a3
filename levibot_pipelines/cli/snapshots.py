"""`levibot features snapshots` and `levibot features audit`: the training snapshots of a home."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from levibot_core.config import load_settings
from levibot_core.errors import SnapshotNotFoundError
from levibot_core.stores.snapshot_audit import AuditReport, Cause, audit
from levibot_core.stores.snapshot_rebuild import rebuild
from levibot_core.stores.snapshot_retention import prune_snapshots
from levibot_pipelines.cli.output import JsonOption, messages, print_facts, print_json, print_table, working
from levibot_pipelines.runner import lifecycle_lock
from levibot_pipelines.workspace import Workspace

app = typer.Typer(help="Training snapshots: list, rebuild, prune.", invoke_without_command=True)

SnapshotArgument = Annotated[str | None, typer.Argument(help="Snapshot id; the newest when left out.")]
_CAUSES_SHOWN = 20


@app.callback()
def list_snapshots(context: typer.Context, as_json: JsonOption = False) -> None:
    """List every snapshot of this home, oldest first."""
    if context.invoked_subcommand is not None:
        return
    workspace = Workspace.open(load_settings())
    store = workspace.snapshots
    with working("Opening the model registry"):
        users = workspace.registry.snapshots_in_use()
    latest = store.latest()
    found: list[dict[str, Any]] = [
        {
            "snapshot_id": manifest.snapshot_id,
            "as_of": manifest.as_of.isoformat(),
            "rows": manifest.rows,
            "symbols": list(manifest.symbols),
            "feature_set": manifest.feature_set,
            "source": manifest.source.key,
            "bytes": store.size(manifest.snapshot_id),
            "latest": latest is not None and manifest.snapshot_id == latest.snapshot_id,
            "models": list(users.get(manifest.snapshot_id, ())),
        }
        for manifest in store.list()
    ]
    if as_json:
        print_json(found)
        return
    print_table(
        "Training snapshots",
        ("snapshot", "as of", "rows", "MB", "needed as"),
        [
            (
                row["snapshot_id"],
                row["as_of"][:10],
                f"{row['rows']:,}",
                f"{row['bytes'] / 1e6:,.1f}",
                "\n".join(["latest"] * row["latest"] + row["models"]),
            )
            for row in found
        ],
    )


@app.command("prune")
def prune(
    keep: Annotated[int, typer.Option(help="How many of the newest snapshots to keep.")], as_json: JsonOption = False
) -> None:
    """Remove old snapshots; the latest and those that a registered model names always stay."""
    workspace = Workspace.open(load_settings())
    with lifecycle_lock(workspace.home, wait=True, on_wait=messages.print):
        with working("Opening the model registry"):
            users = workspace.registry.snapshots_in_use()
        report = prune_snapshots(workspace.snapshots, keep, users.keys())
    if as_json:
        print_json(asdict(report))
        return
    print_facts(
        "Snapshots",
        [
            ("removed", "\n".join(report.removed) or "none"),
            ("kept", "\n".join(report.kept) or "none"),
            ("freed", f"{report.bytes_freed / 1e6:,.1f} MB"),
        ],
    )


@app.command("rebuild")
def rebuild_snapshot(snapshot_id: SnapshotArgument = None, as_json: JsonOption = False) -> None:
    """Compute a snapshot again from the lake and say whether it is the same; exit code 1 when it is not."""
    workspace = Workspace.open(load_settings())
    with working("Computing the snapshot again"):
        report = rebuild(workspace.snapshots, workspace.lake, _named_or_latest(workspace, snapshot_id))
    if as_json:
        print_json(asdict(report))
    else:
        print_facts(
            report.snapshot_id,
            [
                ("identical", "yes" if report.identical else "no"),
                ("rows", f"{report.rows:,}"),
                ("checksum", report.expected_checksum),
                ("rebuilt", report.found_checksum),
                *(("differs", difference) for difference in report.differences),
            ],
        )
    if not report.identical:
        raise typer.Exit(1)


def audit_snapshot(snapshot_id: SnapshotArgument = None, as_json: JsonOption = False) -> None:
    """Show which rows of a snapshot would differ if all that is known today had been known at once, and why."""
    workspace = Workspace.open(load_settings())
    with working("Computing the snapshot with what is known today"):
        report = audit(workspace.snapshots, workspace.lake, _named_or_latest(workspace, snapshot_id))
    if as_json:
        print_json(report.to_dict())
        return
    print_facts(report.snapshot_id, _totals(report))
    if report.causes:
        most_rows_first = sorted(report.causes, key=lambda cause: -sum(cause.rows.values()))
        print_table(
            f"Causes: {len(report.causes):,}" + (f", the first {_CAUSES_SHOWN}" * (len(report.causes) > _CAUSES_SHOWN)),
            ("what", "of", "old", "new", "known", "rows touched"),
            [_cause(cause) for cause in most_rows_first[:_CAUSES_SHOWN]],
        )


def _named_or_latest(workspace: Workspace, snapshot_id: str | None) -> str:
    if snapshot_id is not None:
        return snapshot_id
    latest = workspace.snapshots.latest()
    if latest is None:
        raise SnapshotNotFoundError(
            f"Expected a newest snapshot in {workspace.home.snapshots}, but none was built yet. "
            "Name one of `levibot features snapshots`, or build one with `levibot run`."
        )
    return latest.snapshot_id


def _totals(report: AuditReport) -> list[tuple[str, object]]:
    counts = report.counts
    return [
        ("as of", report.as_of),
        ("rows", f"{report.rows:,}"),
        ("would differ", f"{counts['differing']:,}"),
        ("other values", f"{counts['changed']:,}"),
        ("not in the snapshot, would be", f"{counts['added']:,}"),
        ("in the snapshot, would not be", f"{counts['gone']:,}"),
        ("without a cause in the lake", f"{counts['unexplained']:,}"),
    ]


def _cause(cause: Cause) -> tuple[object, ...]:
    found = cause.to_dict()
    return (
        f"{found['kind']} {found['table']} {found['symbol'] or ''}",
        found["ts"][:16],
        _values(found["old"]),
        _values(found["new"]),
        (found["known_at"] or "after the snapshot")[:19],
        ", ".join(f"{symbol}: {count:,}" for symbol, count in cause.rows.items()),
    )


def _values(values: dict[str, float] | None) -> str:
    return "nothing" if values is None else ", ".join(f"{name} {value:.8g}" for name, value in values.items())
