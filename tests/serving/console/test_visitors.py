"""Signing in and out, and the kill switch's form: who may, who may not, and from where."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from levibot_core.stores.audit_log import AuditLog
from levibot_core.stores.kill_switch import KillState, KillSwitch
from levibot_core.stores.paths import Home

pytestmark = pytest.mark.anyio

Console = Callable[..., httpx.AsyncClient]
ReadPage = Callable[[httpx.Response], Any]

KILL = {"on": "true", "reason": "prices look wrong", "confirmed": "yes"}


def token_on(page: Any) -> str:
    """The token that the forms of a page carry."""
    (token,) = {field["value"] for field in page.all("input") if field.get("name") == "csrf_token"}
    return str(token)


async def test_whoever_is_not_signed_in_is_sent_to_sign_in(console: Console, kill_switch: KillSwitch) -> None:
    async with console(None) as client:
        for path in ("/", "/sign-out", "/console/reports/drift/latest"):
            response = await client.get(path)
            assert (response.status_code, response.headers["location"]) == (303, "/sign-in"), path
        response = await client.post("/console/kill-switch", data=KILL)
        assert (response.status_code, response.headers["location"]) == (303, "/sign-in")
    assert kill_switch.state == KillState()


async def test_engines_have_no_business_here(console: Console, visitors: Any, read_page: ReadPage) -> None:
    async with console("service") as client:
        assert (await client.get("/")).status_code == 403
    async with console(None) as client:
        refused = await client.post("/sign-in", data={"name": "service", "password": visitors.password})
    assert refused.status_code == 403
    assert "set-cookie" not in refused.headers
    assert "was that of an engine" in read_page(refused).text


async def test_a_person_signs_in_and_out(console: Console, visitors: Any, read_page: ReadPage) -> None:
    async with console(None) as client:
        form = read_page(await client.get("/sign-in"))
        assert [field["autocomplete"] for field in form.all("input")] == ["username", "current-password"]
        begun = await client.post("/sign-in", data={"name": " viewer ", "password": visitors.password})
        assert (begun.status_code, begun.headers["location"]) == (303, "/")
        assert {"HttpOnly", "SameSite=strict"} <= set(begun.headers["set-cookie"].split("; "))
        assert "viewer viewer Sign out" in read_page(await client.get("/")).text
        page = read_page(await client.get("/sign-out"))
        assert "You are signed in as viewer (viewer)." in page.text
        assert (await client.post("/sign-out", data={"csrf_token": "of another"})).status_code == 403
        ended = await client.post("/sign-out", data={"csrf_token": token_on(page)})
        assert ended.status_code == 303
        assert "You are signed out." in read_page(await client.get(ended.headers["location"])).text
        assert (await client.get("/")).status_code == 303


async def test_a_refused_sign_in_says_no_more_than_that(console: Console, read_page: ReadPage) -> None:
    async with console(None) as client:
        for name in ("admin", "nobody", "<b>bold</b>"):
            answer = await client.post("/sign-in", data={"name": name, "password": "a guess"})
            assert answer.status_code == 401
            assert "set-cookie" not in answer.headers
            assert "one is wrong" in read_page(answer).text
            assert "a guess" not in answer.text
        # More than ten a minute: twenty-five are, wherever a minute ends.
        answers = [await client.post("/sign-in", data={"name": "admin", "password": "a guess"}) for _ in range(25)]
    flooded = answers[-1]
    assert flooded.status_code == 429
    assert int(flooded.headers["retry-after"]) > 0
    assert "Sign in" in read_page(flooded).text


async def test_an_admin_throws_the_switch_with_a_reason_and_turns_it_off_again(
    console: Console, kill_switch: KillSwitch, read_page: ReadPage, home: Home
) -> None:
    async with console("admin") as client:
        token = token_on(read_page(await client.get("/")))
        form = {**KILL, "csrf_token": token, "reason": "  prices \n look wrong "}
        thrown = await client.post("/console/kill-switch", data=form)
        assert (thrown.status_code, thrown.headers["location"]) == (303, "/#kill-switch")
        page = read_page(await client.get("/"))
        assert "KILL SWITCH ON: NOTHING MAY BE TRADED. prices look wrong" in page.text
        assert "Turned on by admin" in page.text
        assert "Turn it off: allow trading" in page.text
        assert page.source.count("KILLED · ") == 1
        await client.post(
            "/console/kill-switch", data={**KILL, "csrf_token": token, "on": "false", "reason": "feed is back"}
        )
        assert not kill_switch.state.active
    recorded = [record for record in AuditLog(home.audit_log).read() if record.event == "kill_switch"]
    assert [(record.actor, record.details) for record in recorded] == [
        ("admin", {"on": True, "reason": "prices look wrong"}),
        ("admin", {"on": False, "reason": "feed is back"}),
    ]


@pytest.mark.parametrize("role", ["trader", "viewer"])
async def test_others_see_the_state_and_cannot_throw_it(
    console: Console, kill_switch: KillSwitch, read_page: ReadPage, role: str
) -> None:
    async with console(role) as client:
        page = read_page(await client.get("/"))
        refused = await client.post("/console/kill-switch", data={**KILL, "csrf_token": token_on(page)})
    assert "Only administrators may throw it." in page.text
    assert [form["action"] for form in page.all("form")] == ["/sign-out"]
    assert refused.status_code == 403
    assert kill_switch.state == KillState()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"reason": " a "}, 400),
        ({"reason": "x" * 201}, 400),
        ({"confirmed": ""}, 400),
        ({"on": "maybe"}, 400),
        ({"csrf_token": ""}, 403),
        ({"csrf_token": "é"}, 403),
        ({"padding": "x" * 5000}, 413),
        ({f"field{number}": "x" for number in range(20)}, 400),
    ],
)
async def test_a_form_that_is_not_whole_changes_nothing(
    console: Console, kill_switch: KillSwitch, read_page: ReadPage, changes: dict[str, str], status: int
) -> None:
    async with console("admin") as client:
        token = token_on(read_page(await client.get("/sign-out")))
        response = await client.post("/console/kill-switch", data={**KILL, "csrf_token": token, **changes})
    assert response.status_code == status
    assert kill_switch.state == KillState()


@pytest.mark.parametrize("header", [{"Origin": "https://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_forms_of_other_sites_are_refused(
    console: Console, kill_switch: KillSwitch, read_page: ReadPage, header: dict[str, str]
) -> None:
    async with console("admin") as client:
        form = {**KILL, "csrf_token": token_on(read_page(await client.get("/sign-out")))}
        del client.headers["Sec-Fetch-Site"]
        for path in ("/console/kill-switch", "/sign-in", "/sign-out"):
            assert (await client.post(path, data=form, headers=header)).status_code == 403
    assert kill_switch.state == KillState()


async def test_only_forms_are_read(console: Console, kill_switch: KillSwitch) -> None:
    async with console("admin") as client:
        as_json = await client.post("/console/kill-switch", json=KILL)
        torn = await client.post(
            "/console/kill-switch",
            content=b"reason=\xff%ff",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
    assert (as_json.status_code, torn.status_code) == (415, 400)
    assert kill_switch.state == KillState()


async def test_a_switch_that_cannot_be_thrown_says_why(console: Console, read_page: ReadPage, home: Home) -> None:
    home.kill_switch.mkdir()
    async with console("admin") as client:
        token = token_on(read_page(await client.get("/")))
        response = await client.post("/console/kill-switch", data={**KILL, "csrf_token": token})
    page = read_page(response)
    assert response.status_code == 503
    assert "Not all of it was done; what stands above holds. Expected to write below" in page.text
    assert "ON: nothing may be traded" in page.text  # What cannot be read stops trading.
