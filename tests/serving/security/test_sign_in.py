import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from levibot_core.security import sessions as sessions_module
from levibot_core.security.passwords import PasswordHashes
from levibot_core.security.users import UsersFile
from levibot_core.stores.audit_log import AuditLog
from levibot_core.stores.paths import Home
from levibot_serving.config import ServingSettings, load_serving_settings
from levibot_serving.main import create_app
from levibot_serving.security.requests import SESSION_COOKIE

pytestmark = pytest.mark.anyio

Api = Callable[..., httpx.AsyncClient]
ErrorOf = Callable[[httpx.Response], dict[str, Any]]
OWN = {"Sec-Fetch-Site": "same-origin"}


async def sign_in(client: httpx.AsyncClient, name: str = "viewer", password: str = "four unrelated words", **more: Any):  # type: ignore[no-untyped-def]
    return await client.post("/auth/login", json={"username": name, "password": password, **more})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_a_password_opens_a_session_and_the_session_ends(api: Api) -> None:
    async with api(role=None) as client:
        answer = (await sign_in(client, "service")).json()
        assert (answer["name"], answer["role"], answer["token_type"], answer["expires_in"]) == (
            *("service", "service"),
            *("bearer", 900),
        )
        headers = bearer(answer["access_token"])
        assert (await client.get("/auth/me", headers=headers)).json() == {"name": "service", "role": "service"}
        assert "set-cookie" not in (await client.post("/auth/refresh", json={"refresh_token": "x.y"})).headers

        renewed = (await client.post("/auth/refresh", json={"refresh_token": answer["refresh_token"]})).json()
        assert renewed["refresh_token"] != answer["refresh_token"]
        assert (await client.get("/auth/me", headers=bearer(renewed["access_token"]))).status_code == 200

        assert (await client.post("/auth/logout", headers=headers)).json() == {"ok": True}
        for token in (answer["access_token"], renewed["access_token"]):
            assert (await client.get("/auth/me", headers=bearer(token))).status_code == 401
        refused = await client.post("/auth/refresh", json={"refresh_token": renewed["refresh_token"]})
        assert refused.status_code == 401


async def test_who_does_not_exist_and_who_is_mistaken_get_the_same_answer(api: Api, error_of: ErrorOf) -> None:
    async with api(role=None) as client:
        unknown, mistaken = await sign_in(client, "nobody"), await sign_in(client, password="five unrelated words")
    assert (unknown.status_code, mistaken.status_code) == (401, 401)
    first, second = error_of(unknown), error_of(mistaken)
    assert (first["code"], first["message"]) == (second["code"], second["message"])


async def test_both_are_checked_with_the_same_work(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    def verify(_self: object, password_hash: str, _password: bytes) -> bool:
        checked.append(password_hash.split("$")[3])
        return False

    monkeypatch.setattr("levibot_serving.security.sign_in.PasswordHashes", PasswordHashes)
    monkeypatch.setattr("argon2.PasswordHasher.verify", verify)
    async with api(role=None) as client:
        for name in ("nobody", "viewer"):
            assert (await sign_in(client, name)).status_code == 401
    # One hash each; that of nobody has the parameters that new hashes have.
    assert checked == ["m=65536,t=3,p=4", "m=8,t=1,p=1"]


async def test_a_refresh_token_that_comes_back_ends_the_session(
    api: Api, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions_module, "RETRY_SECONDS", -1.0)
    async with api(role=None) as client:
        first = (await sign_in(client)).json()
        second = (await client.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})).json()
        stolen = await client.post("/auth/refresh", json={"refresh_token": first["refresh_token"]})
        assert stolen.status_code == 401
        assert (await client.get("/auth/me", headers=bearer(second["access_token"]))).status_code == 401
    records = [record for record in AuditLog(home.audit_log).read() if record.event == "refresh_refused"]
    assert [(record.actor, record.details["reason"]) for record in records] == [("viewer", "reused")]


async def test_a_changed_password_ends_what_it_opened(api: Api, home: Home, visitors: Any) -> None:
    async with api(role=None) as client:
        tokens = (await sign_in(client)).json()
        UsersFile(home.users, visitors.hashes).set_password("viewer", "another four unrelated words")
        refused = await client.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})
        assert refused.status_code == 401
        assert (await client.get("/auth/me", headers=bearer(tokens["access_token"]))).status_code == 401
        assert (await sign_in(client)).status_code == 401
        assert (await sign_in(client, password="another four unrelated words")).status_code == 200


