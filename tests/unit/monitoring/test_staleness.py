from datetime import UTC, datetime, timedelta

import polars as pl
import pytest

from levibot_core.market.timeframe import Timeframe
from levibot_core.monitoring.plots import staleness_png
from levibot_core.monitoring.staleness import StalenessReport, clock_of, measure_staleness, staleness_limit_s
from levibot_core.schemas import TIMESTAMP

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
NOON_MS = int(NOON.timestamp() * 1000)
FIVE_MINUTES = Timeframe.parse("5m")
NAN = float("nan")


def features(**by_symbol: dict[str, list[float]]) -> pl.DataFrame:
    """Rows per symbol whose last bar closes at noon; a symbol is named without its quote currency."""
    parts = []
    for base, columns in by_symbol.items():
        count = len(next(iter(columns.values())))
        closes = [NOON - timedelta(minutes=5 * place) for place in reversed(range(count))]
        known_at = pl.Series("known_at", closes).cast(TIMESTAMP)
        parts.append(pl.DataFrame({"symbol": [f"{base}/USDT"] * count, "known_at": known_at, **columns}))
    return pl.concat(parts)


def ages(report: StalenessReport) -> dict[tuple[str, str], float | None]:
    return {(symbol[:3], name): age for symbol, name, age in report.table.select("symbol", "feature", "age_s").rows()}


@pytest.mark.parametrize(("timeframe", "limit_s"), [("1m", 300.0), ("5m", 300.0), ("1h", 3600.0)])
def test_the_limit_is_five_minutes_or_one_bar(timeframe: str, limit_s: float) -> None:
    assert staleness_limit_s(Timeframe.parse(timeframe)) == limit_s


@pytest.mark.parametrize(("kind", "clock"), [("exchange", 9), ("recorded", 4), ("simulated", 4)])
def test_only_an_exchange_goes_by_the_wall_clock(kind: str, clock: int) -> None:
    assert clock_of(kind, now_ms=9, newest_bar_ms=4) == clock  # type: ignore[arg-type]


def test_a_value_is_as_old_as_the_last_bar_that_has_it() -> None:
    rows = features(
        BTC={"a": [1.0, 1.0, 1.0], "b": [1.0, NAN, NAN], "c": [NAN, NAN, NAN]}, ETH={"a": [1.0], "b": [2.0], "c": [3.0]}
    )
    report = measure_staleness(rows, ["BTC/USDT", "ETH/USDT"], ["a", "b", "c"], NOON_MS, FIVE_MINUTES)
    assert ages(report) == {
        ("BTC", "c"): None,
        ("BTC", "b"): 600.0,
        ("BTC", "a"): 0.0,
        ("ETH", "a"): 0.0,
        ("ETH", "b"): 0.0,
        ("ETH", "c"): 0.0,
    }
    assert report.stale.select("symbol", "feature").rows() == [("BTC/USDT", "c"), ("BTC/USDT", "b")]
    assert report.by_symbol.select("symbol", "features", "stale", "oldest_s").rows() == [
        ("BTC/USDT", 3, 2, None),
        ("ETH/USDT", 3, 0, 0.0),
    ]


@pytest.mark.parametrize(("late_ms", "stale"), [(0, 0), (300_000, 0), (300_001, 1), (900_000, 1)])
def test_a_value_is_stale_above_the_limit_not_at_it(late_ms: int, stale: int) -> None:
    report = measure_staleness(features(BTC={"a": [1.0]}), ["BTC/USDT"], ["a"], NOON_MS + late_ms, FIVE_MINUTES)
    assert report.stale.height == stale


def test_a_symbol_without_any_row_is_stale_in_everything() -> None:
    rows = features(BTC={"a": [1.0], "b": [1.0]})
    report = measure_staleness(rows, ["BTC/USDT", "SOL/USDT"], ["a", "b"], NOON_MS, FIVE_MINUTES)
    assert report.stale.select("symbol", "feature", "age_s").rows() == [
        ("SOL/USDT", "a", None),
        ("SOL/USDT", "b", None),
    ]
    nothing = measure_staleness(rows.clear(), ["SOL/USDT"], ["a"], NOON_MS, FIVE_MINUTES)
    assert nothing.stale.height == 1


def test_the_report_for_json_lists_the_oldest_and_counts_the_rest() -> None:
    rows = features(BTC={"a": [1.0, NAN], "b": [1.0, 1.0]})
    report = measure_staleness(rows, ["BTC/USDT"], ["a", "b"], NOON_MS + 60_000, FIVE_MINUTES).to_dict(listed=1)
    assert report == {
        "clock": "2026-01-02T12:01:00+00:00",
        "limit_s": 300.0,
        "values": 2,
        "stale": 1,
        "oldest": [{"symbol": "BTC/USDT", "feature": "a", "newest": "2026-01-02T11:55:00+00:00", "age_s": 360.0}],
    }


def test_the_picture_has_words_when_nothing_is_old_and_bars_when_something_is() -> None:
    rows = features(BTC={"a": [1.0, NAN], "b": [1.0, 1.0], "c": [NAN, NAN]})
    fresh = measure_staleness(rows, ["BTC/USDT"], ["b"], NOON_MS, FIVE_MINUTES)
    old = measure_staleness(rows, ["BTC/USDT"], ["a", "b", "c"], NOON_MS, FIVE_MINUTES)
    assert staleness_png(fresh, "ages").startswith(b"\x89PNG")
    assert staleness_png(old, "ages") != staleness_png(old, "ages", top=1)
