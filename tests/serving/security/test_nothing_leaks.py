"""Secrets stay out of logs, of the audit log, of answers and of files that others may read."""

import json
import logging
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import httpx
import pytest

from levibot_core.security.signing_keys import SigningKeysFile
from levibot_core.security.users import UsersFile
from levibot_core.stores.audit_log import AuditLog
from levibot_core.stores.paths import Home
from levibot_serving.config import ServingSettings
from levibot_serving.security.requests import SESSION_COOKIE

Serve = Callable[..., AbstractContextManager[httpx.Client]]


@contextmanager
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever the server's side logs, the access log included; the client knows its own secrets."""
    for client_side in ("httpcore", "httpx"):
        caplog.set_level(logging.CRITICAL, client_side)
    caplog.set_level(logging.DEBUG)  # Last: it sets what the handler takes as well.
    loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.access", "uvicorn.error")]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(caplog.handler)
    yield
    for logger in loggers:
        logger.removeHandler(caplog.handler)


def test_a_whole_day_at_the_door(
    serve: Serve, settings: ServingSettings, home: Home, visitors: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A real server with its access log, and everything that happens to tokens and passwords."""
    typed_by_mistake = "my real passphrase typed as a name"
    secrets = {visitors.password, typed_by_mistake, "wrong password!", *visitors.tokens.values()}
    with serve(settings, role=None) as client, everything_logged(caplog):
        given = {"username": "admin", "password": visitors.password}
        answer = client.post("/auth/login", json=given).json()
        renewed = client.post("/auth/refresh", json={"refresh_token": answer["refresh_token"]}).json()
        secrets |= {tokens[name] for tokens in (answer, renewed) for name in ("access_token", "refresh_token")}
        headers = {"Authorization": f"Bearer {renewed['access_token']}"}
        refusals = [
            client.post("/auth/login", json={"username": typed_by_mistake, "password": "wrong password!"}),
            client.post("/auth/login", json={"username": "admin", "password": "wrong password!"}),
            client.post("/auth/login", json={"username": "admin", "password": ["wrong password!"]}),
            client.post("/auth/login", content=f'{{"password": "{visitors.password}"', headers={"Content-Type": "x"}),
            client.post("/auth/refresh", json={"refresh_token": answer["refresh_token"]}),
            client.get("/auth/me", headers={"Authorization": f"Bearer {renewed['access_token']}x"}),
            client.get("/ai/models", headers=visitors.headers("service")),
        ]
        cookie = client.post("/auth/login", json={**given, "cookie": True})
        secrets.add(cookie.cookies[SESSION_COOKIE])
        client.post("/auth/logout", headers={"Sec-Fetch-Site": "same-origin"})
        client.cookies.clear()
        client.post("/auth/logout", headers=headers)
        metrics = client.get("/metrics", headers=visitors.headers("viewer")).text
        published = client.get("/openapi.json").text
    assert [response.status_code for response in refusals] == [401, 401, 422, 422, 401, 401, 403]
    secrets |= {key.secret for key in SigningKeysFile(home.signing_keys).read()}
    secrets |= {user.password_hash for user in UsersFile(home.users).read().values()}

    assert "GET /auth/me" in caplog.text
    assert '"POST /auth/login HTTP/1.1" 200' in caplog.text
    recorded = home.audit_log.read_text()
    told = "".join(response.text for response in refusals) + cookie.text + metrics + published
    logged = caplog.text + "".join(str(record.args) + str(record.__dict__) for record in caplog.records)
    for secret in secrets:
        assert secret not in recorded
        assert secret not in logged
        assert secret not in told
        assert secret not in repr(settings) + json.dumps(settings.model_dump(mode="json"))
    assert [record.event for record in AuditLog(home.audit_log).read() if record.event != "denied"] == [
        *("login", "login_failed", "login_failed", "refresh_refused", "login", "logout", "logout"),
    ]
    denied = [record.details["reason"] for record in AuditLog(home.audit_log).read() if record.event == "denied"]
    assert sorted(denied) == ["role", "token_forged"]
    assert 'levibot_auth_failures_total{reason="password"} 2.0' in metrics

    for path in (*home.secrets.iterdir(), home.audit_log):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(home.secrets.stat().st_mode) == 0o700

    assert AuditLog(home.audit_log).verify().intact
    home.audit_log.write_text(recorded.replace("login_failed", "login_done__", 1))
    assert not AuditLog(home.audit_log).verify().intact
