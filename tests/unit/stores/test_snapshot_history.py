"""Snapshots over time: built again from their id, kept or removed, and compared with what is known today."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest

from levibot_core.errors import ConfigurationError, SnapshotError, SnapshotNotFoundError
from levibot_core.features.registry import FeatureSet, load_registry
from levibot_core.market.sources.base import SourceIdentity
from levibot_core.market.timeframe import Timeframe
from levibot_core.stores.lake import Lake
from levibot_core.stores.paths import candles_dataset, fear_greed_dataset, funding_dataset
from levibot_core.stores.snapshot_audit import AuditReport, audit
from levibot_core.stores.snapshot_manifest import SnapshotManifest
from levibot_core.stores.snapshot_rebuild import rebuild
from levibot_core.stores.snapshot_retention import prune_snapshots
from levibot_core.stores.snapshots import SnapshotStore
from levibot_core.stores.training_rows import epoch_ms, read_inputs

V1 = load_registry("v1")
FIVE_MINUTES = Timeframe.parse("5m")
BAR_MS = FIVE_MINUTES.milliseconds
HOUR_MS = 12 * BAR_MS
START_MS = 1_735_689_600_000
BARS, HORIZON = 420, 12
AS_OF_MS = START_MS + BARS * BAR_MS
SOURCE = SourceIdentity("recorded", "recorded", "recorded:binance", "recorded candles")
CANDLES, FUNDING = candles_dataset("recorded", "spot", "5m"), funding_dataset("recorded")
LAST = BARS - HORIZON  # labelled rows are the bars from the warm-up to here


class Stores(NamedTuple):
    """A lake with a market in it, and the snapshots of the same home."""

    lake: Lake
    snapshots: SnapshotStore
    candles: pl.DataFrame
    funding: pl.DataFrame

    def build(
        self, horizon_bars: int = HORIZON, as_of_ms: int = AS_OF_MS, feature_set: FeatureSet = V1
    ) -> SnapshotManifest:
        """The snapshot of everything known then."""
        symbols = ["BTC/USDT", "ETH/USDT"]
        inputs = read_inputs(
            self.lake, source_key="recorded", market="spot", timeframe="5m", symbols=symbols, as_of_ms=as_of_ms
        )
        return self.snapshots.build(
            inputs=inputs,
            feature_set=feature_set,
            timeframe=FIVE_MINUTES,
            horizon_bars=horizon_bars,
            source=SOURCE,
            market="spot",
            as_of_ms=as_of_ms,
            start_ms=START_MS + BAR_MS,
        )

    def correct(self, symbol: str, bar: int, seen_ms: int, factor: float = 1.01) -> None:
        """Let the source say otherwise about a bar's close from `seen_ms` on."""
        row = self.candles.filter(symbol=symbol, ts=moment(bar)).with_columns(pl.col("close", "high") * factor)
        self.lake.append(CANDLES, row, seen_ms)

    def differing(self, snapshot_id: str) -> AuditReport:
        return audit(self.snapshots, self.lake, snapshot_id)


def moment(bar: int) -> datetime:
    """Open time of a bar."""
    return datetime.fromtimestamp((START_MS + bar * BAR_MS) / 1000, UTC)


@pytest.fixture
def stores(tmp_path: Path, make_market: Callable[..., Any]) -> Stores:
    market = make_market(bars=BARS)
    lake = Lake(tmp_path / "lake")
    lake.append(CANDLES, market.candles, AS_OF_MS)
    lake.append(FUNDING, market.funding, AS_OF_MS)
    return Stores(lake, SnapshotStore(tmp_path / "snapshots"), market.candles, market.funding)


def test_a_snapshot_is_rebuilt_from_its_id_after_corrections_and_new_bars(
    stores: Stores, make_market: Callable[..., Any]
) -> None:
    manifest = stores.build()
    stores.correct("BTC/USDT", 350, AS_OF_MS + HOUR_MS)
    rate = stores.funding.filter(symbol="ETH/USDT").tail(1).with_columns(pl.col("rate") * -2.0)
    stores.lake.append(FUNDING, rate, AS_OF_MS + HOUR_MS)
    longer = make_market(bars=BARS + 5).candles.filter(pl.col("ts") >= moment(BARS))
    stores.lake.append(CANDLES, longer, AS_OF_MS + HOUR_MS)

    report = rebuild(stores.snapshots, stores.lake, manifest.snapshot_id)

    assert (report.identical, report.differences) == (True, ())
    assert report.found_checksum == report.expected_checksum == manifest.checksum
    assert report.rows == manifest.rows


