import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import httpx
import pytest

from levibot_core.errors import ConfigurationError, LevibotError
from levibot_core.stores.paths import Home
from levibot_pipelines.servers import Ports, Server, free_ports_or_refuse, run_servers, server_commands


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_port_in_use_is_refused_by_name() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = int(other.getsockname()[1])

        with pytest.raises(ConfigurationError, match=rf"port {taken} to be free.*LEVIBOT_MLFLOW_PORT"):
            free_ports_or_refuse(Ports(_free_port(), taken, _free_port()))


def test_servers_listen_on_this_machine_alone(home: Home) -> None:
    for server in server_commands(home, Path.cwd(), Ports(3000, 5000, 8000)):
        assert "127.0.0.1" in server.command
        assert server.environment["LEVIBOT_HOME"] == str(home.root)


def test_a_server_that_ends_by_itself_is_an_error_that_shows_its_log(home: Home) -> None:
    dying = Server(
        "dying",
        "Dying server",
        (sys.executable, "-c", "print('cannot go on'); raise SystemExit(3)"),
        {},
        home.root,
        "http://127.0.0.1:1",
        "http://127.0.0.1:1",
    )

    with pytest.raises(LevibotError, match=r"(?s)Dying server ended by itself \(exit code 3\).*cannot go on"):
        run_servers([dying], home.logs, os.environ, on_state=lambda *_: None)


def test_a_signal_stops_the_server_and_the_children_it_started(home: Home, tmp_path: Path) -> None:
    port, child_file = _free_port(), tmp_path / "child.pid"
    script = tmp_path / "supervise.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import os, sys
            from pathlib import Path
            from levibot_pipelines.servers import Server, run_servers

            code = '''
            import subprocess, sys
            from pathlib import Path
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            Path({str(child_file)!r}).write_text(str(child.pid))
            import http.server
            http.server.HTTPServer(("127.0.0.1", {port}), http.server.SimpleHTTPRequestHandler).serve_forever()
            '''.replace("\\n            ", "\\n")
            url = "http://127.0.0.1:{port}/"
            server = Server("s", "Server", (sys.executable, "-c", code), {{}}, Path({str(home.root)!r}), url, url)
            show = lambda server, state: print(state, flush=True)
            run_servers([server], Path({str(home.logs)!r}), os.environ, on_state=show)
            """
        )
    )
    supervisor = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    try:
        # The server may answer before the supervisor has asked it: what counts is what the supervisor has seen.
        seen = [supervisor.stdout.readline().rstrip(), supervisor.stdout.readline().rstrip()]
        child = int(child_file.read_text())
        supervisor.send_signal(signal.SIGINT)
        remaining, _ = supervisor.communicate(timeout=30)
    finally:
        supervisor.kill()
        supervisor.wait()

    assert supervisor.returncode == 0
    assert [*seen, *remaining.splitlines()] == ["starting", f"ready at http://127.0.0.1:{port}/", "stopped"]
    _wait_for(lambda: not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_bytes())


def _wait_for(condition: object, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():  # type: ignore[operator]
                return
        except (httpx.HTTPError, OSError):
            pass
        time.sleep(0.1)
    pytest.fail(f"the condition did not come true within {seconds:.0f} s")
