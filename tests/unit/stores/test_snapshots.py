"""Snapshots: whole or absent, addressed by content, with every missing row accounted for."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from levibot_core.errors import HomeNotWritableError, SnapshotError, SnapshotNotFoundError
from levibot_core.features.registry import load_registry
from levibot_core.labels.direction import direction_labels
from levibot_core.market.sources.base import SourceIdentity
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import TIMESTAMP, TRAINING_ROWS
from levibot_core.stores.snapshot_manifest import SnapshotManifest
from levibot_core.stores.snapshots import SnapshotStore
from levibot_core.stores.training_rows import TrainingInputs

V1 = load_registry("v1")
FIVE_MINUTES = Timeframe.parse("5m")
BAR_MS = FIVE_MINUTES.milliseconds
BARS = 420
HORIZON = 12
SOURCE = SourceIdentity("recorded", "recorded", "recorded:binance", "recorded candles")


@pytest.fixture(scope="module")
def market(make_market: Callable[..., Any]) -> Any:
    return make_market(bars=BARS)


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "snapshots")


def epoch_ms(moment: Any) -> int:
    return int(moment.timestamp() * 1000)


def build(store: SnapshotStore, data: Any, **changes: Any) -> SnapshotManifest:
    inputs = TrainingInputs(changes.pop("candles", data.candles), changes.pop("funding", data.funding))
    arguments = {
        "inputs": inputs,
        "feature_set": V1,
        "timeframe": FIVE_MINUTES,
        "horizon_bars": HORIZON,
        "source": SOURCE,
        "market": "spot",
        "as_of_ms": epoch_ms(data.candles["known_at"].max()),
        "start_ms": epoch_ms(data.candles["ts"].min()),
    }
    return store.build(**(arguments | changes))


def test_rows_are_whole_labelled_and_counted(store: SnapshotStore, market: Any) -> None:
    manifest = build(store, market)
    assert manifest.dropped == {"warm_up: log_return": 2 * (V1.warm_up - 1), "no_label": 2 * HORIZON}
    assert manifest.rows + sum(manifest.dropped.values()) == 2 * BARS
    snapshot = store.load(manifest.snapshot_id)
    rows = snapshot.rows
    assert rows.columns == [*TRAINING_ROWS.polars_schema, *V1.names]
    assert rows.equals(rows.sort("symbol", "ts"))
    assert rows.height == manifest.rows
    assert not rows.select(pl.any_horizontal(pl.col(V1.names).is_nan().any())).item()
    assert sum(rows.null_count().row(0)) == 0
    labels = direction_labels(market.candles, FIVE_MINUTES, HORIZON)
    assert rows.select(labels.columns).equals(labels.join(rows, on=["symbol", "ts"], how="semi"))
    assert snapshot.candles.equals(market.candles.select(snapshot.candles.columns))
    assert (manifest.first_ts, manifest.last_ts) == (rows["ts"].min(), rows["ts"].max())
    assert manifest.snapshot_id.endswith(manifest.checksum[:12])
    assert manifest.source == SOURCE


def test_the_same_content_gives_the_snapshot_there_is(store: SnapshotStore, market: Any) -> None:
    first = build(store, market)
    files = {path: path.stat().st_mtime_ns for path in store.root.rglob("*")}
    again = build(
        store,
        market,
        candles=market.candles.sample(fraction=1.0, shuffle=True, seed=1).drop("revision", "venue"),
        funding=market.funding.sample(fraction=1.0, shuffle=True, seed=2),
    )
    assert again == first
    assert {path: path.stat().st_mtime_ns for path in store.root.rglob("*")} == files


def test_every_ingredient_is_in_the_checksum(store: SnapshotStore, market: Any) -> None:
    base = build(store, market)
    fewer = replace(V1, features=V1.features[:-1])
    reworded = replace(V1, features=(replace(V1.features[0], formula="reworded"), *V1.features[1:]))
    price = pl.when(pl.int_range(pl.len()) == 400).then(pl.col("close") * 1.001).otherwise("close")
    others = [
        build(store, market, feature_set=fewer),
        build(store, market, feature_set=reworded),
        build(store, market, horizon_bars=11),
        build(store, market, as_of_ms=epoch_ms(base.as_of) - BAR_MS),
        build(store, market, as_of_ms=epoch_ms(base.as_of) + BAR_MS),
        build(store, market, start_ms=epoch_ms(base.first_ts)),
        build(store, market, market="perp"),
        build(store, market, source=replace(SOURCE, kind="simulated")),
        build(store, market, candles=market.candles.with_columns(close=price)),
    ]
    assert len({manifest.checksum for manifest in (base, *others)}) == len(others) + 1
    assert [found.checksum for found in store.list()].count(base.checksum) == 1


def test_nothing_known_after_the_as_of_time_is_in_it(store: SnapshotStore, market: Any) -> None:
    as_of_ms = epoch_ms(market.candles["ts"].unique().sort()[-30])
    manifest = build(store, market, as_of_ms=as_of_ms)
    known = market.candles.filter(pl.col("known_at").dt.epoch("ms") <= as_of_ms)
    cut = build(store, market, as_of_ms=as_of_ms, candles=known)
    assert cut == manifest
    snapshot = store.load(manifest.snapshot_id)
    latest = snapshot.rows["label_end"].max(), snapshot.candles["known_at"].max()
    assert [epoch_ms(moment) for moment in latest] == [as_of_ms, as_of_ms]


def test_bars_before_the_window_serve_as_warm_up(store: SnapshotStore, market: Any) -> None:
    start = market.candles["ts"].unique().sort()[V1.warm_up - 1]
    manifest = build(store, market, start_ms=epoch_ms(start))
    assert manifest.first_ts == start
    assert set(manifest.dropped) == {"no_label"}
    assert store.load(manifest.snapshot_id).candles["ts"].min() == start


def test_a_gap_is_counted_as_one(store: SnapshotStore, market: Any) -> None:
    opens = market.candles["ts"].unique().sort()
    holed = market.candles.filter((pl.col("symbol") != "ETH/USDT") | (pl.col("ts") != opens[400]))
    manifest = build(store, market, candles=holed)
    # The bars after the gap lack a whole window; the bar one horizon before it, counted first, lacks a label.
    assert manifest.dropped["gap: log_return"] == BARS - 401
    assert manifest.dropped["no_label"] == 1 + HORIZON
    assert manifest.rows + sum(manifest.dropped.values()) == 2 * BARS - 1


def test_without_any_whole_row_the_columns_responsible_are_named(store: SnapshotStore, market: Any) -> None:
    with pytest.raises(SnapshotError, match=r"no value at all in funding_rate_last \(0 of 840\), funding_rate_sum_3"):
        build(store, market, funding=market.funding.clear())
    with pytest.raises(SnapshotError, match=r"leader_return_1 \(0 of 420\).*needs candles of the leading market"):
        build(store, market, candles=market.candles.filter(pl.col("symbol") == "ETH/USDT"))
    with pytest.raises(SnapshotError, match=r"was none: 40 bars .* needs 289 bars of history"):
        build(store, market, candles=market.candles.group_by("symbol", maintain_order=True).head(20))
    with pytest.raises(SnapshotError, match="was none: 0 bars"):
        build(store, market, candles=market.candles.clear())
    assert store.list() == ()


def test_an_altered_file_is_found_out(store: SnapshotStore, market: Any) -> None:
    snapshot_id = build(store, market).snapshot_id
    folder = store.root / snapshot_id
    assert store.verify(snapshot_id).snapshot_id == snapshot_id
    rows = pl.read_parquet(folder / "rows.parquet")
    flipped = rows.with_columns(label=pl.when(pl.int_range(pl.len()) == 7).then(1 - pl.col("label")).otherwise("label"))
    flipped.write_parquet(folder / "rows.parquet")
    with pytest.raises(SnapshotError, match=r"altered after they were written. Move .* away, then build"):
        store.verify(snapshot_id)
    with pytest.raises(SnapshotError, match="altered"):
        build(store, market)
    rows.write_parquet(folder / "rows.parquet", compression="snappy")
    assert store.verify(snapshot_id).snapshot_id == snapshot_id  # the content counts, not the layout of the file
    (folder / "candles.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(SnapshotError, match=r"candles\.parquet.*unreadable"):
        store.load(snapshot_id)
    (folder / "candles.parquet").unlink()
    with pytest.raises(SnapshotError, match=r"candles\.parquet.*unreadable"):
        store.load(snapshot_id)


@pytest.mark.parametrize("change", [{"features_sha256": "0" * 64}, {"horizon_bars": 3}, {"timeframe": "1h"}])
def test_a_manifest_that_was_edited_is_found_out(store: SnapshotStore, market: Any, change: dict[str, Any]) -> None:
    path = store.root / build(store, market).snapshot_id / "snapshot.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SnapshotError, match="altered"):
        store.verify(path.parent.name)
    path.write_text("{}")
    with pytest.raises(SnapshotError, match=r"snapshot\.json to describe a snapshot, was unreadable"):
        store.list()


def test_unfinished_folders_are_never_seen(store: SnapshotStore, market: Any) -> None:
    manifest = build(store, market)
    (store.root / manifest.snapshot_id).rename(store.root / f".{manifest.snapshot_id}.abcd.tmp")
    (store.root / "20250101T000000Z-0123456789ab").mkdir()  # no snapshot.json
    assert store.list() == ()
    with pytest.raises(SnapshotNotFoundError, match=manifest.snapshot_id):
        store.load(manifest.snapshot_id)
    assert build(store, market).checksum == manifest.checksum


@pytest.mark.parametrize("name", ["nothing", "", "..", "../snapshots", "a/b"])
def test_an_unknown_id_is_refused(store: SnapshotStore, name: str) -> None:
    with pytest.raises(SnapshotNotFoundError):
        store.load(name)


def test_a_build_that_fails_leaves_nothing(store: SnapshotStore, market: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("levibot_core.stores.snapshots.write_json_atomically", refuse)
    with pytest.raises(HomeNotWritableError, match="no space is left"):
        build(store, market)
    assert list(store.root.iterdir()) == []


def test_the_list_is_in_order_of_time(store: SnapshotStore, market: Any) -> None:
    one, two = build(store, market), build(store, market, horizon_bars=6)
    path = store.root / one.snapshot_id / "snapshot.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"created_at": "2030-01-01T00:00:00Z"}))
    assert [found.horizon_bars for found in store.list()] == [6, 12]
    assert two.created_at.microsecond == 0


def test_the_latest_is_the_one_built_last_whatever_its_name(store: SnapshotStore, market: Any) -> None:
    assert store.latest() is None
    one, two = build(store, market), build(store, market, horizon_bars=6)
    assert store.latest() == two
    pointer = store.root / "features_latest.json"
    assert json.loads(pointer.read_text())["snapshot_id"] == two.snapshot_id
    assert build(store, market) == one  # there already
    assert store.latest() == one
    with pytest.raises(SnapshotError, match="no row"):
        build(store, market, start_ms=epoch_ms(one.as_of) - BAR_MS)
    assert store.latest() == one


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"snapshot_id":'])
def test_a_pointer_that_cannot_be_read_says_what_to_do(store: SnapshotStore, market: Any, content: str) -> None:
    manifest = build(store, market)
    (store.root / "features_latest.json").write_text(content)
    with pytest.raises(SnapshotError, match=r"features_latest\.json .* Delete it, then build"):
        store.latest()
    assert build(store, market) == manifest
    assert store.latest() == manifest


def test_a_pointer_to_a_snapshot_that_is_gone_is_not_taken_for_no_snapshot(store: SnapshotStore, market: Any) -> None:
    manifest = build(store, market)
    assert store.remove(manifest.snapshot_id) > 10_000
    assert [path.name for path in store.root.iterdir()] == ["features_latest.json"]
    with pytest.raises(SnapshotNotFoundError, match=manifest.snapshot_id):
        store.latest()


def test_a_build_that_cannot_be_finished_leaves_the_pointer(
    store: SnapshotStore, market: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = build(store, market)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("levibot_core.stores.snapshots.write_atomically", refuse)
    with pytest.raises(HomeNotWritableError):
        build(store, market, horizon_bars=6)
    assert store.latest() == manifest


def test_a_correction_seen_later_leaves_an_older_snapshot_as_it_was(store: SnapshotStore, market: Any) -> None:
    as_of_ms = epoch_ms(market.candles["known_at"].max())
    before = build(store, market)
    correction = (
        market.candles.filter(pl.col("symbol") == "ETH/USDT")
        .slice(300, 1)
        .with_columns(close=pl.col("close") * 1.01, known_at=pl.lit(as_of_ms + BAR_MS, dtype=pl.Int64).cast(TIMESTAMP))
    )
    replaced = pl.concat([market.candles.join(correction, on=["symbol", "ts"], how="anti"), correction])
    assert build(store, market, as_of_ms=as_of_ms).checksum == before.checksum
    newer = build(store, market, candles=replaced, as_of_ms=as_of_ms + BAR_MS)
    assert newer.checksum != before.checksum
    assert newer.dropped["gap: log_return"] > 0  # those windows hold a value that nobody knew then
