"""A load generator for HTTP/1.1 with keep-alive, whose own cost is small and the same for every server.

A raw asyncio protocol per client: the request is bytes made once, and of a response only what tells where it ends is
read. Run as a process of its own (`run_load`), so that neither the server nor who reports shares its interpreter.
Closed loop: every client asks again as soon as it was answered. Open loop (`rate`): requests leave on a fixed schedule,
and latency counts from when a request should have left, so that a server that stalls is not asked less.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, cast

from benchmarks.harness import ROOT, BenchmarkError

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Target:
    """One request, asked again and again."""

    port: int
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str | None = None

    def encoded(self) -> bytes:
        """The request as it goes over the wire."""
        content = b"" if self.body is None else self.body.encode()
        lines = [f"{'GET' if self.body is None else 'POST'} {self.path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.body is not None:
            lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
        return "\r\n".join([*lines, "", ""]).encode() + content


@dataclass(frozen=True, slots=True)
class Load:
    """How hard a target is asked.

    Attributes:
        clients: Connections, each with one request at a time.
        seconds: For how long, after the warm-up.
        warm_up_s: Time whose requests are not counted.
        rate: Requests per second over all clients on a fixed schedule; None asks as fast as answers come.
        windows_s: Length of the windows that are reported one by one; 0 reports none.
    """

    clients: int
    seconds: float
    warm_up_s: float = 1.0
    rate: float | None = None
    windows_s: float = 0.0


def run_load(target: Target, load: Load) -> dict[str, Any]:
    """Ask in a process of its own, and wait for the result.

    Returns:
        `requests` and `requests_with_warm_up`, `seconds`, `requests_per_second`, `p50_ms`, `p95_ms`, `p99_ms`,
        `largest_ms`, `statuses` (count per status), `errors` (connections that broke) and `p95_ms_by_window`.

    Raises:
        BenchmarkError: the generator failed, or nothing was answered.
    """
    arguments = json.dumps({"target": asdict(target), "load": asdict(load)})
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks.http_load"],
        input=arguments,
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if ended.returncode:
        raise BenchmarkError(f"Expected the load generator to end well, but:\n{ended.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(ended.stdout)
    if not result["requests"]:
        raise BenchmarkError(f"Expected answers of port {target.port}, was none: {result}")
    return result


class _Client(asyncio.Protocol):
    """One connection: sends a request and knows when its response is whole."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._answered: asyncio.Future[int] | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(exc or ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        head_end = received.find(b"\r\n\r\n")
        if head_end >= 0 and len(received) >= head_end + 4 + _content_length(received[:head_end]):
            self._received = b""
            if self._answered is not None and not self._answered.done():
                self._answered.set_result(int(received[9:12]))
        else:
            self._received = received

    async def ask(self, request: bytes) -> int:
        """The status of the answer."""
        assert self._transport is not None  # noqa: S101 - it is connected
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answered

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _content_length(head: bytes) -> int:
    place = head.lower().find(b"content-length:")
    if place < 0:
        raise BenchmarkError(f"Expected a response with a length, was {head[:300]!r}.")
    return int(head[place + 15 :].split(b"\r\n", 1)[0])


class _Measurement:
    """What the clients of one run found, since the warm-up ended."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.begin = time.perf_counter() + load.warm_up_s
        self.end = self.begin + load.seconds
        self.latencies: list[tuple[float, float]] = []
        self.statuses: Counter[int] = Counter()
        self.errors = 0
        self.all = 0

    def note(self, began: float, ended: float, status: int) -> None:
        self.all += 1
        if self.begin <= began and ended <= self.end:
            self.latencies.append((began, (ended - began) * 1e3))
            self.statuses[status] += 1

    def result(self) -> dict[str, Any]:
        times = sorted(latency for _, latency in self.latencies)
        answered = len(times)
        windows: dict[int, list[float]] = {}
        if self.load.windows_s:
            for began, latency in self.latencies:
                windows.setdefault(int((began - self.begin) / self.load.windows_s), []).append(latency)
        return {
            "requests": answered,
            "requests_with_warm_up": self.all,
            "seconds": self.load.seconds,
            "requests_per_second": answered / self.load.seconds,
            "p50_ms": _percentile(times, 50),
            "p95_ms": _percentile(times, 95),
            "p99_ms": _percentile(times, 99),
            "largest_ms": times[-1] if times else None,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "errors": self.errors,
            "p95_ms_by_window": [_percentile(sorted(found), 95) for _, found in sorted(windows.items())],
        }


def _percentile(ordered: list[float], percent: int) -> float | None:
    """Nearest rank."""
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else None


async def _measure(target: Target, load: Load) -> dict[str, Any]:
    request, measurement = target.encoded(), _Measurement(load)
    async with asyncio.timeout(load.warm_up_s + load.seconds + _TIMEOUT_S), asyncio.TaskGroup() as tasks:
        for place in range(load.clients):
            tasks.create_task(_ask_until_the_end(target.port, request, measurement, place))
    return measurement.result()


async def _ask_until_the_end(port: int, request: bytes, measurement: _Measurement, place: int) -> None:
    load, client = measurement.load, await _connect(port)
    period = None if load.rate is None else load.clients / load.rate
    due = time.perf_counter() + (0.0 if period is None else period * place / load.clients)
    while (now := time.perf_counter()) < measurement.end:
        if period is not None:
            if due > now:
                await asyncio.sleep(due - now)
            began, due = due, due + period
        else:
            began = now
        try:
            if client.closed:
                client = await _connect(port)
            status = await client.ask(request)
            measurement.note(began, time.perf_counter(), status)
        except OSError:
            measurement.errors += 1
            await asyncio.sleep(0.01)
    client.close()


async def _connect(port: int) -> _Client:
    _, client = await asyncio.get_running_loop().create_connection(_Client, "127.0.0.1", port)
    return client


def main() -> None:
    """Read what to do as JSON from standard input, and write the result to standard output."""
    import uvloop

    arguments = json.loads(sys.stdin.read())
    target, load = Target(**arguments["target"]), Load(**arguments["load"])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.stdout.write(json.dumps(runner.run(_measure(target, load))))


if __name__ == "__main__":
    main()
