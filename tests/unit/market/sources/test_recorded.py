from pathlib import Path
from typing import Any

import polars as pl
import pytest

from levibot_core.errors import DataQualityError, MarketDataUnavailableError, UnknownSymbolError
from levibot_core.market.sources.recorded import RecordedSource
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import CANDLES, FEAR_GREED, FUNDING_RATES, TIMESTAMP

FIVE = Timeframe.parse("5m")
HOUR = Timeframe.parse("1h")
START = 1_735_689_600_000  # 2025-01-01 00:00 UTC
DAY = 86_400_000
NAME = "candles_5m_binance_spot_BTCUSDT.parquet"


def candles(first: int, bars: int, symbol: str = "BTC/USDT", step_ms: int = FIVE.milliseconds) -> pl.DataFrame:
    index = range(first, first + bars)
    return pl.DataFrame(
        {
            "ts": [START + i * step_ms for i in index],
            "symbol": [symbol] * bars,
            "open": [100.0 + i for i in index],
            "high": [102.0 + i for i in index],
            "low": [99.0 + i for i in index],
            "close": [101.0 + i for i in index],
            "volume": [1.0] * bars,
        },
        schema_overrides={"symbol": pl.String},
    ).cast({"ts": TIMESTAMP})


def folder_with(root: Path, **files: pl.DataFrame) -> Path:
    """A folder of Parquet files; `a__b` lies in folder `a`."""
    for name, frame in files.items():
        path = root / "market data" / f"{name.replace('__', '/')}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path)
    return root / "market data"


def read(folder: Path, symbol: str = "BTC/USDT", timeframe: Timeframe = FIVE, **window: Any) -> pl.DataFrame:
    options = {"market": "spot", "start_ms": 0, "end_ms": START + 10_000 * DAY, **window}
    return RecordedSource(folder).candles(symbol, timeframe=timeframe, **options)


def test_candles_are_found_by_content_in_nested_folders_and_shaped_for_the_platform(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, deep__er__candles_5m_binance_spot_BTCUSDT=candles(0, 20))

    frame = read(folder)

    assert CANDLES.violations(frame) == []
    assert frame["close"].to_list() == [101.0 + i for i in range(20)]
    assert frame["venue"].unique().to_list() == ["recorded:binance"]
    assert (frame["known_at"] - frame["ts"]).dt.total_milliseconds().unique().to_list() == [FIVE.milliseconds]
    assert RecordedSource(folder).latest_close_ms("BTC/USDT", "spot", FIVE) == START + 20 * FIVE.milliseconds


def test_a_window_is_half_open(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, candles_5m_binance_spot_BTCUSDT=candles(0, 20))

    frame = read(folder, start_ms=START + 5 * FIVE.milliseconds, end_ms=START + 8 * FIVE.milliseconds)

    assert frame["open"].to_list() == [105.0, 106.0, 107.0]
    assert read(folder, start_ms=START - DAY, end_ms=START).equals(CANDLES.empty())


def test_files_without_a_telling_name_are_read_by_their_rows(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, prices=pl.concat([candles(0, 20), candles(0, 5, "ETHUSDT", HOUR.milliseconds)]))

    bitcoin, ether = read(folder), read(folder, "ETH/USDT", HOUR)

    assert (bitcoin.height, ether.height) == (20, 5)
    assert bitcoin["venue"].unique().to_list() == ["recorded"]
    assert ether["symbol"].unique().to_list() == ["ETH/USDT"]


def test_several_files_of_one_symbol_are_merged_and_rows_they_share_are_taken_once(tmp_path: Path) -> None:
    folder = folder_with(
        tmp_path,
        candles_5m_binance_spot_BTCUSDT_2025=candles(0, 30),
        compact__candles_5m_binance_spot_BTCUSDT=candles(20, 30),
        candles_1h_binance_spot_BTCUSDT=candles(0, 10, step_ms=HOUR.milliseconds),
        candles_5m_binance_perp_BTCUSDT=candles(0, 7).with_columns(pl.col("close") + 0.5),
    )

    assert read(folder)["open"].to_list() == [100.0 + i for i in range(50)]
    assert read(folder, timeframe=HOUR).height == 10
    assert read(folder, market="perp").height == 7


def test_files_that_disagree_about_a_bar_are_an_error_that_names_them(tmp_path: Path) -> None:
    wrong = candles(20, 30).with_columns(pl.col("close") + 0.5)
    folder = folder_with(
        tmp_path, candles_5m_binance_spot_BTCUSDT_2025=candles(0, 30), candles_5m_binance_spot_BTCUSDT=wrong
    )

    with pytest.raises(DataQualityError, match=r"at 10 times rows differ, first at 2025-01-01 01:40 UTC in .* and "):
        read(folder)


def test_a_name_that_the_rows_contradict_is_an_error(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, candles_5m_binance_spot_BTCUSDT=candles(0, 20, step_ms=HOUR.milliseconds))

    with pytest.raises(MarketDataUnavailableError, match=r"Expected 5m candles in .*, but its rows .* are 1h apart"):
        read(folder)


