import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from levibot_core.errors import MarketDataUnavailableError
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import CANDLES, FUNDING_RATES
from levibot_core.stores.lake import Lake
from levibot_core.stores.paths import Home, candles_dataset, funding_dataset
from levibot_pipelines.resources.warehouse import PROJECT, dbt_variables, read_mart

_START = datetime(2025, 1, 31, tzinfo=UTC)
_FIVE_MINUTES = Timeframe.parse("5m")
_GAP = range(300, 307)


def _candles() -> pl.DataFrame:
    """Two days over a month's end, with seven missing bars on the second and one bar without volume."""
    rows = [
        {
            "symbol": "BTC/USDT",
            "ts": _START + timedelta(minutes=5 * bar),
            "open": 100.0 + bar,
            "high": 102.0 + bar,
            "low": 99.0 + bar,
            "close": 101.0 + bar,
            "volume": 0.0 if bar == 10 else 1.5,
            "known_at": _START + timedelta(minutes=5 * bar + 5),
            "revision": 0,
            "venue": "test",
        }
        for bar in range(2 * 288)
        if bar not in _GAP
    ]
    return pl.DataFrame(rows, schema=CANDLES.polars_schema)


def _build(home: Home) -> None:
    dbt = Path(sys.executable).parent / "dbt"
    target = home.root / "dbt_target"
    command = [str(dbt), "--quiet", "build", "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
    answer = subprocess.run(
        [*command, "--vars", dbt_variables(home), "--target-path", str(target), "--log-path", str(target)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A warehouse over a small lake, in a folder with a space and a quote; the lake has no fear and greed index."""
    home = Home.at(tmp_path_factory.mktemp("ada's home") / "with space").create()
    lake, dataset = Lake(home.lake), candles_dataset("recorded", "spot", "5m")
    candles = _candles()
    lake.append(dataset, candles, 0)
    corrected = candles.head(1).with_columns(high=pl.lit(500.0))
    lake.append(dataset, corrected, int((_START + timedelta(days=5)).timestamp() * 1000))
    funding = [(_START + timedelta(hours=8 * settlement), 0.0001) for settlement in range(3)]
    lake.append(
        funding_dataset("recorded"),
        pl.DataFrame(
            [
                {"symbol": "BTC/USDT", "ts": ts, "rate": rate, "known_at": ts, "revision": 0, "venue": "test"}
                for ts, rate in funding
            ],
            schema=FUNDING_RATES.polars_schema,
        ),
        0,
    )
    _build(home)
    return home


def test_hours_aggregate_their_bars(built: Home) -> None:
    hourly = read_mart(built, "mart_candles_hourly").sort("hour")
    expected = (
        _candles()
        .group_by_dynamic("ts", every="1h")
        .agg(
            pl.col("open").first(),
            pl.col("low").min(),
            pl.col("close").last(),
            pl.col("volume").sum(),
            pl.len().cast(pl.Int64).alias("bars"),
        )
    )

    assert hourly.select("open", "low", "close", "volume", "bars").equals(expected.drop("ts"))
    assert hourly.filter(~pl.col("is_complete"))["bars"].to_list() == [5]


def test_a_correction_wins(built: Home) -> None:
    daily = read_mart(built, "mart_candles_daily").sort("day")

    assert daily["high"][0] == 500.0


def test_days_carry_their_funding_and_leave_out_an_index_that_is_not_there(built: Home) -> None:
    daily = read_mart(built, "mart_candles_daily").sort("day")

    assert daily["funding_paid_by_longs"].to_list() == [pytest.approx(0.0003), None]
    assert daily["fear_greed_known_at_open"].to_list() == [None, None]


def test_gaps_and_bars_without_volume_show(built: Home) -> None:
    quality = read_mart(built, "mart_data_quality").sort("month")

    assert quality["missing_bars"].to_list() == [0, len(_GAP)]
    assert quality["expected_bars"].to_list() == [288, 288]
    assert quality["longest_gap_start"].to_list() == [None, _START + timedelta(minutes=5 * _GAP[0])]
    assert quality["zero_volume_bars"].to_list() == [1, 0]
    assert quality["corrected_bars"].to_list() == [1, 0]


def test_an_empty_lake_builds_an_empty_warehouse(home: Home) -> None:
    _build(home)

    assert read_mart(home, "mart_candles_daily").is_empty()


def test_a_warehouse_that_was_never_built_is_said_so(home: Home) -> None:
    with pytest.raises(MarketDataUnavailableError, match="none was built"):
        read_mart(home, "mart_candles_daily")
