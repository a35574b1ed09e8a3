"""Which rows of a snapshot would differ if all that is known today had been known at once, and because of what.

A snapshot holds what could be known at each decision time, so a difference is not an error of the snapshot: it is how
much corrections and late data would have mattered. Whether the snapshot can be built again as it was is
`levibot_core.stores.snapshot_rebuild`'s question.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from levibot_core.errors import SnapshotError
from levibot_core.features.inputs import origins_of
from levibot_core.features.registry import FeatureSet, load_registry
from levibot_core.market.symbols import LEADER
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY, Timeframe
from levibot_core.schemas import TRAINING_ROWS
from levibot_core.stores.frame_difference import FrameDifference, compare_frames
from levibot_core.stores.input_changes import InputChange, as_if_known_at_once, changes_behind_our_back, changes_since
from levibot_core.stores.lake import Lake
from levibot_core.stores.snapshot_manifest import SnapshotManifest
from levibot_core.stores.snapshot_rebuild import inputs_of, recompute
from levibot_core.stores.snapshots import SnapshotStore
from levibot_core.stores.training_rows import epoch_ms, instant, newest_revisions

IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# By table: how long after its own time a published value can be seen first and, generously, last.
_PUBLISHED = {
    "funding_rates": (0, 3 * MILLISECONDS_PER_DAY),
    "fear_greed": (MILLISECONDS_PER_DAY, 12 * MILLISECONDS_PER_DAY),
}
_ORIGIN_OF = {"funding_rates": "funding", "fear_greed": "fear_greed"}
_LABEL_COLUMNS = ("label", "forward_return", "label_end")
_NEVER = np.iinfo(np.int64).max
_COLUMNS_NAMED = 8


@dataclass(frozen=True, slots=True)
class Cause:
    """A change of an input, and how many differing rows of each symbol it touches.

    A change touches a row when it lies in a window of it and the row was decided before the change was known.
    """

    change: InputChange
    rows: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The change and the rows it touches, times as ISO 8601."""
        known_ms = self.change.known_at_ms
        return {
            "table": self.change.table,
            "symbol": self.change.symbol,
            "ts": _iso(self.change.ts_ms),
            "kind": self.change.kind,
            "old": self.change.old,
            "new": self.change.new,
            "known_at": None if known_ms is None else _iso(known_ms),
            "rows": dict(self.rows),
        }


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What a snapshot would be today.

    Attributes:
        snapshot_id: Which snapshot.
        as_of: Its instant of knowledge.
        rows: How many rows it has.
        differing: symbol, ts, change (`changed`: other values; `added`: not in the snapshot, would be; `gone`: in the
            snapshot, would not be), columns (List of String: what differs; all features of an added or gone row) and
            causes (List of UInt32: positions in `causes`); sorted by symbol and ts.
        causes: The changes that touch at least one differing row.
    """

    snapshot_id: str
    as_of: datetime
    rows: int
    differing: pl.DataFrame
    causes: tuple[Cause, ...]

    @property
    def unexplained(self) -> int:
        """Differing rows in whose windows the lake shows no change: something before the window was replaced."""
        return self.differing.filter(pl.col("causes").list.len() == 0).height

    @property
    def counts(self) -> dict[str, int]:
        """How many rows differ: all, by kind of change, and those without a cause."""
        kinds = self.differing["change"]
        by_kind = {kind: int((kinds == kind).sum()) for kind in ("changed", "added", "gone")}
        return {"differing": kinds.len(), **by_kind, "unexplained": self.unexplained}

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON has it; of the columns that differ in a row, how many and the first few."""
        rows = self.differing.with_columns(
            pl.col("ts").dt.to_string("iso:strict"),
            columns=pl.col("columns").list.len(),
            first_columns=pl.col("columns").list.head(_COLUMNS_NAMED),
        )
        return {
            "snapshot_id": self.snapshot_id,
            "as_of": self.as_of.isoformat(),
            "rows": self.rows,
            **self.counts,
            "causes": [cause.to_dict() for cause in self.causes],
            "differing_rows": rows.to_dicts(),
        }