def test_a_symbol_market_or_timeframe_that_was_not_recorded_is_told_with_what_was(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, candles_5m_binance_spot_BTCUSDT=candles(0, 20))

    with pytest.raises(UnknownSymbolError, match=rf"below {folder} \(BTC/USDT\), was 'BTX/USDT'"):
        read(folder, "BTX/USDT")
    with pytest.raises(MarketDataUnavailableError, match=r"Expected perp 5m candles .* recorded are only spot 5m"):
        read(folder, market="perp")
    with pytest.raises(MarketDataUnavailableError, match=r"Expected spot 1h candles .* recorded are only spot 5m"):
        read(folder, timeframe=HOUR)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda _: None, "does not exist"),
        (lambda folder: folder.write_text("x"), "is a file"),
        (lambda folder: folder.mkdir(), "no Parquet file at all"),
        (
            lambda folder: (folder.mkdir(), pl.DataFrame({"x": [1]}).write_parquet(folder / "notes.parquet")),
            r"1 Parquet files of another kind \(notes.parquet\)",
        ),
    ],
)
def test_a_folder_without_candles_is_named_with_what_is_there_and_the_ways_out(
    tmp_path: Path, prepare: Any, words: str
) -> None:
    folder = tmp_path / "market data"
    prepare(folder)

    with pytest.raises(MarketDataUnavailableError, match=words) as caught:
        RecordedSource(folder)
    assert str(folder) in str(caught.value)
    assert "LEVIBOT_SOURCE=simulated" in str(caught.value)


@pytest.mark.parametrize("keep", [0, 100, -20])
def test_a_corrupt_file_is_named(tmp_path: Path, keep: int) -> None:
    folder = folder_with(tmp_path, candles_5m_binance_spot_BTCUSDT=candles(0, 2000))
    path = folder / NAME
    path.write_bytes(path.read_bytes()[:keep])

    with pytest.raises(MarketDataUnavailableError, match=rf"Expected {path} to be a Parquet file, .*Restore it"):
        RecordedSource(folder)


def test_a_file_that_breaks_after_it_was_found_is_named(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, candles_5m_binance_spot_BTCUSDT=candles(0, 2000))
    source = RecordedSource(folder)
    (folder / NAME).write_bytes(b"PAR1 nothing PAR1")

    with pytest.raises(MarketDataUnavailableError, match=NAME):
        source.candles("BTC/USDT", "spot", FIVE, 0, START + DAY)


def test_hidden_and_temporary_files_are_left_alone(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, candles_5m_binance_spot_BTCUSDT=candles(0, 20))
    (folder / ".half.parquet").write_bytes(b"PAR1")

    assert read(folder).height == 20


def test_funding_is_known_at_its_settlement(tmp_path: Path) -> None:
    rates = pl.DataFrame({"ts": [START, START + DAY // 3], "symbol": ["BTC/USDT"] * 2, "funding_rate": [1e-4, -2e-4]})
    folder = folder_with(
        tmp_path, candles_5m_binance_spot_BTCUSDT=candles(0, 9), funding_8h_binance_perp=rates.cast({"ts": TIMESTAMP})
    )

    frame = RecordedSource(folder).funding_rates("BTC/USDT", START, START + DAY)

    assert FUNDING_RATES.violations(frame) == []
    assert frame["rate"].to_list() == [1e-4, -2e-4]
    assert frame["known_at"].equals(frame["ts"])
    assert RecordedSource(folder).funding_rates("ETH/USDT", START, START + DAY).equals(FUNDING_RATES.empty())


def test_the_index_is_known_when_the_day_it_describes_has_ended(tmp_path: Path) -> None:
    days = pl.DataFrame({"date": [START, START + DAY], "value": [20, 70], "classification": ["Extreme Fear", "Greed"]})
    folder = folder_with(
        tmp_path,
        candles_5m_binance_spot_BTCUSDT=candles(0, 9),
        fear_greed_daily=days.cast({"date": TIMESTAMP}).cast({"date": pl.Date}),
    )

    frame = RecordedSource(folder).fear_greed(START, START + 2 * DAY)

    assert FEAR_GREED.violations(frame) == []
    assert frame["value"].to_list() == [20, 70]
    assert (frame["known_at"] - frame["ts"]).dt.total_milliseconds().to_list() == [DAY, DAY]


def test_the_real_recordings_are_read_as_their_readme_says(market_data: Path) -> None:
    source = RecordedSource(market_data)
    end = source.latest_close_ms("BTC/USDT", "spot", FIVE)

    recent = source.candles("BTC/USDT", "spot", FIVE, end - 168 * DAY, end)
    hourly = source.candles("BTC/USDT", "spot", HOUR, 0, end)

    assert end == 1_750_204_800_000  # 2025-06-18 00:00 UTC
    assert recent.height == 168 * 288
    assert (recent["low"].min(), recent["high"].max()) == (74_508.0, 111_980.0)
    assert (hourly["low"].min(), hourly["high"].max()) == (3_156.26, 69_000.0)
    assert source.candles("BTC/USDT", "perp", Timeframe.parse("1m"), 0, end).height == 63_360
    assert source.candles("DOGE/USDT", "spot", FIVE, 0, end).height == 121_520 + 48_384
    assert source.funding_rates("BTC/USDT", 0, end).height == 4_937
    assert source.fear_greed(0, end).height == 2_690
    assert source.identity.venue == "recorded:binance"
    assert source.known_halts()
