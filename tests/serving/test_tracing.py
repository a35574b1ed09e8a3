"""Traces: nothing without a collector, OTLP over HTTP with one."""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from levibot_serving.tracing import telemetry_of

PROGRAM = """
import asyncio
import httpx
from levibot_serving.main import create_app

async def ask():
    app = create_app()
    received, answers = asyncio.Queue(), asyncio.Queue()
    await received.put({"type": "lifespan.startup"})
    life = asyncio.ensure_future(app({"type": "lifespan", "asgi": {"version": "3.0"}}, received.get, answers.put))
    assert (await answers.get())["type"] == "lifespan.startup.complete"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://levibot") as client:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        for path in ("/livez", "/ai/models"):
            await client.get(path, headers={"traceparent": trace})
    await received.put({"type": "lifespan.shutdown"})
    await life

asyncio.run(ask())
"""


class Collector(http.server.BaseHTTPRequestHandler):
    """Keeps what is sent to it."""

    received: list[tuple[str, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received.append((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    received: list[tuple[str, bytes]] = []
    handler = type("Handler", (Collector,), {"received": received})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", received
        server.shutdown()
        thread.join()


def test_without_a_collector_nothing_is_traced() -> None:
    off = telemetry_of({"OTEL_EXPORTER_OTLP_ENDPOINT": ""})
    assert not any(off[key] for key in ("tracing", "metrics", "logs", "operation_spans", "auto_configure"))


def test_with_a_collector_requests_become_spans_of_the_callers_trace_and_probes_do_not(
    tmp_path: Path, collector: tuple[str, list[tuple[str, bytes]]]
) -> None:
    url, received = collector
    environment = {**os.environ, "LEVIBOT_HOME": str(tmp_path), "OTEL_EXPORTER_OTLP_ENDPOINT": url}
    subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True)
    assert {path for path, _ in received} == {"/v1/traces"}
    spans = b"".join(body for _, body in received)
    assert bytes.fromhex("0af7651916cd43dd8448eb211c80319c") in spans
    assert b"/ai/models" in spans
    assert b"levibot-inference" in spans
    assert b"/livez" not in spans
