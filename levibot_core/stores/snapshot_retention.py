"""Which snapshots a home keeps: the newest ones, the one that is pointed to, and every one that a model names.

Which models there are is the registry's knowledge; removing one snapshot is `levibot_core.stores.snapshots`' work.
"""

from collections.abc import Collection
from dataclasses import dataclass

from levibot_core.errors import ConfigurationError
from levibot_core.stores.snapshots import SnapshotStore


@dataclass(frozen=True, slots=True)
class PruneReport:
    """What a prune did: ids of the snapshots removed and kept, oldest first, and the bytes that were freed."""

    removed: tuple[str, ...]
    kept: tuple[str, ...]
    bytes_freed: int


def prune_snapshots(store: SnapshotStore, keep: int, in_use: Collection[str]) -> PruneReport:
    """Remove every snapshot that nothing needs.

    Args:
        store: The snapshots of a home; nobody builds one meanwhile.
        keep: How many of the newest to keep, at least 1.
        in_use: Ids that registered models name; these are kept however old, and so is `store.latest()`.

    Raises:
        ConfigurationError: `keep` is below 1.
        SnapshotError: the pointer or a manifest cannot be understood; nothing is removed.
        HomeNotWritableError: a folder cannot be removed; snapshots before it already are.
    """
    if keep < 1:
        raise ConfigurationError(f"Expected to keep 1 snapshot or more, was {keep}.")
    ids = [manifest.snapshot_id for manifest in store.list()]
    latest = store.latest()
    needed = {*ids[-keep:], *in_use} | (set() if latest is None else {latest.snapshot_id})
    removed = [snapshot_id for snapshot_id in ids if snapshot_id not in needed]
    freed = sum(store.remove(snapshot_id) for snapshot_id in removed)
    return PruneReport(tuple(removed), tuple(found for found in ids if found in needed), freed)
