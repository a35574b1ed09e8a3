"""A headless Chromium, driven over the two pipes of its DevTools protocol: messages of JSON that end with a zero byte.

No library and no port is needed. The descriptors 3 and 4 of the browser are its end.
"""

import base64
import fcntl
import json
import os
import selectors
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-sync",
    "--mute-audio",
    "--remote-debugging-pipe",
)
_ABOVE = 10
_PATIENCE_S = 30.0


@dataclass
class Visit:
    """What happened while a page was loaded.

    Attributes:
        problems: Errors in the console, exceptions, and what a policy blocked.
        addresses: Every address that was asked for.
    """

    problems: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)


class Browser:
    """One browser with one page, for the length of a `with` block."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._folder = tempfile.mkdtemp(prefix="levibot-chromium-")
        self._number = 0
        self._session: str | None = None
        self._waiting = bytearray()
        self.visit = Visit()

    def __enter__(self) -> "Browser":
        theirs_in, self._to = os.pipe()
        self._from, theirs_out = os.pipe()
        # Out of the way of 3 and 4, which posix_spawn is about to fill.
        ours = [
            fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _ABOVE) for end in (theirs_in, theirs_out, self._to, self._from)
        ]
        for end in (theirs_in, theirs_out, self._to, self._from):
            os.close(end)
        theirs_in, theirs_out, self._to, self._from = ours
        quiet = os.open(os.devnull, os.O_RDWR)
        descriptors = ((quiet, 1), (quiet, 2), (theirs_in, 3), (theirs_out, 4))
        actions = [(os.POSIX_SPAWN_DUP2, old, new) for old, new in descriptors]
        command = [self._program, *OPTIONS, f"--user-data-dir={self._folder}", "about:blank"]
        self._pid = os.posix_spawn(
            self._program, command, {**os.environ, "HOME": self._folder}, file_actions=actions, setpgroup=0
        )
        for end in (quiet, theirs_in, theirs_out):
            os.close(end)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._from, selectors.EVENT_READ)
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        os.close(self._to)
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        self._selector.close()
        os.close(self._from)
        shutil.rmtree(self._folder, ignore_errors=True)

    def open(self, address: str, width: int, height: int = 844, dark: bool = False) -> Visit:
        """Load a page in a window of that many CSS pixels, and wait until all of it is there."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.visit = Visit()
        self.ask("Page.navigate", url=address)
        self._read(lambda message: message.get("method") == "Page.loadEventFired")
        return self.visit

    def follow(self, expression: str) -> Visit:
        """Evaluate what leads to another page, such as sending a form, and wait until all of that is there."""
        self.visit = Visit()
        self.evaluate(f"setTimeout(() => {{ {expression} }}, 0)")
        self._read(lambda message: message.get("method") == "Page.loadEventFired")
        return self.visit

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression; of a promise, what it comes to."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def picture(self) -> bytes:
        """The whole page as a PNG."""
        height = self.evaluate("document.documentElement.scrollHeight")
        width = self.evaluate("innerWidth")
        area = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        return base64.b64decode(self.ask("Page.captureScreenshot", clip=area, captureBeyondViewport=True)["data"])

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._number += 1
        number = self._number
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        answer = self._read(lambda message: message.get("id") == number)
        assert "error" not in answer, f"{method}: {answer['error']}"
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            while (end := self._waiting.find(b"\0")) >= 0:
                message: dict[str, Any] = json.loads(self._waiting[:end])
                del self._waiting[: end + 1]
                self._note(message)
                if wanted(message):
                    return message
            assert self._selector.select(max(0.0, deadline - time.monotonic())), "Chromium did not answer"
            part = os.read(self._from, 1 << 16)
            assert part, "Chromium ended"
            self._waiting += part

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.visit.addresses.append(parameters["request"]["url"])
            case "Runtime.exceptionThrown":
                self.visit.problems.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                self.visit.problems.append(str(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.visit.problems.append(str(parameters["entry"]))
