"""The console in a real browser: nothing in its console, nothing from elsewhere, nothing to scroll sideways to."""

import os
import shutil
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from levibot_core.models.bundle import ModelBundle
from levibot_core.stores.online import FeatureVector, SqliteOnlineStore
from levibot_core.stores.paths import Home
from levibot_serving.cache import ModelCache
from levibot_serving.config import ServingSettings
from levibot_serving.registry import ModelRecord

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser(browser_module: ModuleType) -> Iterator[Any]:
    """A running browser: the one of LEVIBOT_CHROMIUM, or one on PATH, or a skip that says why."""
    program = os.environ.get("LEVIBOT_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip("There is no Chromium on PATH, and LEVIBOT_CHROMIUM names none")
    with browser_module.Browser(program) as opened:
        yield opened


@pytest.fixture
def full_home(
    settings: ServingSettings,
    home: Home,
    fill: Callable[[Home], None],
    lightgbm_bundle: Callable[..., ModelBundle],
    features: SqliteOnlineStore,
    vector: Callable[..., FeatureVector],
) -> ServingSettings:
    """A home with every report, whose model is served from the local cache: no registry is asked."""
    fill(home)
    bundle = lightgbm_bundle()
    tags = {"tradable": "false", "reasons": '["a reason that is a long sentence, as they are when a gate refused it"]'}
    record = ModelRecord(
        name=bundle.manifest.model_name, version=2, created_ms=1, source="m-2", aliases=("champion",), tags=tags
    )
    cache = ModelCache(settings.folders.root / "serving")
    cache.add(record, lambda folder: bundle.save(folder / "bundle"))
    cache.remember(record)
    features.put([vector(), vector(symbol="ETH/USDT", known_at_ms=0)])
    return settings


def test_the_console_works_in_a_browser_on_a_phone_and_on_a_desktop(
    browser: Any, serve: Callable[..., Any], full_home: ServingSettings, visitors: Any
) -> None:
    client: httpx.Client
    with serve(full_home) as client:
        client.get("/")
        address = str(client.base_url)
        assert browser.open(address, 390).problems == []  # leads to the sign-in page
        browser.evaluate("document.querySelector('#name').value = 'admin'")
        browser.evaluate(f"document.querySelector('#password').value = '{visitors.password}'")
        assert browser.follow("document.querySelector('form').requestSubmit()").problems == []
        assert browser.evaluate("[location.pathname, document.cookie]") == ["/", ""]
        for width, dark in ((390, False), (1280, True)):
            visit = browser.open(address, width, dark=dark)
            assert visit.problems == []
            assert {urlsplit(address).netloc for address in visit.addresses} == {client.base_url.netloc.decode()}
            assert browser.evaluate(WIDER) == 0
            assert browser.evaluate("document.querySelectorAll('section').length") == 8
        # What the script does every five seconds, now: what changed is replaced, and opened and focused parts stay so.
        browser.evaluate("document.querySelector('#calibration details').open = true")
        browser.evaluate("document.querySelector('#calibration summary').focus()")
        for panel in ("calibration", "drift"):
            browser.evaluate(f"document.querySelector('#{panel} h2').textContent = 'changed'")
        browser.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        waited = (
            "new Promise((done) => { const look = () => document.querySelector('#drift h2').textContent === 'Drift' ?"
            " done(true) : setTimeout(look, 20); look(); })"
        )
        assert browser.evaluate(waited)
        assert "changed" not in browser.evaluate("document.querySelector('#calibration h2').textContent")
        assert browser.evaluate("document.querySelector('#calibration details').open")
        assert browser.evaluate("document.activeElement === document.querySelector('#calibration summary')")
        visit = browser.open(str(client.base_url.join("/docs")), 390)
        assert visit.problems == []
        assert browser.evaluate(WIDER) == 0
        # The kill switch by its form, as an administrator throws it.
        browser.open(address, 390)
        browser.evaluate("document.querySelector('#kill-reason').value = 'prices look wrong'")
        browser.evaluate("document.querySelector('[name=confirmed]').checked = true")
        assert browser.follow("document.querySelector('form.kill').requestSubmit()").problems == []
        assert "KILL SWITCH ON" in browser.evaluate("document.querySelector('#warnings').textContent")
        assert browser.evaluate("location.hash") == "#kill-switch"
        # A report page has no origin to take a cookie from, and its script does not run: an alert would wait for ever.
        browser.open(str(client.base_url.join("/console/reports/backtests/v2")), 390)
        assert browser.evaluate("[self.origin, document.title]") == ["null", "backtest"]
