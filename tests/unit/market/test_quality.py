import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from levibot_core.config import SourceKind
from levibot_core.market.halts import Halt
from levibot_core.market.quality import RULES, QualityReport, QualityRules, assess_candles
from levibot_core.market.sources.recorded import RecordedSource
from levibot_core.market.timeframe import Timeframe
from levibot_core.schemas import CANDLES, TIMESTAMP

FIVE = Timeframe.parse("5m")
STEP = FIVE.milliseconds
START = 1_735_689_600_000  # 2025-01-01 00:00 UTC
BARS = 400
NOW = START + BARS * STEP


def candles(symbol: str = "BTC/USDT", venue: str = "binance") -> pl.DataFrame:
    """Sound candles of a quiet market."""
    closes = 100.0 + 0.1 * np.random.default_rng(1).standard_normal(BARS).cumsum()
    opens = np.concatenate(([100.0], closes[:-1]))
    ts = START + STEP * np.arange(BARS)
    frame = pl.DataFrame(
        {
            "symbol": [symbol] * BARS,
            "ts": ts,
            "open": opens,
            "high": np.maximum(opens, closes) + 0.05,
            "low": np.minimum(opens, closes) - 0.05,
            "close": closes,
            "volume": np.full(BARS, 2.0),
            "known_at": ts + STEP,
            "revision": [0] * BARS,
            "venue": [venue] * BARS,
        }
    )
    return frame.cast({"ts": TIMESTAMP, "known_at": TIMESTAMP, "revision": pl.Int32})


def with_value(frame: pl.DataFrame, row: int, column: str, value: float) -> pl.DataFrame:
    changed = pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value)).otherwise(pl.col(column))
    return frame.with_columns(changed.cast(frame.schema[column]).alias(column))


def without(frame: pl.DataFrame, first: int, last: int) -> pl.DataFrame:
    return pl.concat([frame[:first], frame[last:]])


def assess(frame: pl.DataFrame, halts: tuple[Halt, ...] = (), now_ms: int = NOW) -> QualityReport:
    return assess_candles(frame, FIVE, halts, now_ms)


def test_sound_candles_pass_every_rule_without_a_finding() -> None:
    report = assess(pl.concat([candles("BTC/USDT"), candles("ETH/USDT")]))

    assert report.findings == ()
    assert all(report.passed(rule) for rule in RULES)
    assert report.symbols == ("BTC/USDT", "ETH/USDT")


@pytest.mark.parametrize(
    ("rule", "broken", "count", "row"),
    [
        ("unique_monotonic", pl.concat([candles()[:9], candles()[8:]]), 1, 8),
        ("unique_monotonic", pl.concat([candles()[:5], candles()[6:7], candles()[5:6], candles()[7:]]), 1, 5),
        ("on_grid", candles().with_columns(pl.col("ts") + pl.duration(milliseconds=1, time_unit="ms")), BARS, 0),
        ("ohlc_consistency", with_value(candles(), 11, "high", 50.0), 1, 11),
        ("ohlc_consistency", with_value(candles(), 11, "low", 150.0), 1, 11),
        ("ohlc_consistency", with_value(candles(), 11, "low", -1.0), 1, 11),
        ("ohlc_consistency", with_value(candles(), 11, "volume", -1.0), 1, 11),
        ("ohlc_consistency", with_value(candles(), 11, "close", float("nan")), 1, 11),
        ("ohlc_consistency", with_value(candles(), 11, "high", float("inf")), 1, 11),
        ("unclosed", with_value(candles(), 11, "known_at", START), 1, 11),
        ("gaps", without(candles(), 20, 33), 13, 20),
    ],
)
def test_a_defect_is_an_error_that_says_how_many_and_where(
    rule: str, broken: pl.DataFrame, count: int, row: int
) -> None:
    report = assess(broken)

    (finding,) = [found for found in report.of(rule) if found.severity == "error"]
    assert not report.passed(rule)
    assert (finding.symbol, finding.count) == ("BTC/USDT", count)
    assert finding.start_ms is not None
    assert finding.start_ms - START in (row * STEP, row * STEP + 1)
    assert f"{count} bar" in finding.message


def test_only_the_rule_that_is_broken_fails() -> None:
    report = assess(with_value(candles(), 11, "high", 50.0))

    assert [rule for rule in RULES if not report.passed(rule)] == ["ohlc_consistency"]


def test_a_bar_that_has_not_closed_is_an_error() -> None:
    report = assess(candles(), now_ms=NOW - 1)

    (finding,) = report.of("unclosed")
    assert (finding.severity, finding.count, finding.start_ms) == ("error", 1, NOW - STEP)


@pytest.mark.parametrize(("missing", "severity"), [(1, "warning"), (12, "warning"), (13, "error")])
def test_an_unexplained_gap_is_an_error_only_beyond_the_limit(missing: int, severity: str) -> None:
    (finding,) = assess(without(candles(), 50, 50 + missing)).of("gaps")

    assert (finding.severity, finding.count, finding.halt) == (severity, missing, None)
    assert (finding.start_ms, finding.end_ms) == (START + 50 * STEP, START + (50 + missing) * STEP)