def test_a_rebuild_says_what_differs(stores: Stores) -> None:
    manifest = stores.build()
    path = stores.lake.root / CANDLES.file("ETH/USDT", "2025-01")
    candles = pl.read_parquet(path)
    path.unlink()
    other = pl.col("close") * pl.when(pl.col("ts") == moment(400)).then(1.01).otherwise(1.0)
    stores.lake.append(CANDLES, candles.filter(pl.col("ts") != moment(410)).with_columns(other), AS_OF_MS)

    report = rebuild(stores.snapshots, stores.lake, manifest.snapshot_id)

    assert not report.identical
    assert report.found_checksum != report.expected_checksum
    text = "\n".join(report.differences)
    assert "rows: 1 only in the snapshot, first ETH/USDT 2025-01-02T09:10:00.000+00:00" in text  # its label is gone
    assert "candles: 1 only in the snapshot, first ETH/USDT 2025-01-02T10:10:00.000+00:00" in text
    assert "candles: 1 differ, first ETH/USDT 2025-01-02T09:20:00.000+00:00, in close (1)" in text


def test_a_damaged_snapshot_can_still_be_rebuilt(stores: Stores) -> None:
    manifest = stores.build()
    (stores.snapshots.root / manifest.snapshot_id / "rows.parquet").write_bytes(b"no longer")
    assert rebuild(stores.snapshots, stores.lake, manifest.snapshot_id).identical

    stores.lake.append(CANDLES, stores.candles.filter(symbol="BTC/USDT").tail(1), AS_OF_MS)  # nothing new
    path = stores.lake.root / CANDLES.file("ETH/USDT", "2025-01")
    stores.lake.upsert(CANDLES, pl.read_parquet(path).with_columns(pl.col("volume") * 2.0))
    report = rebuild(stores.snapshots, stores.lake, manifest.snapshot_id)
    assert not report.identical
    assert any("rows.parquet" in difference for difference in report.differences)


def test_a_manifest_of_an_earlier_version_says_why_it_cannot_be_rebuilt(stores: Stores) -> None:
    manifest = stores.build()
    path = stores.snapshots.root / manifest.snapshot_id / "snapshot.json"
    document = json.loads(path.read_text())
    del document["window_start"], document["inputs"]
    path.write_text(json.dumps(document))

    assert stores.snapshots.load(manifest.snapshot_id).rows.height == manifest.rows
    with pytest.raises(SnapshotError, match="earlier version of the platform"):
        rebuild(stores.snapshots, stores.lake, manifest.snapshot_id)