@pytest.mark.usefixtures("clock")
async def test_attempts_are_limited_for_the_address_and_for_the_name(
    home: Home, visitors: Any, error_of: ErrorOf
) -> None:
    visitors.move_in(home)
    app = create_app(load_serving_settings(home=home.root, login_attempts_per_minute=2))

    def client(address: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=app, client=(address, 1))
        return httpx.AsyncClient(transport=transport, base_url="http://levibot")

    statuses: dict[str, list[int]] = {}
    for address in ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"):
        async with client(address) as from_there:
            answers = [await sign_in(from_there, password="five unrelated words") for _ in range(3)]
        statuses[address] = [answer.status_code for answer in answers]
        assert error_of(answers[-1])["code"] == "rate_limited"
        assert 0 < int(answers[-1].headers["retry-after"]) <= 60
    assert list(statuses.values()) == [[401, 401, 429]] * 3 + [[429, 429, 429]]


@pytest.mark.parametrize(
    "body",
    [{}, {"username": "viewer"}, {"username": "", "password": "x"}, {"username": "viewer", "password": "x" * 257}, []],
)
async def test_a_form_that_does_not_fit_is_refused_without_repeating_it(api: Api, body: Any) -> None:
    async with api(role=None) as client:
        response = await client.post("/auth/login", json=body)
    assert response.status_code == 422
    assert "xxx" not in response.text


async def test_a_browser_gets_a_cookie_that_scripts_cannot_read(api: Api) -> None:
    async with api(role=None) as client:
        answer = await sign_in(client, cookie=True)
        cookie = answer.headers["set-cookie"]
        assert answer.json()["access_token"] is None
        assert answer.json()["refresh_token"] is None
        attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "samesite=strict", "path=/", "max-age=28800"} <= attributes
        assert "secure" not in attributes
        assert (await client.get("/auth/me")).json()["name"] == "viewer"

        for foreign in (
            {},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site", "Origin": "http://levibot"},
            {"Origin": "http://elsewhere.example"},
            {"Origin": "null"},
        ):
            assert (await client.post("/auth/logout", headers=foreign)).status_code == 403
        left = await client.post("/auth/logout", headers={"Origin": "http://levibot"})
        assert left.status_code == 200
        assert f'{SESSION_COOKIE}=""' in left.headers["set-cookie"]
        assert (await client.get("/auth/me")).status_code == 401


async def test_another_site_cannot_sign_somebody_in(api: Api) -> None:
    given = {"username": "viewer", "password": "four unrelated words"}
    async with api(role=None) as client:
        for foreign in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://elsewhere.example"}):
            assert (await client.post("/auth/login", json=given, headers=foreign)).status_code == 403
        assert (await client.post("/auth/login", json=given, headers=OWN)).status_code == 200


async def test_the_cookie_stays_on_https_where_a_trusted_proxy_says_so(
    settings: ServingSettings, visitors: Any
) -> None:
    visitors.move_in(settings.folders)
    forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "203.0.113.9"}
    for proxies, secure in (("127.0.0.1/32", True), ("10.0.0.0/8", False)):
        app = create_app(load_serving_settings(home=settings.home, trusted_proxies=proxies))
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://levibot", headers=forwarded) as client:
            assert ("secure" in (await sign_in(client, cookie=True)).headers["set-cookie"].lower()) is secure


async def test_files_that_cannot_be_used_are_named_in_the_log_alone(
    api: Api, home: Home, error_of: ErrorOf, caplog: pytest.LogCaptureFixture
) -> None:
    async with api(role=None) as client:
        home.users.chmod(0o644)
        response = await sign_in(client)
    assert response.status_code == 503
    assert str(home.root) not in response.text
    assert error_of(response)["code"] == "unavailable"
    assert f"{home.users} to be readable by its owner alone" in caplog.text


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


_FIELDS = st.fixed_dictionaries(
    {}, optional={"username": _JSON, "password": _JSON, "cookie": _JSON, "refresh_token": _JSON}
)


@pytest.fixture
def stranger(api: Api) -> httpx.AsyncClient:
    return api(role=None)


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(["/auth/login", "/auth/refresh"]), body=_FIELDS | _JSON)
@example(path="/auth/login", body={"username": "\ud800", "password": "\ud800"})
@example(path="/auth/refresh", body={"refresh_token": "\ud800.\ud800"})
async def test_nothing_that_is_sent_makes_it_fail(stranger: httpx.AsyncClient, path: str, body: object) -> None:
    response = await stranger.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert response.status_code in (401, 422, 429)
