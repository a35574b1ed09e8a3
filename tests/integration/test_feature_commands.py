"""`levibot features list|show|explain|document`, with and without a lake."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from levibot_core.config import load_settings
from levibot_core.features.compute import compute_features
from levibot_core.market.timeframe import MILLISECONDS_PER_DAY
from levibot_core.stores.paths import Home
from levibot_pipelines.workspace import Workspace

Levibot = Callable[..., tuple[int, str, str]]
# Days without a halt of the simulated market.
DAYS = 5
END_MS = int(datetime(2025, 6, 11, tzinfo=UTC).timestamp() * 1000)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, where LEVIBOT_HOME would be made."""
    monkeypatch.setenv("LEVIBOT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LEVIBOT_SOURCE", "simulated")
    # A terminal wide enough that nothing that is looked for is broken over lines.
    monkeypatch.setenv("COLUMNS", "300")
    return tmp_path


@pytest.fixture
def computed(folder: Path) -> pl.DataFrame:
    """The features of two simulated markets, which with their candles lie in the lake of the home."""
    workspace = Workspace(load_settings(), Home.at(folder / "home").create())
    source, lake = workspace.source, workspace.lake
    start_ms = END_MS - DAYS * MILLISECONDS_PER_DAY
    for symbol in ("BTC/USDT", "ETH/USDT"):
        candles = source.candles(symbol, "spot", workspace.timeframe, start_ms, END_MS)
        lake.append(workspace.candles(source.identity), candles, END_MS)
        funding = source.funding_rates(symbol, start_ms - 4 * MILLISECONDS_PER_DAY, END_MS + 1)
        lake.append(workspace.funding(source.identity), funding, END_MS)
    lake.append(workspace.fear_greed(source.identity), source.fear_greed(start_ms, END_MS), END_MS)
    lake.set_current_source(source.identity)
    candles, funding, fear_greed = (
        lake.read(dataset(source.identity)) for dataset in (workspace.candles, workspace.funding, workspace.fear_greed)
    )
    features = compute_features(candles, funding, workspace.feature_set, workspace.timeframe, fear_greed=fear_greed)
    lake.upsert(workspace.features(source.identity), features)
    return features


@pytest.fixture
def levibot(run_levibot: Levibot) -> Levibot:
    """Run the command; exit code, result and messages."""
    return lambda *arguments: run_levibot("features", *arguments)


def as_json(answer: tuple[int, str, str]) -> Any:
    assert answer[0] == 0, answer[2]
    return json.loads(answer[1])


def test_features_are_listed_by_set_and_family_and_shown_by_name(levibot: Levibot, folder: Path) -> None:
    everything = as_json(levibot("list", "--json"))
    assert len(everything) == 245
    assert everything[0] | {"name": "log_return_1", "window": 1, "warm_up": 2, "unit": "log ratio"} == everything[0]
    assert len(as_json(levibot("list", "--set", "v1", "--json"))) == 40
    ranks = as_json(levibot("list", "--family", "rank", "--json"))
    assert [feature["name"] for feature in ranks] == [f"rank_{window}" for window in (5, 10, 20, 30, 60)]
    assert "rank_60" in levibot("list", "--family", "rank")[1]
    assert as_json(levibot("show", "rank_5", "--json"))["family"] == "rank"
    assert "z_20, z_score_20" in levibot("show", "price_zscore_20")[1]
    assert "1h" in levibot("show", "atr_14_1h")[1]
    assert not (folder / "home").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("list", "--set", "v9"), "Expected a feature set of"),
        (("list", "--family", "magic"), "Expected a family of band_position,"),
        (("show", "rank_5", "--set", "v1"), "Expected a feature of set v1"),
        (("explain", "nonsense"), "Expected a feature of set v2"),
    ],
)
def test_what_there_is_not_is_answered_with_what_there_is(
    levibot: Levibot, arguments: tuple[str, ...], words: str
) -> None:
    code, _, said = levibot(*arguments)
    assert code == 1
    assert words in said


def test_without_a_lake_a_feature_is_explained_by_its_formula_and_no_home_is_made(
    levibot: Levibot, folder: Path
) -> None:
    code, shown, said = levibot("explain", "rank_5")
    assert code == 0
    assert "share of the last 5 closes below the newest" in shown
    assert "nothing was ingested yet" in said
    answer = as_json(levibot("explain", "rank_5", "--json"))
    assert answer["definition"]["name"] == "rank_5"
    assert answer["now"] is None
    assert "levibot run" in answer["note"]
    assert not (folder / "home").exists()


def test_a_value_in_the_lake_is_explained_as_of_any_instant(levibot: Levibot, computed: pl.DataFrame) -> None:
    of_symbol = computed.filter(symbol="ETH/USDT")
    last, earlier = of_symbol.row(-1, named=True), of_symbol.row(-100, named=True)

    now = as_json(levibot("explain", "slope_20", "--symbol", "ethusdt", "--json"))["now"]
    assert (now["symbol"], now["value"]) == ("ETH/USDT", last["slope_20"])
    assert now["decided"] == now["window_to"] == last["known_at"].isoformat()
    assert now["window_from"] == (last["known_at"] - timedelta(minutes=5 * 20)).isoformat()
    assert now["compared"] == DAYS * 288 - 19
    assert 0.0 < now["share_below"] < 1.0

    instant = earlier["known_at"].strftime("%Y-%m-%dT%H:%M")
    then = as_json(levibot("explain", "slope_20", "--symbol", "ETH/USDT", "--at", instant, "--json"))["now"]
    assert (then["value"], then["compared"]) == (earlier["slope_20"], now["compared"] - 99)

    code, shown, _ = levibot("explain", "volume_ratio_20", "--at", instant)
    assert code == 0
    assert f"to {earlier['known_at']:%Y-%m-%d %H:%M} UTC" in shown
    assert "how unusual" in shown
    assert "inputs at its last bar" in shown


def test_a_value_that_is_not_there_is_explained_by_why(levibot: Levibot, computed: pl.DataFrame) -> None:
    first = f"{computed['known_at'].min():%Y-%m-%dT%H:%M}"
    shown = levibot("explain", "log_return_288", "--at", first)[1]
    # A table breaks its lines where the terminal ends.
    assert "none: the window begins before the first bar there is" in " ".join(shown.replace("│", " ").split())
    assert as_json(levibot("explain", "log_return_288", "--at", first, "--json"))["now"]["value"] is None
    for arguments, words in (
        (("--symbol", "DOGE/USDT"), "Expected rows of DOGE/USDT"),
        (("--at", "2001-01-01"), "materialise feature_store/features"),
    ):
        code, shown, said = levibot("explain", "log_return_288", *arguments)
        assert code == 0
        assert "formula" in shown
        assert words in said
    code, _, said = levibot("explain", "log_return_288", "--at", "yesterday")
    assert code == 1
    assert "Expected --at as an instant" in said


def test_the_data_dictionary_is_written_once_and_checked(levibot: Levibot, folder: Path) -> None:
    page = folder / "features.md"
    code, _, said = levibot("document", str(page), "--check")
    assert code == 1
    assert "Run `levibot features document`" in said
    assert not page.exists()
    assert as_json(levibot("document", str(page), "--json"))["changed"]
    assert "# Features" in page.read_text("utf-8")
    assert not as_json(levibot("document", str(page), "--json"))["changed"]
    assert levibot("document", str(page), "--check")[0] == 0
    page.write_text(page.read_text("utf-8") + "more\n", "utf-8")
    assert levibot("document", str(page), "--check")[0] == 1
