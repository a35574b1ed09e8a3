"""Snapshots of either kind of label: the manifest says which, the id depends on it, and a rebuild is the same."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from levibot_core.errors import ConfigurationError
from levibot_core.features.registry import load_registry
from levibot_core.labels.definition import DirectionLabel, TripleBarrierLabel
from levibot_core.labels.labelling import label_rows
from levibot_core.market.sources.base import SourceIdentity
from levibot_core.market.timeframe import Timeframe
from levibot_core.stores.lake import Lake
from levibot_core.stores.paths import candles_dataset, funding_dataset
from levibot_core.stores.snapshot_audit import audit
from levibot_core.stores.snapshot_manifest import SnapshotManifest, content_checksum
from levibot_core.stores.snapshot_rebuild import rebuild
from levibot_core.stores.snapshots import SnapshotStore
from levibot_core.stores.training_rows import read_inputs
from levibot_core.validation.split import SplitPlan, chronological_split

FIVE_MINUTES = Timeframe.parse("5m")
BAR_MS = FIVE_MINUTES.milliseconds
START_MS, BARS = 1_735_689_600_000, 500
AS_OF_MS = START_MS + BARS * BAR_MS
BARRIERS = TripleBarrierLabel(max_bars=20)
CANDLES = candles_dataset("recorded", "spot", "5m")
# As a snapshot.json without any mention of labels has it.
OLD_MANIFEST = {
    "snapshot_id": "a",
    "created_at": "2026-01-01T00:00:00Z",
    "as_of": "2026-01-01T00:00:00Z",
    "checksum": "",
    "rows": 2,
    "dropped": {},
    "symbols": ["BTC/USDT"],
    "market": "spot",
    "timeframe": "5m",
    "horizon_bars": 12,
    "feature_set": "v1",
    "features": ["a"],
    "features_sha256": "0" * 64,
    "source": {"kind": "recorded", "key": "recorded", "venue": "recorded:binance", "description": "recorded candles"},
    "first_ts": "2025-12-01T00:00:00Z",
    "last_ts": "2025-12-01T00:05:00Z",
    "warm_up": 3,
}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory, make_market: Callable[..., Any]) -> Lake:
    market, lake = make_market(bars=BARS), Lake(tmp_path_factory.mktemp("lake"))
    lake.append(CANDLES, market.candles, AS_OF_MS)
    lake.append(funding_dataset("recorded"), market.funding, AS_OF_MS)
    return lake


def build(store: SnapshotStore, lake: Lake, horizon_bars: int, **label: Any) -> SnapshotManifest:
    symbols = ["BTC/USDT", "ETH/USDT"]
    return store.build(
        inputs=read_inputs(
            lake, source_key="recorded", market="spot", timeframe="5m", symbols=symbols, as_of_ms=AS_OF_MS
        ),
        feature_set=load_registry("v1"),
        timeframe=FIVE_MINUTES,
        horizon_bars=horizon_bars,
        source=SourceIdentity("recorded", "recorded", "recorded:binance", "recorded candles"),
        market="spot",
        as_of_ms=AS_OF_MS,
        start_ms=START_MS,
        **label,
    )


def test_a_snapshot_of_barriers_says_so_and_is_rebuilt_the_same(tmp_path: Path, lake: Lake) -> None:
    store = SnapshotStore(tmp_path / "snapshots")
    manifest = build(store, lake, 20, triple_barrier=BARRIERS)
    snapshot = store.load(manifest.snapshot_id)
    assert snapshot.manifest.label == BARRIERS
    labels = label_rows(snapshot.candles, FIVE_MINUTES, BARRIERS)
    ends = snapshot.rows.select("symbol", "ts", "label", "label_end").join(
        labels, on=["symbol", "ts"], how="left", maintain_order="left"
    )
    assert snapshot.rows.height > 200
    assert ends.select((pl.col("label") == pl.col("label_right")).all()).item()
    assert ends.select((pl.col("label_end") == pl.col("label_end_right")).all()).item()
    assert snapshot.rows["label_end"].max() <= datetime.fromtimestamp(AS_OF_MS / 1000, UTC)  # type: ignore[operator]
    report = rebuild(store, lake, manifest.snapshot_id)
    assert (report.identical, report.differences) == (True, ())
    assert audit(store, lake, manifest.snapshot_id).counts["differing"] == 0
    # Purged by the end of each row's own label: a quick one may be decided nearer to the boundary than a slow one.
    split = chronological_split(snapshot.rows, SplitPlan(embargo_ms=0))
    assert (split.train["label_end"].dt.epoch("ms") <= split.boundaries["validation"]).all()


def test_a_changed_bar_is_the_cause_of_every_label_that_looks_at_it(
    tmp_path: Path, make_market: Callable[..., Any]
) -> None:
    store, lake, market = SnapshotStore(tmp_path / "snapshots"), Lake(tmp_path / "lake"), make_market(bars=BARS)
    lake.append(CANDLES, market.candles, AS_OF_MS)
    lake.append(funding_dataset("recorded"), market.funding, AS_OF_MS)
    manifest = build(store, lake, 20, triple_barrier=BARRIERS)
    fallen = datetime.fromtimestamp((START_MS + 470 * BAR_MS) / 1000, UTC)
    crash = market.candles.filter(symbol="ETH/USDT", ts=fallen).with_columns(pl.col("low") * 0.5)
    lake.append(CANDLES, crash, AS_OF_MS + 1)
    report = audit(store, lake, manifest.snapshot_id)
    labels = report.differing.filter(pl.col("columns").list.contains("label_end"))
    bars = (labels["ts"].dt.epoch("ms") - START_MS) // BAR_MS
    # Those that had not ended when it fell, and those whose average true range it is in.
    assert labels.height > 0
    assert bars.min() < 470  # type: ignore[operator]
    assert bars.is_between(470 - BARRIERS.max_bars, 470 + BARRIERS.atr_bars).all()
    assert report.unexplained == 0


def test_the_id_depends_on_the_labels_and_horizons_have_to_fit(tmp_path: Path, lake: Lake) -> None:
    store = SnapshotStore(tmp_path / "snapshots")
    built = [
        build(store, lake, 20),
        build(store, lake, 20, triple_barrier=BARRIERS),
        build(store, lake, 20, triple_barrier=BARRIERS.model_copy(update={"stop_atr": 2.5})),
    ]
    assert len({manifest.checksum for manifest in built}) == 3
    assert [manifest.label.kind for manifest in built] == ["direction", "triple_barrier", "triple_barrier"]
    with pytest.raises(ConfigurationError, match="horizon of 20 bars"):
        build(store, lake, 12, triple_barrier=BARRIERS)


def test_a_manifest_written_before_there_were_other_labels_has_the_checksum_it_had() -> None:
    manifest = SnapshotManifest.model_validate_json(json.dumps(OLD_MANIFEST))
    assert manifest.label == DirectionLabel(horizon_bars=12)
    rows = pl.DataFrame({"symbol": ["BTC/USDT"] * 2, "a": [0.5, -1.25]})
    assert content_checksum(manifest, rows, rows.head(1)) == (
        "79eb5545238993a0ea2d3bf17889417c02d1ebf17ab7148fd63a6f041b281d94"
    )