def audit(store: SnapshotStore, lake: Lake, snapshot_id: str) -> AuditReport:
    """Compute a snapshot's rows from the newest revisions as if these had been known at once, and compare.

    Raises:
        SnapshotNotFoundError: there is no such snapshot.
        SnapshotError: it is damaged, its manifest does not name the inputs, or its features are defined otherwise
            now, so that a difference could not be told from a change of definition.
        LakeCorruptionError: a file of the lake cannot be read.
    """
    snapshot = store.load(snapshot_id)
    manifest = snapshot.manifest
    feature_set = load_registry(manifest.feature_set)
    if feature_set.sha256 != manifest.features_sha256:
        raise SnapshotError(
            f"Expected feature set {manifest.feature_set} as the snapshot had it ({manifest.features_sha256[:12]}), "
            f"was {feature_set.sha256[:12]}. Audit it with the version of the platform that built it."
        )
    inputs, as_of_ms = inputs_of(manifest, lake), epoch_ms(manifest.as_of)
    bar_ms = Timeframe.parse(manifest.timeframe).milliseconds
    today = recompute(manifest, as_if_known_at_once(inputs, bar_ms, as_of_ms), feature_set)
    difference = compare_frames(snapshot.rows, today.rows, TRAINING_ROWS.key)
    lake_says = newest_revisions(inputs.known_at(as_of_ms).candles)
    lake_says = lake_says.filter(pl.col("ts") >= instant(epoch_ms(manifest.window_start or manifest.first_ts)))
    changes = changes_since(inputs, bar_ms, as_of_ms) + changes_behind_our_back(snapshot.candles, lake_says)
    rows = _DifferingRows.of(difference, feature_set, manifest)
    touched = [rows.touched_by(change) for change in changes]
    found = [(change, indices) for change, indices in zip(changes, touched, strict=True) if indices.size]
    return AuditReport(
        snapshot_id=snapshot_id,
        as_of=manifest.as_of,
        rows=manifest.rows,
        differing=rows.report([indices for _, indices in found]),
        causes=tuple(Cause(change, rows.count_by_symbol(indices)) for change, indices in found),
    )


