"""The offline feature store: what was known, from the files of a lake, however symbols and times are spelled."""

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import polars as pl
import pytest

from levibot_core.errors import MissingFeatureError, SchemaError, UnknownSymbolError
from levibot_core.features.point_in_time import join_as_known
from levibot_core.schemas import FEATURES, TIMESTAMP, Column
from levibot_core.stores.feature_store import FeatureStore
from levibot_core.stores.lake import Lake
from levibot_core.stores.paths import features_dataset, funding_dataset

BAR_MS = 300_000
START = datetime(2025, 6, 20, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)
BARS = 30 * 288  # thirty days, over the end of a month
TABLE = FEATURES.with_columns([Column("momentum", pl.Float64(), "a"), Column("bars_up", pl.Float64(), "b")])
DATASET = features_dataset("recorded", "spot", "5m", "v1", TABLE)


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    """One row per bar: momentum counts the bars, bars_up is NaN in the first ten."""
    number = pl.int_range(BARS, eager=True)
    ts = START_MS + BAR_MS * number
    one = pl.DataFrame(
        {
            "ts": ts.cast(TIMESTAMP),
            "known_at": (ts + BAR_MS).cast(TIMESTAMP),
            "momentum": number.cast(pl.Float64),
            "bars_up": number.cast(pl.Float64).set(number < 10, float("nan")),
        }
    )
    of_symbols = [
        one.with_columns(symbol=pl.lit("BTC/USDT")),
        one.with_columns(pl.col("momentum") * -1.0, symbol=pl.lit("ETH/USDT")).head(20),
    ]
    return TABLE.enforce(pl.concat(of_symbols))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, rows: pl.DataFrame) -> FeatureStore:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    lake.upsert(DATASET, rows)
    return FeatureStore(lake, DATASET)


def close_of(bar: int) -> datetime:
    """When the bar of that number is known."""
    return START + timedelta(milliseconds=BAR_MS * (bar + 1))


def test_a_training_set_holds_what_was_known_and_keeps_the_spine(store: FeatureStore, rows: pl.DataFrame) -> None:
    times = [close_of(bar) + timedelta(seconds=second) for bar in (5000, 3, 8000, 3) for second in (-1, 0)]
    spine = pl.DataFrame(
        {"label": [0, 1, 0, 1, 0, 1, 0, 1], "time": times, "symbol": ["BTC/USDT", "btcusdt", "BTC-USDT", "BTCUSDT"] * 2}
    )

    training = store.get_training_set(spine, ["bars_up", "momentum"])

    assert training.columns == [*spine.columns, "feature_ts", "feature_known_at", "bars_up", "momentum"]
    assert training.select(spine.columns).equals(spine)
    assert training["momentum"].to_list() == [4999.0, 5000.0, 2.0, 3.0, 7999.0, 8000.0, 2.0, 3.0]
    assert training["feature_known_at"].max() == close_of(8000)
    questions = spine.select(symbol=pl.lit("BTC/USDT"), time=pl.col("time").dt.cast_time_unit("ms"))
    assert training.drop("label", "symbol", "time").equals(
        join_as_known(questions, rows, ["bars_up", "momentum"]).drop("symbol", "time"), null_equal=True
    )


def test_what_is_not_recent_is_looked_up_in_the_whole_history(store: FeatureStore) -> None:
    features = store.get_features_at(["ETH/USDT", "BTC/USDT"], close_of(BARS - 1), ["momentum"])

    assert features["momentum"].to_list() == [-19.0, BARS - 1.0]
    assert features["feature_ts"][0] == close_of(18)


def test_an_age_limit_gives_nulls_instead(store: FeatureStore) -> None:
    last = close_of(19)
    spine = pl.DataFrame({"symbol": ["ETH/USDT"] * 2, "time": [last + timedelta(hours=1), last + timedelta(hours=2)]})

    training = store.get_training_set(spine, ["momentum"], max_age_ms=2 * 3_600_000)

    assert training["momentum"].to_list() == [-19.0, None]
    assert training["feature_ts"].to_list() == [last - timedelta(minutes=5), None]


