"""Build a snapshot again from nothing but its id and the lake, and say whether it is the same.

The lake keeps every revision, so what was known at the snapshot's as-of time can be read at any later time. How the
snapshot would differ if it were built with what is known today is `levibot_core.stores.snapshot_audit`'s question.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from levibot_core.errors import SnapshotError
from levibot_core.features.registry import FeatureSet, load_registry
from levibot_core.market.timeframe import Timeframe
from levibot_core.stores.frame_difference import compare_frames
from levibot_core.stores.lake import Lake
from levibot_core.stores.snapshot_manifest import SnapshotManifest, content_checksum
from levibot_core.stores.snapshots import Snapshot, SnapshotStore
from levibot_core.stores.training_rows import TrainingInputs, TrainingRows, epoch_ms, read_inputs, training_rows

_COLUMNS_NAMED = 8


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """Whether a snapshot could be built again with the same checksum; if not, what differs, in words."""

    snapshot_id: str
    identical: bool
    expected_checksum: str
    found_checksum: str
    rows: int
    differences: tuple[str, ...]


def rebuild(store: SnapshotStore, lake: Lake, snapshot_id: str) -> RebuildReport:
    """Compute a snapshot's rows again from the lake as of the manifest's as-of time; nothing is written.

    The stored rows are read only to say what differs, so a damaged snapshot can be judged too.

    Raises:
        SnapshotNotFoundError: there is no such snapshot.
        SnapshotError: its manifest cannot be understood or lacks what a rebuild needs, or the lake no longer holds a
            single whole row of it.
        ConfigurationError: this version of the platform does not have its feature set.
        LakeCorruptionError: a file of the lake cannot be read.
    """
    manifest = store.manifest(snapshot_id)
    feature_set = load_registry(manifest.feature_set)
    as_of_ms = epoch_ms(manifest.as_of)
    content = recompute(manifest, inputs_of(manifest, lake).known_at(as_of_ms), feature_set)
    draft = manifest.model_copy(update={"features_sha256": feature_set.sha256})
    found = content_checksum(draft, content.rows, content.candles)
    identical = found == manifest.checksum
    differences = () if identical else tuple(_differences(store, manifest, feature_set, content))
    return RebuildReport(snapshot_id, identical, manifest.checksum, found, content.rows.height, differences)


def recover(manifest: SnapshotManifest, lake: Lake) -> Snapshot:
    """The snapshot with that manifest, computed again from the lake, for when its files are damaged or gone.

    Raises:
        SnapshotError: what is computed does not have the manifest's checksum, or nothing can be computed.
        ConfigurationError: this version of the platform does not have its feature set.
        LakeCorruptionError: a file of the lake cannot be read.
    """
    feature_set = load_registry(manifest.feature_set)
    content = recompute(manifest, inputs_of(manifest, lake).known_at(epoch_ms(manifest.as_of)), feature_set)
    draft = manifest.model_copy(update={"features_sha256": feature_set.sha256})
    found = content_checksum(draft, content.rows, content.candles)
    if found != manifest.checksum:
        raise SnapshotError(
            f"Expected the lake to give snapshot {manifest.snapshot_id} again with checksum {manifest.checksum}, was "
            f"{found}. Bring back its files, or the lake and the feature definitions it was built from."
        )
    return Snapshot(manifest, content.rows, content.candles)


def inputs_of(manifest: SnapshotManifest, lake: Lake) -> TrainingInputs:
    """Every revision that the lake holds of what the snapshot was computed from.

    Raises:
        SnapshotError: the manifest does not name the inputs.
        LakeCorruptionError: a file of the lake cannot be read.
    """
    _window_start_ms(manifest)
    return read_inputs(
        lake,
        source_key=manifest.source.key,
        market=manifest.market,
        timeframe=manifest.timeframe,
        symbols=manifest.inputs,
    )


def recompute(manifest: SnapshotManifest, inputs: TrainingInputs, feature_set: FeatureSet) -> TrainingRows:
    """The rows of the snapshot's window, computed from these inputs.

    Raises:
        SnapshotError: no row is whole, or the manifest does not name the window.
    """
    return training_rows(
        inputs,
        feature_set=feature_set,
        timeframe=Timeframe.parse(manifest.timeframe),
        label=manifest.label,
        start_ms=_window_start_ms(manifest),
        as_of_ms=epoch_ms(manifest.as_of),
    )


def _window_start_ms(manifest: SnapshotManifest) -> int:
    if manifest.window_start is None:
        raise SnapshotError(
            f"Expected the manifest of {manifest.snapshot_id} to name its window and inputs, was written by an earlier "
            "version of the platform, which did not. Build a new snapshot."
        )
    return epoch_ms(manifest.window_start)


def _differences(
    store: SnapshotStore, manifest: SnapshotManifest, feature_set: FeatureSet, content: TrainingRows
) -> Iterator[str]:
    if manifest.features_sha256 != feature_set.sha256:
        yield (
            f"feature definitions: {manifest.feature_set} has hash {feature_set.sha256[:12]} now, had "
            f"{manifest.features_sha256[:12]} then"
        )
    try:
        stored = store.load(manifest.snapshot_id)
    except SnapshotError as error:
        yield f"stored files: {error}"
        return
    yield from _frame_differences("rows", stored.rows, content.rows)
    yield from _frame_differences("candles", stored.candles, content.candles)


def _frame_differences(what: str, stored: pl.DataFrame, found: pl.DataFrame) -> Iterator[str]:
    difference = compare_frames(stored, found, ("symbol", "ts"))
    if difference.other_columns:
        yield f"{what}: columns {_named(difference.other_columns)} are not in both"
    for keys, where in ((difference.gone, "only in the snapshot"), (difference.added, "only in the rebuild")):
        if keys.height:
            yield f"{what}: {keys.height} {where}, first {_first(keys)}"
    if difference.changed.height:
        columns = [f"{name} ({difference.changed[name].sum()})" for name in difference.columns]
        yield f"{what}: {difference.changed.height} differ, first {_first(difference.changed)}, in {_named(columns)}"


def _first(keys: pl.DataFrame) -> str:
    symbol, ts = keys.select("symbol", pl.col("ts").dt.to_string("iso:strict")).row(0)
    return f"{symbol} {ts}"


def _named(names: list[str] | tuple[str, ...]) -> str:
    rest = len(names) - _COLUMNS_NAMED
    return ", ".join(names[:_COLUMNS_NAMED]) + (f" and {rest} more" if rest > 0 else "")
