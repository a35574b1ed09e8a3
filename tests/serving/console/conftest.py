"""Homes with and without reports, browsers of every role, and a reader of pages that forgives nothing."""

import importlib.util
import json
import sys
from collections.abc import Callable
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

from levibot_core.schemas import TIMESTAMP
from levibot_core.stores.kill_switch import KillSwitch
from levibot_core.stores.paths import Home
from levibot_core.validation.sequential_verdict import weigh
from levibot_serving.security.requests import SESSION_COOKIE

HOSTILE = "<script>alert(1)</script>\"'&"
_VOID = {"meta", "link", "input", "br", "img"}


@pytest.fixture(scope="session")
def browser_module() -> ModuleType:
    """The module `browser`, which is not importable by name: test folders are no packages."""
    name = "levibot_console_browser"
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("browser.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class Page(HTMLParser):
    """A page, read strictly: every element is closed in its turn, every id is there once."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = text
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._open: list[str] = []
        self._text: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open, f"never closed: {self._open}"
        ids = [attributes["id"] for _, attributes in self.elements if "id" in attributes]
        assert len(ids) == len(set(ids)), "an id is there twice"

    @property
    def text(self) -> str:
        """What a person reads, with single blanks."""
        return " ".join(" ".join(self._text).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of every element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute of <{tag}> is there twice"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1] == tag, f"</{tag}> closes <{self._open[-1]}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._text.append(data)


@pytest.fixture(scope="session")
def read_page() -> Callable[[httpx.Response], Page]:
    """Reads a page of the console and checks what holds for each of them."""

    def read(response: httpx.Response) -> Page:
        assert response.headers["content-type"].startswith("text/html")
        policy = response.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert response.headers["cache-control"] == "no-store"
        page = Page(response.text)
        for tag, attributes in page.elements:
            assert not [name for name in attributes if name == "style" or name.startswith("on")], (tag, attributes)
            for name in ("src", "href", "action"):
                assert attributes.get(name, "/").startswith(("/", "#")), (tag, attributes)
                assert not attributes.get(name, "").startswith("//")
        assert all("src" in script for script in page.all("script"))
        assert not page.all("style")
        assert [attributes["lang"] for attributes in page.all("html")] == ["en"]
        assert len(page.all("main")) == len(page.all("header")) == len(page.all("h1")) == 1
        labelled = {attributes["for"] for attributes in page.all("label") if "for" in attributes}
        for entry in page.all("input"):
            assert entry.get("type") in ("hidden", "checkbox") or entry["id"] in labelled, entry
        ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
        for section in page.all("section"):
            assert section["aria-labelledby"] in ids
        for link in page.all("a"):
            assert not link["href"].startswith("#") or link["href"][1:] in ids, link
        return page

    return read


@pytest.fixture
def kill_switch(home: Home) -> KillSwitch:
    """The switch of the home, as another process would see it."""
    return KillSwitch(home.kill_switch)


@pytest.fixture
def console(api: Callable[..., httpx.AsyncClient], visitors: Any) -> Callable[..., httpx.AsyncClient]:
    """A browser's client of the console: signed in by its cookie as that role, or as nobody."""

    def make(role: str | None = "viewer", **changes: object) -> httpx.AsyncClient:
        client = api(role=None, **changes)
        client.headers["Sec-Fetch-Site"] = "same-origin"
        if role is not None:
            client.cookies.set(SESSION_COOKIE, visitors.tokens[role])
        return client

    return make


def model_card(version: int, **changes: Any) -> dict[str, Any]:
    """As much of a card as the console reads."""
    gates = [
        {"gate": "leak_check", "passed": True, "found": "no leak found", "required": "none"},
        {"gate": "better_than_base_rate", "passed": False, "found": f"{HOSTILE} not below zero", "required": "below"},
    ]
    return {
        "created_at": "2026-01-02T03:04:05Z",
        "model": {"family": "lightgbm", "horizon_bars": 12, "version": version},
        "metrics": {"test": {"rows": 21315.0, "log_loss": 0.6927, "auc": 0.5213, "ece": 0.007, "base_rate": 0.5035}},
        "base_rate": {"probability": 0.4952, "log_loss": {"test": 0.6933}},
        "calibration": {"method": "venn_abers"},
        "reliability": {
            "predicted": [0.45, 0.48, 0.5, 0.52, 0.56],
            "observed": [0.44, 0.49, 0.5, 0.51, 0.57],
            "counts": [4263] * 5,
        },
        "provenance": {"source_kind": "recorded", "snapshot_id": "20260101T000000Z-0123456789ab"},
        "against_base_rate": {"reference": "the base rate", "mean": -0.0006, "lower_95": -0.002, "upper_95": 0.0009},
        "judgement": {"at": "2026-01-02T03:04:05Z", "gates": gates, "trading_gates": gates[1:]},
        **changes,
    }


@cache
def _verdict() -> dict[str, Any]:
    """Of a contender that is a little better, computed by what computes it every night."""
    blocks = 480
    generator = np.random.default_rng(7)
    decided = 1_767_225_600_000 + 3_600_000 * np.arange(blocks)
    noise = generator.normal(0.0, 0.02, blocks)
    frame = pl.DataFrame(
        {
            "decided_at": pl.Series(decided).cast(TIMESTAMP),
            "settled_at": pl.Series(decided + 3_600_000).cast(TIMESTAMP),
            "symbols": [3] * blocks,
            "contender_log_loss": 0.69 + noise,
            "reference_log_loss": np.full(blocks, 0.696),
            "contender_pnl": noise / 100,
            "reference_pnl": np.zeros(blocks),
        }
    )
    return weigh(frame, 1.386, 0.1).model_dump(mode="json")


def comparison(contender: int, reference: int, kind: str) -> dict[str, Any]:
    """What the nightly job leaves of a comparison."""
    return {
        "kind": kind,
        "contender": contender,
        "reference": reference,
        "action": "nothing to decide yet",
        "decisive": 20.0,
        "verdict": _verdict(),
    }


def backtest(version: int, source: str = "recorded files") -> dict[str, Any]:
    """As much of a backtest as the console reads, and a trade, which it does not."""
    figures = {"total_return": -0.0123, "sharpe": None, "max_drawdown": 0.034, "trades": 12}
    return {
        "context": {
            "title": f"Backtest of version {version}",
            "model_name": "levibot-5m-h12",
            "model_version": version,
            "source": source,
            "reasons": [f"it lost {HOSTILE}"],
        },
        "start": "2025-05-24T07:00:00.000+00:00",
        "end": "2025-06-18T00:00:00.000+00:00",
        "timeframe": "5m",
        "symbols": ["BTC/USDT", "ETH/USDT"],
        "metrics": {"strategy": figures, "buy_and_hold": {**figures, "sharpe": 1.25, "total_return": 0.2}},
        "trades": [{"symbol": "BTC/USDT"}],
    }


def drift() -> dict[str, Any]:
    """A drift report with one feature of every level, one of them with a hostile name."""
    features = [("fear_greed", 6.65, "critical"), (HOSTILE, 0.25, "warning"), ("return_1", 0.01, "ok")]
    return {
        "level": "warning",
        "champion_version": 2,
        "report_day": "2026-01-02",
        "critical_features": 1,
        "warning_features": 1,
        "features": [{"feature": name, "psi": psi, "level": level} for name, psi, level in features],
    }


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


@pytest.fixture
def fill() -> Callable[[Home], None]:
    """Leaves every report in a home that its pipelines would: version 2 is champion, 3 in shadow, 1 came before."""

    def write(home: Home) -> None:
        reports = home.reports
        for version in (2, 3):
            _write(reports / "model_cards" / f"v{version}.json", model_card(version))
            _write(reports / "model_cards" / f"v{version}.html", "<!doctype html><title>card</title>")
            _write(reports / "backtests" / f"v{version}.json", backtest(version))
        _write(reports / "backtests" / "v2.html", "<!doctype html><title>backtest</title><script>alert(1)</script>")
        _write(reports / "drift" / "latest.json", drift())
        _write(reports / "drift" / "latest.html", "<!doctype html><title>drift</title>")
        _write(reports / "promotion" / "shadow.json", comparison(3, 2, "shadow"))
        _write(reports / "promotion" / "champion_watch.json", comparison(2, 1, "champion_watch"))
        parity = {"replayed_at": "2026-01-02T03:04:05+00:00", "parity_compared_total": 4900}
        _write(home.parity_report, {**parity, "parity_mismatches_total": 0, "days": [], "differences": []})

    return write
