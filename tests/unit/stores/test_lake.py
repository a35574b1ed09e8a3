"""The lake against a dictionary that does the same, and against files that are damaged or half-written."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levibot_core.errors import (
    HomeNotWritableError,
    LakeCorruptionError,
    MarketDataUnavailableError,
    SchemaError,
)
from levibot_core.market.sources.base import SourceIdentity
from levibot_core.schemas import CANDLES, FEATURES, TIMESTAMP, Column
from levibot_core.stores.lake import Lake, WriteReport
from levibot_core.stores.paths import candles_dataset, fear_greed_dataset, features_dataset

BAR = 300_000
JUNE_30 = 1_751_241_600_000  # 2025-06-30T00:00Z; bars of BAR cross into July after 288
DATASET = candles_dataset("recorded", "spot", "5m")
FEATURES_V1 = features_dataset(
    "recorded", "spot", "5m", "v1", FEATURES.with_columns([Column("x", pl.Float64(), "a feature")])
)

Key = tuple[str, int]


def candles(rows: dict[Key, float], symbol_order: tuple[str, ...] = ()) -> pl.DataFrame:
    """Flat candles from {(symbol, ts_ms): close}."""
    keys = sorted(rows, key=lambda key: (symbol_order.index(key[0]) if symbol_order else 0, key[1]))
    close = [rows[key] for key in keys]
    opens = pl.Series("ts", [ts for _, ts in keys], dtype=pl.Int64)
    return pl.DataFrame(
        {
            "symbol": pl.Series([symbol for symbol, _ in keys], dtype=pl.String),
            "ts": opens.cast(TIMESTAMP),
            **{name: pl.Series(close, dtype=pl.Float64) for name in ("open", "high", "low", "close")},
            "volume": pl.Series([1.0] * len(keys), dtype=pl.Float64),
            "known_at": (opens + BAR).cast(TIMESTAMP),
            "revision": pl.Series([0] * len(keys), dtype=pl.Int32),
            "venue": pl.Series(["recorded:binance"] * len(keys), dtype=pl.String),
        }
    )


def features(rows: dict[Key, float]) -> pl.DataFrame:
    frame = candles(rows)
    return frame.select("symbol", "ts", "known_at", x=pl.col("close"))


def as_dict(frame: pl.DataFrame) -> dict[Key, float]:
    return {
        (symbol, ts): close for symbol, ts, close in frame.select("symbol", pl.col("ts").dt.epoch("ms"), "close").rows()
    }


def state_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


_symbols = st.sampled_from(["BTC/USDT", "ETH/USDT"])
_stamps = st.integers(280, 295).map(lambda bar: JUNE_30 + bar * BAR)
_batches = st.lists(
    st.dictionaries(st.tuples(_symbols, _stamps), st.sampled_from([1.0, 2.0, 3.0]), max_size=8), max_size=5
)


@settings(max_examples=25, deadline=None)
@given(batches=_batches, asked=st.integers(0, 6), start=_stamps, end=_stamps)
def test_the_lake_reads_like_a_dictionary_that_remembers_when_it_learned(
    tmp_path_factory: pytest.TempPathFactory, batches: list[dict[Key, float]], asked: int, start: int, end: int
) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    first_observation = JUNE_30 + 400 * BAR  # after every bar closed
    model: list[dict[Key, float]] = []
    learned: dict[Key, float] = {}
    for number, batch in enumerate(batches):
        report = lake.append(DATASET, candles(batch), first_observation + number * BAR)
        new = [key for key in batch if key not in learned]
        revised = [key for key in batch if key in learned and learned[key] != batch[key]]
        assert (report.rows_new, report.rows_revised) == (len(new), len(revised))
        assert report.rows_unchanged == len(batch) - len(new) - len(revised)
        # A new key is known from its close on, whenever it arrives; a correction, from its observation on.
        model = [{**then, **{key: batch[key] for key in new}} for then in model]
        learned = {**learned, **batch}
        model.append(learned)
    newest = lake.read(DATASET)
    assert as_dict(newest) == learned
    assert newest.equals(newest.sort("symbol", "ts"))
    if batches:
        moment = min(asked, len(batches) - 1)
        assert as_dict(lake.read(DATASET, as_of_ms=first_observation + moment * BAR)) == model[moment]
    part = lake.read(DATASET, symbols=["ETH/USDT"], start_ms=start, end_ms=end)
    assert as_dict(part) == {
        key: close for key, close in learned.items() if key[0] == "ETH/USDT" and start <= key[1] < end
    }


def test_appending_the_same_rows_again_touches_no_file(lake: Lake) -> None:
    rows = candles({("BTC/USDT", JUNE_30 + bar * BAR): 1.0 for bar in range(286, 290)})
    first = lake.append(DATASET, rows, JUNE_30)
    before = state_of(lake.root)
    second = lake.append(DATASET, rows.sample(fraction=1.0, shuffle=True, seed=1), JUNE_30 + BAR)
    assert state_of(lake.root) == before
    assert (first.rows_new, first.rows_total) == (4, 4)
    assert second == WriteReport(rows_unchanged=4, rows_total=4)
    assert first.files == (
        "candles/source=recorded/market=spot/timeframe=5m/pair=BTC-USDT/month=2025-06/part.parquet",
        "candles/source=recorded/market=spot/timeframe=5m/pair=BTC-USDT/month=2025-07/part.parquet",
    )


def test_only_the_partition_that_changed_is_written(lake: Lake) -> None:
    rows = {("BTC/USDT", JUNE_30 + bar * BAR): 1.0 for bar in range(286, 290)}
    lake.append(DATASET, candles(rows), JUNE_30)
    before = state_of(lake.root)
    report = lake.append(DATASET, candles({**rows, ("BTC/USDT", JUNE_30 + 289 * BAR): 2.0}), JUNE_30 + 400 * BAR)
    after = state_of(lake.root)
    assert [file for file in after if after[file] != before.get(file)] == list(report.files)
    assert (report.rows_revised, report.rows_unchanged, report.rows_total) == (1, 3, 5)
    assert lake.read_all_revisions(DATASET)["revision"].to_list() == [0, 0, 0, 0, 1]


def test_reading_where_nothing_was_written_gives_an_empty_table(lake: Lake) -> None:
    assert lake.read(DATASET).equals(CANDLES.empty())
    assert lake.read_all_revisions(DATASET).equals(CANDLES.empty())
    assert not lake.root.exists()


def test_a_frame_that_does_not_fit_the_catalogue_is_refused_before_anything_is_written(lake: Lake) -> None:
    rows = candles({("BTC/USDT", JUNE_30): 1.0})
    with pytest.raises(SchemaError, match="venue is missing"):
        lake.append(DATASET, rows.drop("venue"), JUNE_30)
    with pytest.raises(SchemaError, match="repeat the key"):
        lake.append(DATASET, pl.concat([rows, rows]), JUNE_30)
    assert not lake.root.exists()


def test_a_row_takes_the_place_of_one_with_its_key_and_others_stay_untouched(lake: Lake) -> None:
    june, july = ("BTC/USDT", JUNE_30), ("BTC/USDT", JUNE_30 + 288 * BAR)
    later = ("BTC/USDT", JUNE_30 + 289 * BAR)
    lake.upsert(FEATURES_V1, features({june: 1.0, july: float("nan")}))
    before = state_of(lake.root)
    assert lake.upsert(FEATURES_V1, features({june: 1.0, july: float("nan")})).rows_unchanged == 2
    assert state_of(lake.root) == before
    report = lake.upsert(FEATURES_V1, features({july: 5.0}))
    assert (report.rows_new, report.rows_total, len(report.files)) == (1, 1, 1)
    assert lake.upsert(FEATURES_V1, features({later: 6.0})).rows_total == 2
    assert lake.read(FEATURES_V1)["x"].to_list() == [1.0, 5.0, 6.0]


def test_a_table_without_revisions_is_read_as_of_by_its_own_knowledge_time(lake: Lake) -> None:
    lake.upsert(FEATURES_V1, features({("BTC/USDT", JUNE_30 + bar * BAR): float(bar) for bar in range(3)}))
    assert lake.read(FEATURES_V1, as_of_ms=JUNE_30 + 2 * BAR)["x"].to_list() == [0.0, 1.0]


def test_the_fear_and_greed_index_lies_in_one_file(lake: Lake) -> None:
    dataset = fear_greed_dataset("recorded")
    day = pl.Series([JUNE_30], dtype=pl.Int64)
    rows = pl.DataFrame(
        {
            "ts": day.cast(TIMESTAMP),
            "value": pl.Series([70], dtype=pl.Int32),
            "classification": ["Greed"],
            "known_at": (day + 86_400_000).cast(TIMESTAMP),
            "revision": pl.Series([0], dtype=pl.Int32),
            "venue": ["recorded"],
        }
    )
    assert lake.append(dataset, rows, JUNE_30).files == ("fear_greed/source=recorded/part.parquet",)
    assert lake.read(dataset, start_ms=JUNE_30, end_ms=JUNE_30 + 1).equals(rows)
    assert lake.read(dataset, as_of_ms=JUNE_30).is_empty()


def test_what_a_killed_process_left_behind_is_never_read_nor_in_the_way(lake: Lake) -> None:
    rows = candles({("BTC/USDT", JUNE_30): 1.0})
    (file,) = lake.append(DATASET, rows, JUNE_30).files
    path = lake.root / file
    (path.parent / f".{path.name}.deadbeef.tmp").write_bytes(path.read_bytes()[:100])
    (path.parent / "notes.txt").write_text("not a partition")
    (path.parent.with_name(".month=2025-07") / "x").mkdir(parents=True)
    assert lake.read(DATASET).drop("revision").equals(rows.drop("revision"))
    assert lake.append(DATASET, rows, JUNE_30).rows_unchanged == 1


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "bit", "tail", "text"])
def test_a_damaged_file_is_named_with_the_remedy_and_moving_it_away_is_enough(lake: Lake, damage: str) -> None:
    rows = candles({("BTC/USDT", JUNE_30 + bar * BAR): 1.0 + bar for bar in range(200)})
    (file,) = lake.append(DATASET, rows, JUNE_30).files
    path = lake.root / file
    sound = path.read_bytes()
    middle = len(sound) // 2
    path.write_bytes(
        {
            "empty": b"",
            "cut": sound[:middle],
            "noise": sound[:4] + bytes(200) + sound[204:-200] + bytes(192) + sound[-8:],
            "bit": sound[:middle] + bytes([sound[middle] ^ 1]) + sound[middle + 1 :],
            "tail": sound[:-8] + b"\xff" * 8,
            "text": b"<html>504 Gateway Timeout</html>",
        }[damage]
    )
    for use in (lambda: lake.read(DATASET), lambda: lake.append(DATASET, rows, JUNE_30)):
        with pytest.raises(LakeCorruptionError) as caught:
            use()
        assert str(path) in str(caught.value)
        assert "Move the file away and run again" in str(caught.value)
    path.rename(path.with_suffix(".damaged"))
    assert lake.append(DATASET, rows, JUNE_30).rows_new == 200
    assert lake.read(DATASET).height == 200


def test_a_file_of_another_schema_is_named(lake: Lake) -> None:
    lake.upsert(FEATURES_V1, features({("BTC/USDT", JUNE_30): 1.0}))
    grown = replace(FEATURES_V1, table=FEATURES_V1.table.with_columns([Column("y", pl.Float64(), "new")]))
    with pytest.raises(LakeCorruptionError, match=r"month=2025-06.*other columns"):
        lake.read(grown)


def test_a_damaged_partition_is_named_and_not_written_over(lake: Lake) -> None:
    rows = features({("BTC/USDT", JUNE_30): 1.0})
    (file,) = lake.upsert(FEATURES_V1, rows).files
    (lake.root / file).write_bytes(b"damaged")
    with pytest.raises(LakeCorruptionError, match="Move the file away and run again"):
        lake.upsert(FEATURES_V1, rows)
    assert (lake.root / file).read_bytes() == b"damaged"


def test_a_lake_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocker = tmp_path / "lake"
    blocker.write_text("a file where the lake should be")
    with pytest.raises(HomeNotWritableError, match="lake"):
        Lake(blocker).append(DATASET, candles({("BTC/USDT", JUNE_30): 1.0}), JUNE_30)


def test_the_newest_known_time_is_the_first_knowledge_of_the_newest_row(lake: Lake) -> None:
    rows = {("BTC/USDT", JUNE_30 + bar * BAR): 1.0 for bar in (0, 287, 288)}
    lake.append(DATASET, candles(rows), JUNE_30)
    lake.append(DATASET, candles({("BTC/USDT", JUNE_30 + 288 * BAR): 9.0}), JUNE_30 + 999 * BAR)
    assert lake.latest_known_at_ms(DATASET, "BTC/USDT") == JUNE_30 + 289 * BAR
    assert lake.latest_known_at_ms(DATASET, "BTC/USDT", before_ms=JUNE_30 + 289 * BAR - 1) == JUNE_30 + 288 * BAR
    with pytest.raises(MarketDataUnavailableError, match=r"BTC/USDT known by 2025-06-30T00:04"):
        lake.latest_known_at_ms(DATASET, "BTC/USDT", before_ms=JUNE_30 + BAR - 1)
    with pytest.raises(MarketDataUnavailableError, match="Expected rows of SOL/USDT in"):
        lake.latest_known_at_ms(DATASET, "SOL/USDT")


def test_the_current_source_is_remembered(lake: Lake) -> None:
    identity = SourceIdentity("recorded", "recorded", "recorded:binance", "recorded candles")
    assert lake.current_source() is None
    lake.set_current_source(identity)
    assert Lake(lake.root).current_source() == identity
    (lake.root / "current_source.json").write_text('{"kind": "recorded"')
    with pytest.raises(LakeCorruptionError, match=r"current_source\.json.*Delete it"):
        lake.current_source()


def test_every_revision_of_a_window_is_read_with_the_columns_asked_for(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    rows = {("BTC/USDT", JUNE_30 + BAR * bar): float(bar) for bar in range(300)}
    lake.append(DATASET, candles(rows), JUNE_30)
    corrected = ("BTC/USDT", JUNE_30 + BAR * 290)
    lake.append(DATASET, candles({corrected: -1.0}), JUNE_30 + 2 * 86_400_000)

    window = lake.read_all_revisions(DATASET, None, JUNE_30 + BAR * 289, JUNE_30 + BAR * 292, ["close"])

    assert window.columns == ["symbol", "ts", "revision", "close"]
    assert window["close"].to_list() == [289.0, 290.0, -1.0, 291.0]
