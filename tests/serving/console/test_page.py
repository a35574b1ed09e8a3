"""The page itself: with everything, with nothing, with hostile names, for every role."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from levibot_core.errors import OnlineStoreError
from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.kill_switch import KillSwitch
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_core.stores.paths import Home
from levibot_serving.served import ServedModel

pytestmark = pytest.mark.anyio

Bundles = Callable[..., ModelBundle]
Console = Callable[..., httpx.AsyncClient]
Fill = Callable[[Home], None]
ReadPage = Callable[[httpx.Response], Any]
Vector = Callable[..., FeatureVector]

HOSTILE = "<script>alert(1)</script>\"'&"
PANELS = {"champion", "challenger", "predictions", "calibration", "drift", "backtests", "health", "kill-switch"}


def ids(page: Any) -> set[str]:
    return {attributes["id"] for _, attributes in page.elements if "id" in attributes}


async def test_an_empty_home_says_so_in_every_panel(console: Console, read_page: ReadPage) -> None:
    async with console() as client:
        response = await client.get("/")
    page = read_page(response)
    assert response.status_code == 200
    assert ids(page) >= PANELS
    for words in (
        "No model is loaded, so there are no forecasts.",
        "Run `make demo`, or promote a version.",
        "There is no challenger.",
        "There is no calibration to show.",
        "There is no drift report yet.",
        "There is no backtest yet.",
        "What was served has not been compared",
        "Nobody has thrown it yet.",
    ):
        assert words in page.text
    assert "SIMULATED MARKET" not in page.text


async def test_a_full_home_shows_every_panel(
    console: Console,
    read_page: ReadPage,
    fill: Fill,
    stub_registry: Any,
    lightgbm_bundle: Bundles,
    features: SqliteOnlineStore,
    vector: Vector,
    home: Home,
) -> None:
    fill(home)
    stub_registry.hold(lightgbm_bundle(), 2)
    features.put([vector(), vector(symbol="ETH/USDT", known_at_ms=0)])
    async with console("viewer") as client:
        page = read_page(await client.get("/"))
    for words in (
        "Version 2 lightgbm ✓ tradable",
        "+0.00060 nats a row gained over the base rate, -0.00090 to +0.00200 (95 %)",
        "Against version 1, the champion before",
        "Version 3 lightgbm · in shadow: scored, not served",
        "20 promotes",
        "480 blocks in 20.0 days.",
        "until it is decided, at this rate",
        "better than base rate:",
        "▲ long",
        "labels overlap, so 12 rows count as one",
        "calibration error 0.0070 (venn-abers)",
        "1 critical and 1 moved, of 3 features",
        "fear_greed 6.65",
        "-1.23 % +20.00 % – 3.40 % 12",  # noqa: RUF001
        "0 of 4,900 served values differ",
        "off: it stops nothing",
        "Only administrators may throw it.",
        "viewer viewer Sign out",
    ):
        assert words in page.text, words
    drawings = page.all("svg")
    assert any(svg.get("aria-label") == "Forecast against frequency" for svg in drawings)
    assert sum(line.get("class") == "band" for line in page.all("line")) == 5
    links = {link["href"] for link in page.all("a")}
    assert links >= {
        "/console/reports/backtests/v2",
        "/console/reports/model_cards/v3",
        "/console/reports/drift/latest",
    }
    assert "/console/reports/backtests/v3" not in links


async def test_names_and_reasons_are_shown_and_never_run(
    console: Console,
    read_page: ReadPage,
    fill: Fill,
    kill_switch: KillSwitch,
    stub_registry: Any,
    base_rate: ModelBundle,
    home: Home,
) -> None:
    fill(home)
    kill_switch.throw(True, HOSTILE, HOSTILE)
    stub_registry.hold(base_rate, 2, {"tradable": "false", "reasons": json.dumps([HOSTILE])})
    (home.reports / "backtests" / "<b onclick=1>.json").write_text("{")
    async with console("viewer") as client:
        page = read_page(await client.get("/"))
    assert page.text.count(HOSTILE) >= 6
    assert "<b onclick=1>" in page.text
    assert [script["src"].partition("?")[0] for script in page.all("script")] == ["/console/console.js"]
    assert not any("onclick" in attributes for _, attributes in page.elements)


async def test_a_simulated_market_is_said_in_capitals(
    console: Console,
    read_page: ReadPage,
    stub_registry: Any,
    lightgbm_bundle: Bundles,
    features: SqliteOnlineStore,
    vector: Vector,
) -> None:
    stub_registry.hold(lightgbm_bundle(), 2)
    features.put([vector(source_kind="simulated")])
    async with console() as client:
        by_features = read_page(await client.get("/"))
    stub_registry.hold(lightgbm_bundle(source_kind="simulated"), 3)
    async with console() as client:
        by_model = read_page(await client.get("/"))
    for page in (by_features, by_model):
        assert "SIMULATED MARKET: THESE PRICES DO NOT EXIST" in page.text


@pytest.mark.parametrize("content", ["", "{", "[]", '{"level": "ok"}', '{"level": NaN}', "\x00"])
async def test_a_report_that_cannot_be_read_is_a_sentence_and_not_a_failure(
    console: Console, read_page: ReadPage, fill: Fill, home: Home, content: str
) -> None:
    fill(home)
    torn = [
        home.reports / "drift" / "latest.json",
        home.reports / "promotion" / "shadow.json",
        home.reports / "model_cards" / "v3.json",
        home.reports / "backtests" / "v3.json",
    ]
    for path in torn:
        path.write_text(content)
    async with console() as client:
        response = await client.get("/")
    page = read_page(response)
    assert response.status_code == 200
    for name in ("latest.json", "shadow.json", "v3.json"):
        assert f"{name} cannot be read" in page.text


async def test_a_store_that_does_not_answer_is_asked_once(
    console: Console, read_page: ReadPage, stub_registry: Any, base_rate: ModelBundle, fill: Fill, home: Home
) -> None:
    class AwayStore:
        asked = 0

        def get(self, _symbol: str) -> FeatureVector:
            return self._refuse()

        def get_many(self, _symbols: object) -> Any:
            return self._refuse()

        def last_known_at_ms(self, _symbols: object) -> Any:
            return self._refuse()

        def _refuse(self) -> Any:
            self.asked += 1
            raise OnlineStoreError("Expected an answer of Redis, was none.")

    fill(home)
    stub_registry.hold(base_rate, 2)
    store = AwayStore()
    async with console(features=store) as client:
        page = read_page(await client.get("/"))
    assert page.text.count("Expected an answer of Redis, was none.") == 3
    assert store.asked == 2  # one for all forecasts, one for health


async def test_a_comparison_about_another_champion_is_not_shown(
    console: Console, read_page: ReadPage, stub_registry: Any, lightgbm_bundle: Bundles, fill: Fill, home: Home
) -> None:
    fill(home)
    stub_registry.hold(lightgbm_bundle(), 3)
    async with console() as client:
        page = read_page(await client.get("/"))
    assert "There is no challenger." in page.text
    assert "Another version is champion now." in page.text
    assert "the champion before" not in page.text


async def test_without_a_comparison_the_newest_candidate_is_shown_with_what_refused_it(
    console: Console, read_page: ReadPage, stub_registry: Any, base_rate: ModelBundle, fill: Fill, home: Home
) -> None:
    fill(home)
    (home.reports / "promotion" / "shadow.json").write_text('{"kind": "shadow", "action": "nothing to compare with"}')
    stub_registry.hold(base_rate, 1)
    async with console() as client:
        page = read_page(await client.get("/"))
    assert "Newest candidate Version 3 lightgbm ✗ refused Refused by 1 of 2 promotion gates." in page.text
    assert "Version 1, which answers, is the base rate: it always says the same." in page.text
    assert "Shown is version 3, which does not answer." in page.text


async def test_the_pages_files_are_ours_and_may_be_kept(console: Console) -> None:
    async with console() as client:
        text = (await client.get("/")).text
        for name, kind in (("console.css", "text/css"), ("console.js", "text/javascript"), ("icon.svg", "image/svg")):
            assert f'"/console/{name}?' in text
            file = await client.get(f"/console/{name}")
            assert file.status_code == 200
            assert file.headers["content-type"].startswith(kind)
            assert "immutable" in file.headers["cache-control"]
            assert file.headers["x-content-type-options"] == "nosniff"
            assert "http" not in file.text.replace("http://www.w3.org/2000/svg", "")
        missing = await client.get("/console/console.html")
    assert missing.status_code == 404


async def test_reports_are_handed_out_in_a_sandbox_and_nothing_else_is(
    console: Console, fill: Fill, home: Home, tmp_path: Path
) -> None:
    fill(home)
    (tmp_path / "secret.html").write_text("secret")
    (home.secrets / "key.html").write_text("secret")
    (home.reports / "backtests" / "leads_out.html").symlink_to(home.secrets / "key.html")
    (home.reports / "backtests" / ".hidden.html").write_text("secret")
    async with console() as client:
        for kind, name in (("backtests", "v2"), ("model_cards", "v3"), ("drift", "latest")):
            found = await client.get(f"/console/reports/{kind}/{name}")
            policy = found.headers["content-security-policy"]
            assert found.status_code == 200
            assert policy.startswith("sandbox")
            assert "allow-same-origin" not in policy
            assert "default-src 'none'" in policy
            assert ("allow-scripts" in policy) == (kind == "drift")
        for path in (
            "backtests/leads_out",
            "backtests/.hidden",
            "backtests/v2.html",
            "backtests/..%2Fdrift%2Flatest",
            "backtests/%2e%2e%2fdrift%2flatest",
            "backtests/..%5C..%5Csecrets%5Ckey",
            "..%2Fsecrets/key",
            "secrets/key",
            "quality/candles",
            "backtests/v2%00",
            f"backtests/{'a' * 5000}",
        ):
            missing = await client.get(f"/console/reports/{path}")
            assert missing.status_code == 404, path
            assert "secret" not in missing.text


async def test_a_report_is_read_again_only_when_it_changed(
    console: Console, read_page: ReadPage, fill: Fill, home: Home
) -> None:
    fill(home)
    path = home.reports / "drift" / "latest.json"
    async with console() as client:
        assert "1 critical and 1 moved" in read_page(await client.get("/")).text
        path.write_text(path.read_text().replace('"critical_features": 1', '"critical_features": 3'))
        assert "3 critical and 1 moved" in read_page(await client.get("/")).text
        path.unlink()
        assert "There is no drift report yet." in read_page(await client.get("/")).text


async def test_backtests_are_listed_by_when_they_were_written_and_told_apart(
    console: Console, read_page: ReadPage, fill: Fill, home: Home
) -> None:
    fill(home)
    folder = home.reports / "backtests"
    asked_for = folder / "b-0123456789abcdef.json"
    asked_for.write_text((folder / "v2.json").read_text())
    os.utime(folder / "v3.json", (1, 1))
    os.utime(folder / "v2.json", (2, 2))
    async with console() as client:
        page = read_page(await client.get("/"))
    places = [page.text.index(words) for words in ("b-0123456789abcdef", "Version 2 2025", "Version 3 2025")]
    assert places == sorted(places)


async def test_forecasts_are_silenced_by_the_kill_switch_as_those_that_are_served(
    console: Console,
    read_page: ReadPage,
    kill_switch: KillSwitch,
    stub_registry: Any,
    lightgbm_bundle: Bundles,
    features: SqliteOnlineStore,
    vector: Vector,
) -> None:
    stub_registry.hold(lightgbm_bundle(), 2)
    features.put([vector()])
    kill_switch.throw(True, "prices look wrong", "ada")
    async with console() as client:
        page = read_page(await client.get("/"))
    assert "the kill switch is on: prices look wrong" in page.text
    assert "▲ long" not in page.text


async def test_a_challenger_that_is_scored_live_is_shown_before_its_first_comparison(
    console: Console, read_page: ReadPage, stub_registry: Any, lightgbm_bundle: Bundles
) -> None:
    stub_registry.hold(lightgbm_bundle(), 4)
    challenger = ServedModel(lightgbm_bundle(), stub_registry.record, False, (), 0, from_cache=False)
    stub_registry.hold(lightgbm_bundle(), 2)
    async with console() as client:
        client._transport.app.state.services.operations.shadow.challenger = challenger  # type: ignore[attr-defined]
        page = read_page(await client.get("/"))
    assert "Version 4 lightgbm · in shadow: scored, not served" in page.text
    assert "Scored beside the champion, and not compared with it yet." in page.text