@pytest.mark.parametrize(
    ("halted", "unexplained", "severity"),
    [((50, 90), 0, "warning"), ((40, 95), 0, "warning"), ((50, 80), 10, "warning"), ((60, 80), 20, "error")],
)
def test_the_part_of_a_gap_that_a_known_halt_explains_does_not_count(
    halted: tuple[int, int], unexplained: int, severity: str
) -> None:
    halt = Halt("binance", START + halted[0] * STEP, START + halted[1] * STEP, "maintenance")

    (finding,) = assess(without(candles(), 50, 90), (halt,)).of("gaps")

    assert (finding.severity, finding.count) == (severity, 40)
    assert finding.halt == str(halt)
    assert ("known halt" in finding.message) is (unexplained == 0)
    assert unexplained == 0 or f"{unexplained} of them without a known reason" in finding.message


def test_a_halt_of_another_venue_explains_nothing() -> None:
    halt = Halt("mexc", START, NOW, "maintenance")

    (finding,) = assess(without(candles(), 50, 90), (halt,)).of("gaps")

    assert (finding.severity, finding.halt) == ("error", None)


def test_a_run_without_trades_is_a_warning_and_names_the_halt_it_lies_in() -> None:
    silent = candles().with_columns(
        pl.when(pl.int_range(pl.len()).is_between(60, 69)).then(0.0).otherwise("volume").alias("volume")
    )
    halt = Halt("binance", START + 59 * STEP, START + 80 * STEP, "maintenance")

    (alone,), (explained,) = assess(silent).of("zero_volume_runs"), assess(silent, (halt,)).of("zero_volume_runs")

    assert (alone.severity, alone.count, alone.halt) == ("warning", 10, None)
    assert (alone.start_ms, alone.end_ms) == (START + 60 * STEP, START + 70 * STEP)
    assert explained.halt == str(halt)


def test_an_outlying_return_is_a_warning_but_a_move_across_a_gap_is_not() -> None:
    jumped = candles().with_columns(
        [
            pl.when(pl.int_range(pl.len()) >= 200).then(pl.col(name) * 1.5).otherwise(pl.col(name)).alias(name)
            for name in ("open", "high", "low", "close")
        ]
    )

    (finding,) = assess(jumped).of("outliers")

    assert (finding.severity, finding.count, finding.start_ms) == ("warning", 1, START + 200 * STEP)
    assert "+50." in finding.message or "+40." in finding.message
    assert assess(without(jumped, 195, 205)).of("outliers") == ()


@pytest.mark.parametrize(
    ("kind", "severity"), [("exchange", "error"), ("recorded", "warning"), ("simulated", "warning")]
)
def test_stale_candles_block_only_where_new_ones_should_come(kind: SourceKind, severity: str) -> None:
    rules = QualityRules.for_source(kind)

    fresh = assess_candles(candles(), FIVE, (), NOW + 3 * STEP, rules)
    stale = assess_candles(candles(), FIVE, (), NOW + 4 * STEP, rules)

    assert fresh.of("staleness") == ()
    assert [(found.severity, found.count) for found in stale.of("staleness")] == [(severity, 4)]


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        (candles().drop("volume"), "column volume is missing"),
        (candles().cast({"volume": pl.Int64}), "column volume expected Float64, was Int64"),
        (candles().with_columns(volume=pl.lit(None, pl.Float64)), "column volume has 400 nulls"),
        (CANDLES.empty(), "frame without rows"),
    ],
)
def test_a_frame_that_does_not_fit_the_schema_passes_no_rule(frame: pl.DataFrame, problem: str) -> None:
    report = assess(frame)

    assert problem in report.of("schema")[0].message
    assert not any(report.passed(rule) for rule in RULES)


def test_a_rule_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected a rule of schema, .* was 'gap'"):
        assess(candles()).passed("gap")


def test_the_report_turns_into_a_frame_and_into_json() -> None:
    report = assess(without(candles(), 50, 90))

    frame, document = report.to_frame(), json.loads(json.dumps(report.to_dict()))

    assert frame.row(0, named=True)["rule"] == "gaps"
    assert frame.schema["start"] == TIMESTAMP
    assert assess(candles()).to_frame().schema == frame.schema
    assert document["passed"]["gaps"] is False
    assert document["findings"][0]["count"] == 40


def test_the_halt_in_the_recorded_candles_is_reported_and_does_not_block(market_data: Path) -> None:
    source = RecordedSource(market_data)
    march, april = 1_677_628_800_000, 1_680_307_200_000

    recorded = source.candles("BTC/USDT", "spot", FIVE, march, april)
    report = assess_candles(recorded, FIVE, source.known_halts(), april)

    (gap,), (silence,) = report.of("gaps"), report.of("zero_volume_runs")
    assert (gap.severity, gap.count) == ("warning", 16)
    assert "16 bars missing from 2023-03-24 12:40 UTC to 2023-03-24 14:00 UTC, known halt: binance" in gap.message
    assert (silence.severity, silence.count) == ("warning", 14)
    assert "from 2023-03-24 11:30 UTC to 2023-03-24 12:40 UTC, known halt: binance" in silence.message
    assert report.errors == ()
    assert recorded.height == 31 * 288 - 16