def test_other_feature_definitions_are_named_and_never_mistaken_for_data(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = stores.build()
    reworded = replace(V1, features=(replace(V1.features[0], formula="reworded"), *V1.features[1:]))
    for module in ("snapshot_rebuild", "snapshot_audit"):
        monkeypatch.setattr(f"levibot_core.stores.{module}.load_registry", lambda _: reworded)

    report = rebuild(stores.snapshots, stores.lake, manifest.snapshot_id)

    assert not report.identical
    assert len(report.differences) == 1
    assert report.differences[0].startswith("feature definitions: v1 has hash")
    with pytest.raises(SnapshotError, match="Audit it with the version of the platform that built it"):
        audit(stores.snapshots, stores.lake, manifest.snapshot_id)


def test_without_news_nothing_would_differ_today(stores: Stores) -> None:
    report = stores.differing(stores.build().snapshot_id)

    assert report.differing.is_empty()
    assert report.causes == ()
    assert report.unexplained == 0
    assert report.to_dict()["differing"] == 0


def test_a_correction_is_the_cause_in_the_windows_it_lies_in(stores: Stores) -> None:
    manifest = stores.build()
    stores.correct("ETH/USDT", 400, AS_OF_MS + HOUR_MS)

    report = stores.differing(manifest.snapshot_id)

    assert report.unexplained == 0
    (cause,) = report.causes
    assert (cause.change.table, cause.change.symbol, cause.change.kind) == ("candles", "ETH/USDT", "corrected")
    assert cause.change.ts_ms == epoch_ms(moment(400))
    assert cause.change.known_at_ms == AS_OF_MS + HOUR_MS
    old = stores.candles.filter(symbol="ETH/USDT", ts=moment(400))
    assert cause.change.old == old.select("close", "high").row(0, named=True)
    assert cause.change.new == {name: value * 1.01 for name, value in cause.change.old.items()}
    assert cause.rows == {"ETH/USDT": LAST - 400 + 1}  # its own window's rows, and the label that ends at it
    changed = report.differing
    assert set(changed["change"]) == {"changed"}
    assert changed["ts"].to_list() == [moment(bar) for bar in (400 - HORIZON, *range(400, LAST))]
    assert set(changed["columns"][0]) <= {"label", "forward_return"}
    assert "log_return_1" in changed["columns"][1]
    assert set(changed["causes"].to_list()[0]) == {0}


def test_a_row_holds_the_revision_known_when_it_was_decided(stores: Stores) -> None:
    untouched = stores.snapshots.load(stores.build().snapshot_id).rows
    seen_ms = START_MS + 404 * BAR_MS  # when bar 403 closes
    stores.correct("ETH/USDT", 400, seen_ms)
    manifest = stores.build()
    rows = stores.snapshots.load(manifest.snapshot_id).rows

    report = stores.differing(manifest.snapshot_id)

    of_eth, before = (frame.filter(symbol="ETH/USDT") for frame in (rows, untouched))
    decided_before = pl.col("ts") < moment(403)
    assert of_eth.filter(decided_before).select(V1.names).equals(before.filter(decided_before).select(V1.names))
    known = of_eth.filter(ts=moment(403)).select(V1.names)
    assert not known.equals(before.filter(ts=moment(403)).select(V1.names))
    # Labels are judged by what was known at the as-of time, so no label would differ.
    assert report.differing["ts"].to_list() == [moment(bar) for bar in (400, 401, 402)]
    (cause,) = report.causes
    assert (cause.rows, report.unexplained) == ({"ETH/USDT": 3}, 0)
    assert rebuild(stores.snapshots, stores.lake, manifest.snapshot_id).identical


def test_a_correction_of_the_leader_reaches_every_symbol(stores: Stores) -> None:
    manifest = stores.build()
    stores.correct("BTC/USDT", LAST - 2, AS_OF_MS + HOUR_MS)

    report = stores.differing(manifest.snapshot_id)

    (cause,) = report.causes
    assert cause.rows == {"BTC/USDT": 3, "ETH/USDT": 2}
    of_eth = report.differing.filter(symbol="ETH/USDT").explode("columns")["columns"].unique()
    assert all(V1_INPUTS[name] & {"leader_close", "leader_log_close"} for name in of_eth)


V1_INPUTS = {spec.name: set(spec.inputs) for spec in V1.features}


def test_a_late_bar_would_have_added_rows(stores: Stores, tmp_path: Path) -> None:
    late = stores.candles.filter(symbol="ETH/USDT", ts=moment(400))
    lake = Lake(tmp_path / "other")
    lake.append(CANDLES, stores.candles.join(late, on=["symbol", "ts"], how="anti"), AS_OF_MS)
    lake.append(FUNDING, stores.funding, AS_OF_MS)
    there = stores._replace(lake=lake)
    manifest = there.build()
    known_at = pl.lit(moment(BARS + 20)).cast(late.schema["known_at"])
    lake.append(CANDLES, late.with_columns(known_at=known_at), AS_OF_MS + HOUR_MS)

    report = there.differing(manifest.snapshot_id)

    (cause,) = report.causes
    assert (cause.change.kind, cause.change.old) == ("late", None)
    assert cause.change.known_at_ms == epoch_ms(moment(BARS + 20))
    assert report.unexplained == 0
    assert set(report.differing["change"]) == {"added"}
    assert report.differing["ts"].to_list() == [moment(bar) for bar in (400 - HORIZON, *range(400, LAST))]


def test_a_gap_filled_behind_the_snapshots_back_is_found(stores: Stores, tmp_path: Path) -> None:
    gap = stores.candles.filter(symbol="ETH/USDT", ts=moment(400))
    lake = Lake(tmp_path / "other")
    lake.append(CANDLES, stores.candles.join(gap, on=["symbol", "ts"], how="anti"), AS_OF_MS)
    lake.append(FUNDING, stores.funding, AS_OF_MS)
    there = stores._replace(lake=lake)
    manifest = there.build()
    lake.append(CANDLES, gap, AS_OF_MS + HOUR_MS)  # known, so it says, from its close on

    report = there.differing(manifest.snapshot_id)

    assert not rebuild(there.snapshots, lake, manifest.snapshot_id).identical
    (cause,) = report.causes
    assert (cause.change.kind, cause.change.known_at_ms) == ("late", None)
    assert report.unexplained == 0


def test_a_corrected_settlement_is_the_cause_of_funding_features_only(stores: Stores) -> None:
    manifest = stores.build()
    settled = stores.funding.filter(pl.col("symbol") == "BTC/USDT", pl.col("ts") <= moment(390)).tail(1)
    stores.lake.append(FUNDING, settled.with_columns(pl.col("rate") + 1.0), AS_OF_MS + HOUR_MS)

    report = stores.differing(manifest.snapshot_id)

    (cause,) = report.causes
    assert cause.change.table == "funding_rates"
    assert cause.change.new == {"rate": cause.change.old["rate"] + 1.0} if cause.change.old else False
    assert report.unexplained == 0
    touched = report.differing.explode("columns")["columns"].unique().to_list()
    assert touched
    assert all(name.startswith("funding_") for name in touched)
    # Known at the settlement, so the bar that closes there sees it first.
    assert epoch_ms(report.differing["ts"].min()) == cause.change.ts_ms - BAR_MS  # type: ignore[arg-type]


def test_a_corrected_daily_value_is_the_cause_in_every_symbol(
    tmp_path: Path, make_market: Callable[..., Any], fear_greed: pl.DataFrame
) -> None:
    v2 = load_registry("v2")
    bars = v2.warm_up + HORIZON + 40
    market, daily = make_market(bars=bars), fear_greed_dataset("recorded")
    as_of_ms = START_MS + bars * BAR_MS
    stores = Stores(Lake(tmp_path / "lake"), SnapshotStore(tmp_path / "snapshots"), market.candles, market.funding)
    for dataset, frame in ((CANDLES, market.candles), (FUNDING, market.funding), (daily, fear_greed)):
        stores.lake.append(dataset, frame, as_of_ms)
    manifest = stores.build(as_of_ms=as_of_ms, feature_set=v2)
    day = fear_greed.filter(pl.col("known_at") <= moment(bars)).tail(1)
    stores.lake.append(daily, day.with_columns(pl.col("value") + 5), as_of_ms + HOUR_MS)

    report = stores.differing(manifest.snapshot_id)

    assert rebuild(stores.snapshots, stores.lake, manifest.snapshot_id).identical
    (cause,) = report.causes
    value = day["value"].item()
    assert (cause.change.table, cause.change.symbol) == ("fear_greed", None)
    assert (cause.change.old, cause.change.new) == ({"value": value}, {"value": value + 5})
    assert cause.rows == {"BTC/USDT": manifest.rows // 2, "ETH/USDT": manifest.rows // 2}
    assert report.unexplained == 0
    touched = report.differing.explode("columns")["columns"].unique()
    assert all(name.startswith("fear_greed") for name in touched)


def test_the_report_is_json(stores: Stores) -> None:
    manifest = stores.build()
    stores.correct("ETH/USDT", 400, AS_OF_MS + HOUR_MS)

    report = json.loads(json.dumps(stores.differing(manifest.snapshot_id).to_dict()))

    assert report["snapshot_id"] == manifest.snapshot_id
    assert report["differing"] == report["changed"] == len(report["differing_rows"])
    assert report["causes"][0]["ts"] == "2025-01-02T09:20:00.000+00:00"
    assert report["causes"][0]["rows"] == {"ETH/USDT": report["differing"]}
    assert len(report["differing_rows"][-1]["first_columns"]) == 8


def test_a_prune_keeps_the_newest_the_latest_and_what_models_name(stores: Stores) -> None:
    built = [stores.build(horizon_bars=horizon).snapshot_id for horizon in (12, 3, 4, 5, 6)]
    for number, snapshot_id in enumerate(built):
        path = stores.snapshots.root / snapshot_id / "snapshot.json"
        document = json.loads(path.read_text()) | {"created_at": f"2030-01-0{number + 1}T00:00:00Z"}
        path.write_text(json.dumps(document))
    stores.build(horizon_bars=3)  # there already, and the latest from now on

    report = prune_snapshots(stores.snapshots, 2, {built[0], "of another home"})

    assert report.removed == (built[2],)
    assert report.kept == (built[0], built[1], built[3], built[4])
    assert report.bytes_freed > 10_000
    assert [found.snapshot_id for found in stores.snapshots.list()] == list(report.kept)
    with pytest.raises(SnapshotNotFoundError):
        stores.snapshots.load(built[2])
    assert prune_snapshots(stores.snapshots, 2, {built[0]}).removed == ()


def test_a_prune_that_cannot_know_what_is_needed_removes_nothing(stores: Stores) -> None:
    built = [stores.build(horizon_bars=horizon).snapshot_id for horizon in (12, 3)]
    (stores.snapshots.root / "features_latest.json").write_text("?")

    with pytest.raises(SnapshotError, match="Delete it"):
        prune_snapshots(stores.snapshots, 1, ())
    with pytest.raises(ConfigurationError, match="1 snapshot or more, was 0"):
        prune_snapshots(stores.snapshots, 0, ())
    assert {found.snapshot_id for found in stores.snapshots.list()} == set(built)