def test_an_as_of_time_caps_what_later_rows_see(store: FeatureStore) -> None:
    spine = pl.DataFrame({"symbol": ["BTC/USDT"] * 2, "time": [close_of(100), close_of(8000)]})
    as_of_ms = int(close_of(200).timestamp() * 1000)

    assert store.get_training_set(spine, ["momentum"], as_of_ms=as_of_ms)["momentum"].to_list() == [100.0, 200.0]
    before_everything = store.get_training_set(spine, ["momentum"], as_of_ms=START_MS)
    assert before_everything["momentum"].to_list() == [None, None]


def test_every_entity_is_asked_at_every_time(store: FeatureStore) -> None:
    east = timezone(timedelta(hours=3))

    features = store.get_features_at(["ethusdt", "BTC-USDT"], [close_of(7).astimezone(east), close_of(6)])

    assert features.columns == ["symbol", "time", "feature_ts", "feature_known_at", *store.feature_names]
    assert features["symbol"].to_list() == ["ETH/USDT"] * 2 + ["BTC/USDT"] * 2
    assert features["time"].to_list() == [close_of(7), close_of(6)] * 2
    assert features["momentum"].to_list() == [-7.0, -6.0, 7.0, 6.0]


def test_what_is_missing_is_named_and_never_filled(store: FeatureStore) -> None:
    features = store.get_features_at(["BTC/USDT", "XRP/USDT"], [close_of(9), close_of(10)])

    missing = store.missing(features)

    assert missing.rows() == [
        ("BTC/USDT", close_of(9), ["bars_up"]),
        ("XRP/USDT", close_of(9), ["momentum", "bars_up"]),
        ("XRP/USDT", close_of(10), ["momentum", "bars_up"]),
    ]
    assert store.missing(store.get_features_at("BTC/USDT", close_of(50))).is_empty()


def test_no_question_gets_no_answer(store: FeatureStore) -> None:
    assert store.get_features_at([], close_of(1)).height == 0
    assert store.get_features_at("BTC/USDT", []).columns[-2:] == ["momentum", "bars_up"]


def test_a_dataset_with_revisions_answers_with_the_one_known_then(tmp_path: Path) -> None:
    dataset, lake = funding_dataset("recorded"), Lake(tmp_path)
    settled = pl.DataFrame(
        {
            "symbol": ["BTC/USDT"],
            "ts": pl.Series([START_MS]).cast(TIMESTAMP),
            "rate": [0.1],
            "known_at": pl.Series([START_MS]).cast(TIMESTAMP),
            "revision": pl.Series([0], dtype=pl.Int32),
            "venue": ["test"],
        }
    )
    lake.append(dataset, settled, START_MS)
    lake.append(dataset, settled.with_columns(rate=pl.lit(0.2)), START_MS + 3_600_000)
    store = FeatureStore(lake, dataset)

    answers = store.get_features_at("BTC/USDT", [START, START + timedelta(hours=1)])

    assert store.feature_names == ("rate",)
    assert answers["rate"].to_list() == [0.1, 0.2]


def test_unknown_features_and_malformed_symbols_are_refused(store: FeatureStore) -> None:
    with pytest.raises(MissingFeatureError, match=r"was 'momentun', 'close'.*features list"):
        store.get_features_at("BTC/USDT", START, ["momentun", "close", "momentum"])
    with pytest.raises(UnknownSymbolError, match="was 'bitcoin'"):
        store.get_features_at(["bitcoin"], START)
    with pytest.raises(SchemaError, match="time zone"):
        store.get_features_at("BTC/USDT", START.replace(tzinfo=None))


SPINE = pl.DataFrame({"symbol": ["BTC/USDT"], "time": [START]})


@pytest.mark.parametrize(
    ("spine", "message"),
    [
        (SPINE.drop("time"), "columns symbol .* and time"),
        (SPINE.drop("symbol"), "columns symbol .* and time"),
        (SPINE.with_columns(pl.col("time").dt.replace_time_zone(None)), "becomes UTC by"),
        (SPINE.with_columns(symbol=pl.lit(7)), "symbol .String."),
        (SPINE.with_columns(time=pl.lit(None, TIMESTAMP)), "1 nulls"),
        (SPINE.with_columns(momentum=1.0), r"without the columns .* was with \['momentum'\]"),
    ],
)
def test_a_spine_that_cannot_be_joined_is_refused(store: FeatureStore, spine: pl.DataFrame, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        store.get_training_set(spine)
