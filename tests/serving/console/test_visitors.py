"""Signing in and out, and the kill switch's form: who may, who may not, and from where."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from levibot_serving.console.accounts import ConsoleAccounts
from levibot_serving.console.visitors import ConsoleParts

pytestmark = pytest.mark.anyio

Console = Callable[..., httpx.AsyncClient]
ReadPage = Callable[[httpx.Response], Any]

KILL = {"csrf_token": "token-of-ann", "on": "true", "reason": "prices look wrong", "confirmed": "yes"}


async def test_whoever_is_not_signed_in_is_sent_to_sign_in(console: Console, parts: ConsoleParts) -> None:
    async with console(None, parts) as client:
        for path in ("/", "/sign-out", "/console/reports/drift/latest"):
            response = await client.get(path)
            assert (response.status_code, response.headers["location"]) == (303, "/sign-in"), path
        response = await client.post("/console/kill-switch", data=KILL)
        assert (response.status_code, response.headers["location"]) == (303, "/sign-in")


async def test_a_person_signs_in_and_out(
    api: Callable[..., httpx.AsyncClient], visitors: Any, read_page: ReadPage
) -> None:
    async with api(role=None) as client:
        app = client._transport.app  # type: ignore[attr-defined]
        app.state.console = ConsoleParts(ConsoleAccounts(app.state.security))
        client.headers["Sec-Fetch-Site"] = "same-origin"
        form = read_page(await client.get("/sign-in"))
        assert [field["autocomplete"] for field in form.all("input")] == ["username", "current-password"]
        engine = await client.post("/sign-in", data={"name": "service", "password": visitors.password})
        assert (engine.status_code, "set-cookie" in engine.headers) == (403, False)
        begun = await client.post("/sign-in", data={"name": "viewer", "password": visitors.password})
        assert (begun.status_code, begun.headers["location"]) == (303, "/")
        assert "HttpOnly" in begun.headers["set-cookie"]
        page = read_page(await client.get("/"))
        assert "viewer viewer" in page.text
        assert (await client.get("/sign-in")).headers["location"] == "/"
        assert "You are signed in as viewer (viewer)." in read_page(await client.get("/sign-out")).text
        assert (await client.post("/sign-out", data={"csrf_token": "of another"})).status_code == 403
        (token,) = (field["value"] for field in page.all("input") if field["name"] == "csrf_token")
        ended = await client.post("/sign-out", data={"csrf_token": token})
        assert ended.status_code == 303
        assert "You are signed out." in read_page(await client.get(ended.headers["location"])).text
        assert (await client.get("/")).status_code == 303


async def test_a_refused_sign_in_says_no_more_than_that(
    console: Console, parts: ConsoleParts, read_page: ReadPage
) -> None:
    async with console(None, parts) as client:
        answers = [
            await client.post("/sign-in", data={"name": name, "password": "guess"})
            for name in ("ann", "nobody", "<b>bold</b>")
        ]
        flooded = await client.post("/sign-in", data={"name": "flood", "password": "x"})
    for answer in answers:
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert "The name or the password is wrong." in read_page(answer).text
        assert "guess" not in answer.text
    assert (flooded.status_code, flooded.headers["retry-after"]) == (429, "60")


async def test_an_admin_throws_the_switch_with_a_reason_and_turns_it_off_again(
    console: Console, parts: ConsoleParts, stub_switch: Any, read_page: ReadPage
) -> None:
    async with console("ann", parts) as client:
        page = read_page(await client.get("/"))
        hidden = {field["name"]: field["value"] for field in page.all("input") if field.get("type") == "hidden"}
        assert (hidden["csrf_token"], hidden["on"]) == ("token-of-ann", "true")
        thrown = await client.post("/console/kill-switch", data={**KILL, "reason": "  prices \n look wrong "})
        assert (thrown.status_code, thrown.headers["location"]) == (303, "/#kill-switch")
        page = read_page(await client.get("/"))
        assert "KILL SWITCH ON: NOTHING MAY BE TRADED. prices look wrong" in page.text
        assert "Turned on by ann" in page.text
        assert "Turn it off: allow trading" in page.text
        assert page.source.count("KILLED · ") == 1
        await client.post("/console/kill-switch", data={**KILL, "on": "false", "reason": "feed is back"})
    assert stub_switch.thrown == [(True, "prices look wrong", "ann"), (False, "feed is back", "ann")]


@pytest.mark.parametrize("user", ["tom", "vic"])
async def test_others_see_the_state_and_cannot_throw_it(
    console: Console, parts: ConsoleParts, stub_switch: Any, read_page: ReadPage, user: str
) -> None:
    async with console(user, parts) as client:
        page = read_page(await client.get("/"))
        refused = await client.post("/console/kill-switch", data={**KILL, "csrf_token": f"token-of-{user}"})
    assert "Only administrators may throw it." in page.text
    assert [form["action"] for form in page.all("form")] == ["/sign-out"]
    assert refused.status_code == 403
    assert not stub_switch.thrown


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"reason": " a "}, 400),
        ({"reason": "x" * 201}, 400),
        ({"confirmed": ""}, 400),
        ({"on": "maybe"}, 400),
        ({"csrf_token": ""}, 403),
        ({"csrf_token": "token-of-tom"}, 403),
        ({"csrf_token": "é"}, 403),
        ({"padding": "x" * 5000}, 413),
        ({f"field{number}": "x" for number in range(20)}, 400),
    ],
)
async def test_a_form_that_is_not_whole_changes_nothing(
    console: Console, parts: ConsoleParts, stub_switch: Any, changes: dict[str, str], status: int
) -> None:
    async with console("ann", parts) as client:
        response = await client.post("/console/kill-switch", data={**KILL, **changes})
    assert response.status_code == status
    assert not stub_switch.thrown


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_forms_of_other_sites_are_refused(
    console: Console, parts: ConsoleParts, stub_switch: Any, headers: dict[str, str]
) -> None:
    async with console("ann", parts) as client:
        del client.headers["Sec-Fetch-Site"]
        for path, form in (("/console/kill-switch", KILL), ("/sign-in", {}), ("/sign-out", {})):
            assert (await client.post(path, data=form, headers=headers)).status_code == 403
        own = await client.post(
            "/console/kill-switch", data=KILL, headers={"Origin": "http://levibot", "Sec-Fetch-Site": "same-origin"}
        )
    assert own.status_code == 303
    assert len(stub_switch.thrown) == 1


async def test_only_forms_are_read(console: Console, parts: ConsoleParts, stub_switch: Any) -> None:
    async with console("ann", parts) as client:
        as_json = await client.post("/console/kill-switch", json=KILL)
        torn = await client.post(
            "/console/kill-switch",
            content=b"reason=\xff%ff",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
    assert (as_json.status_code, torn.status_code) == (415, 400)
    assert not stub_switch.thrown


async def test_a_switch_that_cannot_be_thrown_says_why(
    console: Console, parts: ConsoleParts, stub_switch: Any, read_page: ReadPage
) -> None:
    stub_switch.refuses = True
    async with console("ann", parts) as client:
        response = await client.post("/console/kill-switch", data=KILL)
    assert response.status_code == 503
    assert "It was not thrown. Expected to write below the home, but no space is left." in read_page(response).text
