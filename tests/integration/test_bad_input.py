"""What a person sees who gives the command something it cannot use: one message, exit code 1, no traceback."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from levibot_core.config import load_settings
from levibot_core.errors import HomeBusyError, HomeNotWritableError
from levibot_core.stores.paths import Home
from levibot_pipelines.cli.main import main
from levibot_pipelines.runner import LIFECYCLE, lifecycle_lock, run_job
from levibot_pipelines.workspace import Workspace


@pytest.fixture
def empty_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "no data here"
    folder.mkdir()
    return folder


def _fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["levibot", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert shown.out == ""
    return " ".join(shown.err.split())


@pytest.mark.parametrize(
    ("environment", "mentioned"),
    [
        ({"LEVIBOT_SOURCE": "coinbase"}, "LEVIBOT_SOURCE: Input should be 'auto', 'exchange'"),
        ({"LEVIBOT_SYMBOLS": "BTC"}, "Expected a symbol such as BTC/USDT"),
        ({"LEVIBOT_SOURCE": "recorded"}, "expected LEVIBOT_MARKET_DATA to name a folder"),
        ({"LEVIBOT_SOURCE": "recorded", "LEVIBOT_MARKET_DATA": "{empty}"}, "no data here"),
        ({"LEVIBOT_SOURCE": "recorded", "LEVIBOT_MARKET_DATA": "{empty}/missing"}, "missing"),
        ({"LEVIBOT_SOURCE": "simulated", "LEVIBOT_SYMBOLS": "NOPE/USDT"}, "NOPE/USDT"),
        (
            {"LEVIBOT_SOURCE": "exchange", "LEVIBOT_EXCHANGES": "binance", "LEVIBOT_EXCHANGE_BASE_URL": "{closed}"},
            "Expected an answer from an exchange",
        ),
    ],
)
def test_a_demo_that_cannot_start_says_why(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    empty_folder: Path,
    environment: dict[str, str],
    mentioned: str,
) -> None:
    monkeypatch.delenv("LEVIBOT_MARKET_DATA", raising=False)
    monkeypatch.setenv("LEVIBOT_HOME", str(tmp_path / "home"))
    for name, value in environment.items():
        # Port 9 (discard) is closed on any machine that does not run that service of old.
        monkeypatch.setenv(name, value.format(empty=empty_folder, closed="http://127.0.0.1:9"))

    assert mentioned in _fails(monkeypatch, capsys, "demo")


def test_candles_that_cannot_be_stop_the_run_with_their_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    bars = pl.int_range(0, 3 * 288, eager=True)
    prices = 100.0 + bars % 7
    pl.DataFrame(
        {
            "ts": (datetime(2025, 1, 1, tzinfo=UTC) + bars * timedelta(minutes=5)).dt.cast_time_unit("ms"),
            "symbol": "BTC/USDT",
            "open": prices,
            "high": prices + 1.0,
            "low": prices - 1.0,
            "close": (prices + 0.5).set(bars == 600, float("nan")),
            "volume": 5.0,
        }
    ).write_parquet(tmp_path / "candles_5m_somewhere_BTCUSDT.parquet")
    settings = {"HOME": tmp_path / "home", "MARKET_DATA": tmp_path, "SOURCE": "recorded", "SYMBOLS": "BTC/USDT"}
    for name, value in {**settings, "DAYS": 3, "THREADS": 1}.items():
        monkeypatch.setenv(f"LEVIBOT_{name}", str(value))

    said = _fails(monkeypatch, capsys, "run")

    assert "candles_quality: ohlc_consistency: " in said
    assert "2025-01-03T02:00" in said or "2025-01-03 02:00" in said


def test_a_home_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LEVIBOT_HOME", str(tmp_path / "file"))

    assert "set LEVIBOT_HOME" in _fails(monkeypatch, capsys, "status")


@pytest.mark.parametrize(
    ("arguments", "mentioned"),
    [
        (("predict", "BTCUSDT"), "Run `make demo`"),
        (("predict", "what?"), "Expected a symbol"),
        (("quality",), "nothing was ingested yet"),
        (("drift",), "Run `levibot run`"),
        (("backtest", "show", "9"), "levibot backtest list"),
        (("features", "show", "nonsense"), "levibot features list"),
    ],
)
def test_a_question_about_what_is_not_there_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    mentioned: str,
) -> None:
    monkeypatch.setenv("LEVIBOT_HOME", str(tmp_path / "home"))

    assert mentioned in _fails(monkeypatch, capsys, *arguments)


def test_a_second_run_in_one_home_is_refused_or_waits_and_says_for_whom(home: Home) -> None:
    said: list[str] = []
    with (
        lifecycle_lock(home, wait=False, on_wait=said.append),
        pytest.raises(HomeBusyError, match="is already working in"),
        lifecycle_lock(home, wait=False, on_wait=said.append),
    ):
        pytest.fail("the second run must not get in")
    with lifecycle_lock(home, wait=True, on_wait=said.append):
        assert said == []


def test_a_run_is_refused_before_it_begins_when_the_device_has_too_little_space(tmp_path: Path) -> None:
    home = Home.at(tmp_path).create()
    with pytest.raises(HomeNotWritableError, match=r"Expected \d+ MiB free on the device of .*; free some"):
        home.require_free_space(1 << 60)
    home.require_free_space(1)


def test_records_that_cannot_be_written_in_the_middle_of_a_run_are_told_in_words(
    tmp_path: Path,
) -> None:
    workspace = Workspace(load_settings(home=tmp_path, source="simulated"), Home.at(tmp_path).create())
    (workspace.home.dagster / "history").mkdir()
    # A file that is no database stands for a device that failed: both are errors of the SQLite driver.
    (workspace.home.dagster / "history" / "runs.db").write_bytes(b"not a database" * 100)

    with pytest.raises(HomeNotWritableError, match=r"Expected to write Dagster's records in .* the database says"):
        run_job(workspace, LIFECYCLE, {}, on_progress=lambda _: None)
