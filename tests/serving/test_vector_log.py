"""The log of served vectors: one line per distinct vector, a count for the rest, and nothing lost without a trace."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from levibot_core.market.sources import SourceIdentity
from levibot_core.stores.lake import Lake
from levibot_core.stores.online import FeatureVector
from levibot_core.stores.paths import Home
from levibot_core.stores.served_log import Entry, FurtherServings, ServedLog, ServedVector, UnreadableLine, read_entries
from levibot_serving.vector_log import VectorLog

Vector = Callable[..., FeatureVector]
Eventually = Callable[..., None]

MODEL = "levibot-5m-h12"
NOON_MS = int(datetime(2026, 1, 2, 12, tzinfo=UTC).timestamp() * 1000)
DAY_MS = 86_400_000


@pytest.fixture
def log(home: Home) -> Iterator[VectorLog]:
    opened = VectorLog(home, kept_days=3)
    yield opened
    opened.stop()


@pytest.fixture
def bar(vector: Vector) -> FeatureVector:
    return vector(ts_ms=NOON_MS - 300_000, known_at_ms=NOON_MS)


def entries(home: Home) -> list[Entry | UnreadableLine]:
    return [entry for path in ServedLog(home.served_vectors).files().values() for entry in read_entries(path)]


def stopped(log: VectorLog) -> None:
    """Let the writer's thread write what waits, and end."""
    log.start()
    log.stop()


def test_a_vector_is_logged_once_and_its_servings_are_counted(home: Home, log: VectorLog, bar: FeatureVector) -> None:
    for second in range(5):
        log.record(bar, MODEL, 3, NOON_MS + 1_000 * second)
    assert not home.served_vectors.exists(), "nothing is written by the request"
    log.flush()
    log.record(bar, MODEL, 3, NOON_MS + 9_000)
    stopped(log)

    first, further = entries(home)
    assert isinstance(first, ServedVector)
    assert (first.symbol, first.ts_ms, first.known_at_ms) == (bar.symbol, bar.ts_ms, bar.known_at_ms)
    assert (first.feature_set, first.model, first.model_version) == ("v1", MODEL, 3)
    assert (first.served_at_ms, first.close, first.values) == (NOON_MS, bar.close, bar.values)
    assert further == FurtherServings(bar.symbol, bar.ts_ms, "v1", 3, servings=5, served_at_ms=NOON_MS + 9_000)
    assert (log.recorded, log.lines, sum(log.dropped.values())) == (6, 1, 0)


@pytest.mark.parametrize(
    "change", [{"ts_ms": 5}, {"known_at_ms": 5}, {"feature_set": "v2"}, {"close": 1.0}, {"values": {"return_1": 1.0}}]
)
def test_whatever_changes_about_a_vector_gives_a_line(
    home: Home, log: VectorLog, bar: FeatureVector, change: dict[str, object]
) -> None:
    other = replace(bar, **change)  # type: ignore[arg-type]
    for served in (bar, bar, other, bar):
        log.record(served, MODEL, 3, NOON_MS)
    log.flush()
    kinds = [type(entry) for entry in entries(home)]
    assert kinds == [ServedVector, FurtherServings, ServedVector, ServedVector]


def test_another_version_and_another_symbol_have_lines_of_their_own(
    home: Home, log: VectorLog, bar: FeatureVector
) -> None:
    log.record(bar, MODEL, 3, NOON_MS)
    log.record(replace(bar, symbol="ETH/USDT"), MODEL, 3, NOON_MS)
    log.record(bar, MODEL, 4, NOON_MS)
    log.flush()
    found = [(entry.symbol, entry.model_version) for entry in entries(home) if isinstance(entry, ServedVector)]
    assert found == [("BTC/USDT", 3), ("ETH/USDT", 3), ("BTC/USDT", 4)]


def test_the_source_is_the_one_the_lake_was_filled_from(home: Home, log: VectorLog, bar: FeatureVector) -> None:
    log.record(bar, MODEL, 3, NOON_MS)
    log.flush()
    Lake(home.lake).set_current_source(SourceIdentity("recorded", "recorded", "binance", "recorded candles"))
    log.record(bar, MODEL, 4, NOON_MS)
    log.record(replace(bar, source_kind="simulated"), MODEL, 4, NOON_MS)
    log.flush()
    found = [entry.source_key for entry in entries(home) if isinstance(entry, ServedVector)]
    assert found == [None, "recorded", None]


def test_a_full_queue_drops_and_counts(home: Home, bar: FeatureVector) -> None:
    log = VectorLog(home, kept_days=3, queue_limit=4)
    for second in range(10):
        log.record(bar, MODEL, 3, NOON_MS + second)
    stopped(log)
    assert log.dropped == {"queue_full": 6, "not_written": 0}
    assert [getattr(entry, "servings", 1) for entry in entries(home)] == [1, 3]


def test_what_cannot_be_written_is_counted_and_logged_at_the_next_serving(
    home: Home, log: VectorLog, bar: FeatureVector
) -> None:
    other = replace(bar, ts_ms=bar.ts_ms + 300_000)
    for served in (bar, bar):
        log.record(served, MODEL, 3, NOON_MS)
    log.flush()
    away = home.logs.rename(home.root / "logs away")
    home.logs.write_text("in the way")
    for served in (bar, other, other, other):
        log.record(served, MODEL, 3, NOON_MS)
    log.flush()
    assert log.dropped == {"queue_full": 0, "not_written": 5}, "two of the first bar, three of the second"

    home.logs.unlink()
    away.rename(home.logs)
    log.record(other, MODEL, 3, NOON_MS)
    stopped(log)
    assert [(type(entry), entry.ts_ms) for entry in entries(home) if not isinstance(entry, UnreadableLine)] == [
        (ServedVector, bar.ts_ms),
        (ServedVector, other.ts_ms),
    ]
    assert (log.recorded, log.lines) == (7, 2)


def test_old_days_are_let_go(home: Home, log: VectorLog, bar: FeatureVector) -> None:
    for day in range(6):
        log.record(replace(bar, ts_ms=day), MODEL, 3, NOON_MS + day * DAY_MS)
        log.flush()
    assert [f"{day:%d}" for day in ServedLog(home.served_vectors).files()] == ["05", "06", "07"]


def test_the_writer_writes_by_itself(home: Home, log: VectorLog, bar: FeatureVector, eventually: Eventually) -> None:
    log.start()
    log.record(bar, MODEL, 3, time.time_ns() // 1_000_000)
    eventually(lambda: log.lines == 1)
    assert len(entries(home)) == 1


def test_stopping_a_log_that_never_started_is_quiet(tmp_path: Path) -> None:
    VectorLog(Home.at(tmp_path / "nowhere"), kept_days=3).stop()
    stopped(VectorLog(Home.at(tmp_path / "nowhere"), kept_days=3))
    assert not (tmp_path / "nowhere").exists()
