"""Alerts: kept whatever becomes of their delivery, posted to a real listener, and never with the address in sight."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from levibot_core.config import Settings, load_settings
from levibot_core.errors import ConfigurationError
from levibot_core.stores.paths import Home
from levibot_pipelines import alerts
from levibot_pipelines.alerts import ATTEMPTS, DELIVERED, NO_LISTENER, raise_alert, read_alerts, webhook_address

PLACE = "T0-nobody-else-knows"


class Listener:
    """A chat server: answers with the codes it was given, the last one for ever, and remembers what it was told."""

    def __init__(self) -> None:
        self.codes, self.told = [200], list[dict[str, Any]]()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                listener.told.append({"path": self.path, **json.loads(body)})
                self.send_response(listener.codes.pop(0) if len(listener.codes) > 1 else listener.codes[0])
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/{PLACE}"


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    monkeypatch.setattr(alerts, "_FIRST_WAIT_SECONDS", 0.001)
    monkeypatch.setattr(alerts, "_LONGEST_WAIT_SECONDS", 0.002)
    found = Listener()
    thread = threading.Thread(target=found.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


@pytest.fixture
def settings(home: Home) -> Settings:
    return load_settings(home=home.root)


@pytest.fixture
def webhook(home: Home) -> Callable[[str], Path]:
    """Writes the address of a webhook where it is looked for."""

    def write(address: str, mode: int = 0o600) -> Path:
        home.alert_webhook.write_text(f"{address}\n")
        home.alert_webhook.chmod(mode)
        return home.alert_webhook

    return write


def test_an_alert_is_kept_where_nobody_listens(settings: Settings, home: Home) -> None:
    raised = raise_alert(settings, home, "a test", "Something fell", "It was the vase.", {"pieces": 7})
    with home.alerts.open("a") as log:
        log.write('{"time": "2026-')  # A writer that was killed.
    assert raised.delivery == NO_LISTENER
    assert read_alerts(home) == [raised]


def test_a_listener_is_told_after_it_was_busy_and_the_address_is_nowhere_to_be_read(
    settings: Settings, home: Home, listener: Listener, webhook: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    webhook(listener.address)
    listener.codes = [503, 429, 200]
    with caplog.at_level(logging.DEBUG):
        raised = raise_alert(settings, home, "a test", "Something fell", "It was the vase.", {"pieces": 7})
    assert raised.delivery == DELIVERED
    assert [told["path"] for told in listener.told] == [f"/{PLACE}"] * 3
    told = listener.told[-1]
    assert (told["text"], told["details"], told["source"]) == (
        "Something fell\nIt was the vase.",
        {"pieces": 7},
        "a test",
    )
    assert PLACE not in home.alerts.read_text() + caplog.text


@pytest.mark.parametrize(("code", "asked", "said"), [(500, ATTEMPTS, "the answer 500"), (404, 1, "answered 404")])
def test_a_listener_that_refuses_hides_no_alert(
    settings: Settings,
    home: Home,
    listener: Listener,
    webhook: Callable[[str], Path],
    code: int,
    asked: int,
    said: str,
) -> None:
    webhook(listener.address)
    listener.codes = [code]
    raised = raise_alert(settings, home, "a test", "Something fell", "It was the vase.")
    assert len(listener.told) == asked
    assert said in raised.delivery
    assert PLACE not in home.alerts.read_text()


def test_nobody_at_the_address_is_said(
    settings: Settings, home: Home, listener: Listener, webhook: Callable[[str], Path]
) -> None:
    del listener  # For its short waits: another port is asked.
    webhook(f"http://127.0.0.1:1/{PLACE}")
    assert (
        raise_alert(settings, home, "a test", "t", "x").delivery
        == f"failed {ATTEMPTS} times, at last with ConnectError"
    )


@pytest.mark.parametrize(
    ("address", "mode", "said"),
    [
        ("https://chat.example/T0", 0o640, "chmod 600"),
        ("http://chat.example/T0", 0o600, "https://"),
        ("chat.example/T0", 0o600, "https://"),
    ],
)
def test_an_address_that_is_no_secret_or_none_is_refused_with_what_to_do(
    settings: Settings, home: Home, webhook: Callable[..., Path], address: str, mode: int, said: str
) -> None:
    webhook(address, mode)
    with pytest.raises(ConfigurationError, match=said) as refused:
        webhook_address(settings, home)
    assert "T0" not in str(refused.value)
    assert raise_alert(settings, home, "a test", "t", "x").delivery.startswith("failed: Expected")


def test_a_file_that_was_named_has_to_be_there(home: Home, tmp_path: Path) -> None:
    settings = load_settings(home=home.root, alert_webhook_file=tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="there is no such file"):
        webhook_address(settings, home)


def test_the_commands_show_the_alerts_and_whether_anybody_is_told(
    home: Home,
    listener: Listener,
    webhook: Callable[[str], Path],
    run_levibot: Callable[..., tuple[int, str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LEVIBOT_HOME", str(home.root))
    assert run_levibot("alerts", "test", "--json")[0] == 1
    webhook(listener.address)
    code, shown, _ = run_levibot("alerts", "test", "--json")
    assert (code, json.loads(shown)["delivered"]) == (0, True)
    newest, first = json.loads(run_levibot("alerts", "list", "--json")[1])
    assert (newest["delivery"], first["delivery"]) == (DELIVERED, NO_LISTENER)
    assert "A test of the alerts" in run_levibot("alerts", "list")[1]