@dataclass(frozen=True)
class _DifferingRows:
    """The n rows that differ, sorted by symbol and ts, and how far what differs in them looks back.

    Attributes:
        frame: symbol, ts, change, columns.
        ts_ms: Open times, int64 (n,).
        reach: By origin (`own`, `leader`, `funding`, `fear_greed`): bars of the longest window of that origin among
            the features that differ, the row's own bar included; 0 where none differs. int64 (n,).
        label: Whether the label differs. bool (n,).
        spans: Where the rows of each symbol lie.
        manifest: The snapshot's.
    """

    frame: pl.DataFrame
    ts_ms: IntArray
    reach: Mapping[str, IntArray]
    label: BoolArray
    spans: Mapping[str, slice]
    manifest: SnapshotManifest

    @classmethod
    def of(cls, difference: FrameDifference, feature_set: FeatureSet, manifest: SnapshotManifest) -> "_DifferingRows":
        names = [*_LABEL_COLUMNS, *feature_set.names]
        parts = [
            _flagged(difference.changed, "changed", {name: name in difference.columns for name in names}, names),
            _flagged(difference.added, "added", {}, names),
            _flagged(difference.gone, "gone", {}, names),
        ]
        flags = pl.concat(parts).sort("symbol", "ts")
        longest: dict[str, dict[str, int]] = {"own": {}, "leader": {}, "funding": {}, "fear_greed": {}}
        for spec in feature_set.features:
            for origin in origins_of(spec.inputs) & longest.keys():
                longest[origin][spec.name] = spec.warm_up
        differing = pl.concat_list(pl.when(name).then(pl.lit(name)) for name in names).list.drop_nulls()
        runs = flags["symbol"].rle().struct.unnest()
        ends = runs["len"].cum_sum()
        return cls(
            frame=flags.select("symbol", "ts", "change", columns=differing),
            ts_ms=flags["ts"].dt.epoch("ms").to_numpy(),
            reach={origin: _longest_window(flags, windows) for origin, windows in longest.items()},
            label=flags.select(pl.any_horizontal(_LABEL_COLUMNS)).to_series().to_numpy(),
            spans={
                symbol: slice(end - length, end)
                for symbol, length, end in zip(runs["value"], runs["len"], ends, strict=True)
            },
            manifest=manifest,
        )

    def touched_by(self, change: InputChange) -> IntArray:
        """Positions of the rows in whose windows the change lies and that were decided before it was known."""
        known_ms = _NEVER if change.known_at_ms is None else change.known_at_ms
        found = [np.empty(0, dtype=np.int64)]
        for symbol, span in self.spans.items():
            own, of_candles = change.symbol in (None, symbol), change.table == "candles"
            if not (own or (of_candles and change.symbol == LEADER)):
                continue
            ts_ms = self.ts_ms[span]
            age_ms = ts_ms - change.ts_ms
            touched = self._in_window(change, span, age_ms, own=own) & (ts_ms + self.bar_ms < known_ms)
            if own and of_candles and epoch_ms(self.manifest.as_of) < known_ms:
                touched |= self.label[span] & self._in_label(age_ms)
            found.append(np.flatnonzero(touched) + span.start)
        return np.concatenate(found)

    def _in_window(self, change: InputChange, span: slice, age_ms: IntArray, *, own: bool) -> BoolArray:
        """Whether a feature that differs looks at the changed value, which opened that long before the row did."""
        if change.table == "candles":
            of_own = self.reach["own"][span] * own
            of_leader = self.reach["leader"][span] * (change.symbol == LEADER)
            return (age_ms >= 0) & (age_ms < self.bar_ms * np.maximum(of_own, of_leader))
        earliest_ms, reach_ms = _PUBLISHED[change.table]
        differs = self.reach[_ORIGIN_OF[change.table]][span] > 0
        return differs & (age_ms + self.bar_ms >= earliest_ms) & (age_ms < reach_ms)

    def _in_label(self, age_ms: IntArray) -> BoolArray:
        """Whether a label looks at the bar that opened that long before its row."""
        horizon_ms, barriers = self.manifest.horizon_bars * self.bar_ms, self.manifest.triple_barrier
        if barriers is None:
            return np.asarray((age_ms == 0) | (age_ms == -horizon_ms))
        return np.asarray((age_ms >= -horizon_ms) & (age_ms <= barriers.atr_bars * self.bar_ms))

    @property
    def bar_ms(self) -> int:
        """Length of a bar."""
        return Timeframe.parse(self.manifest.timeframe).milliseconds

    def count_by_symbol(self, indices: IntArray) -> dict[str, int]:
        """How many of these rows each symbol has."""
        counts = {
            symbol: int(((indices >= span.start) & (indices < span.stop)).sum()) for symbol, span in self.spans.items()
        }
        return {symbol: count for symbol, count in counts.items() if count}

    def report(self, touched: Sequence[IntArray]) -> pl.DataFrame:
        """The frame with a column `causes`: for every row, which of the changes touch it."""
        causes = pl.DataFrame(
            {
                "row": np.concatenate([np.empty(0, dtype=np.int64), *touched]),
                "causes": np.repeat(np.arange(len(touched)), [indices.size for indices in touched]),
            },
            schema_overrides={"causes": pl.UInt32},
        )
        by_row = causes.group_by("row", maintain_order=True).agg("causes").with_columns(pl.col("row").cast(pl.UInt32))
        return (
            self.frame.with_row_index("row")
            .join(by_row, on="row", how="left", maintain_order="left")
            .with_columns(pl.col("causes").fill_null([]))
            .drop("row")
        )


def _flagged(rows: pl.DataFrame, change: str, differs: Mapping[str, bool], names: Sequence[str]) -> pl.DataFrame:
    """Key, kind of change and a Boolean column per name; a column that is not known to be equal counts as differing."""
    flags = [pl.col(name) if differs.get(name, False) else pl.lit(name not in differs).alias(name) for name in names]
    return rows.select(*TRAINING_ROWS.key, pl.lit(change).alias("change"), *flags)


def _longest_window(flags: pl.DataFrame, windows: Mapping[str, int]) -> IntArray:
    if not windows:
        return np.zeros(flags.height, dtype=np.int64)
    bars = pl.max_horizontal(pl.col(name).cast(pl.Int64) * warm_up for name, warm_up in windows.items())
    return flags.select(bars).to_series().to_numpy()


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
