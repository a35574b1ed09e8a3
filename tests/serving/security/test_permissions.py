"""Every endpoint for every role, from the table and from the routes of the application."""

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRouter
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from levibot_core.errors import ConfigurationError
from levibot_core.security.roles import Role
from levibot_serving.config import ServingSettings, load_serving_settings
from levibot_serving.errors import ApiError
from levibot_serving.main import create_app
from levibot_serving.metrics import Metrics
from levibot_serving.middleware import RequestContextMiddleware
from levibot_serving.security.guard import Guard
from levibot_serving.security.permissions import (
    ADMINS,
    EVERYBODY,
    PERMISSIONS,
    PUBLIC,
    VIEWERS,
    Permission,
    permissions_by_route,
)
from levibot_serving.security.routing import RouteTable
from levibot_serving.security.security import Security

pytestmark = pytest.mark.anyio

ROLES = (None, *(role.value for role in Role))


async def _answer(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("inside")(scope, receive, send)


def _routes(lines: tuple[Permission, ...]) -> APIRouter:
    router = APIRouter()
    for line in lines:
        router.add_api_route(line.path, lambda: "inside", methods=[line.method], response_model=None)
    return router


@pytest.fixture
def door(settings: ServingSettings, visitors: Any) -> Callable[..., httpx.AsyncClient]:
    """A client of a door in front of nothing: whatever is let in is answered with `inside`, so that no kill switch is
    thrown and no stream begins."""

    def make(table: RouteTable) -> httpx.AsyncClient:
        visitors.move_in(settings.folders)
        generous = load_serving_settings(home=settings.home, predict_per_minute=10_000)
        metrics = Metrics()
        security = Security(generous, metrics)
        guard = Guard(
            _answer,
            routes=table,
            access=security.access,
            limits=security.limits,
            audit=security.audit,
            metrics=metrics,
            settings=generous,
        )
        transport = httpx.ASGITransport(app=RequestContextMiddleware(guard, metrics))
        return httpx.AsyncClient(transport=transport, base_url="http://levibot")

    return make


async def expect_matrix(table: RouteTable, client: httpx.AsyncClient, visitors: Any) -> int:
    checked = 0
    async with client:
        for method, line in table:
            path = re.sub(r"\{[^}]*\}", "x", line.path)
            for role in ROLES:
                response = await client.request(method, path, headers=visitors.headers(role))
                if line.public or role in line.roles:
                    assert response.status_code == 200, (method, path, role)
                elif role is None and line.page:
                    assert (response.status_code, response.headers["location"]) == (303, "/sign-in")
                else:
                    assert response.status_code == (401 if role is None else 403), (method, path, role)
                assert (response.text == "inside") == (response.status_code == 200) or method == "HEAD"
                checked += 1
    return checked


async def test_every_route_of_the_application_for_every_role(
    settings: ServingSettings, door: Callable[..., httpx.AsyncClient], visitors: Any
) -> None:
    app = create_app(settings)
    table = RouteTable(app.routes, permissions_by_route(PERMISSIONS))
    assert await expect_matrix(table, door(table), visitors) >= len(PERMISSIONS) * len(ROLES)


async def test_every_line_for_every_role(door: Callable[..., httpx.AsyncClient], visitors: Any) -> None:
    lines = permissions_by_route(PERMISSIONS)
    app = FastAPI(openapi_url=None)
    app.include_router(_routes(PERMISSIONS))
    table = RouteTable(app.routes, lines)
    assert await expect_matrix(table, door(table), visitors) == len(lines) * len(ROLES)


async def test_the_application_itself_refuses_what_the_table_refuses(
    api: Callable[..., httpx.AsyncClient], settings: ServingSettings
) -> None:
    app = create_app(settings)
    table = RouteTable(app.routes, permissions_by_route(PERMISSIONS))
    for role in ROLES:
        async with api(role=role) as client:
            for method, line in table:
                if not line.public and role not in line.roles:
                    response = await client.request(method, re.sub(r"\{[^}]*\}", "x", line.path))
                    expected = 303 if role is None and line.page else 401 if role is None else 403
                    assert response.status_code == expected, (method, line.path, role)


def test_who_is_meant() -> None:
    lines = permissions_by_route(PERMISSIONS)
    for key in (
        ("POST", "/live/kill"),
        ("POST", "/backtest/run"),
        ("POST", "/ai/models/activate"),
        ("POST", "/ai/select"),
    ):
        assert lines[key].roles == ADMINS
    for key in (("GET", "/ai/predict"), ("POST", "/ai/predict/batch"), ("GET", "/live/status")):
        assert lines[key].roles == EVERYBODY
    for key in (("GET", "/ai/models"), ("GET", "/metrics"), ("GET", "/stream/predictions")):
        assert lines[key].roles == VIEWERS
    assert {line.path for line in PERMISSIONS if line.roles == PUBLIC} == {
        *("/livez", "/readyz", "/healthz", "/openapi.json", "/docs"),
        *("/auth/login", "/auth/refresh", "/sign-in", "/console/{name}"),
    }


def _table(lines: tuple[Permission, ...], routes: tuple[Permission, ...]) -> RouteTable:
    app = FastAPI(openapi_url=None)
    app.include_router(_routes(routes), prefix="")
    return RouteTable(app.routes, permissions_by_route(lines))


def test_a_route_without_a_line_and_a_line_without_a_route_keep_it_from_starting() -> None:
    a, b = Permission("GET", "/a", VIEWERS), Permission("POST", "/b", VIEWERS)
    with pytest.raises(ConfigurationError, match="POST /b has no line"):
        _table((a,), (a, b))
    with pytest.raises(ConfigurationError, match="the line POST /b has no route"):
        _table((a, b), (a,))
    with pytest.raises(ValueError, match="two"):
        permissions_by_route((a, a))


def test_a_route_that_another_hides_keeps_it_from_starting() -> None:
    every, one = Permission("GET", "/x/{id}", PUBLIC), Permission("GET", "/x/secret", ADMINS)
    with pytest.raises(ConfigurationError, match="/x/secret is hidden by"):
        _table((every, one), (every, one))
    assert _table((every, one), (one, every)).find("GET", "/x/secret") == one


@pytest.mark.parametrize(
    "path",
    ["/x", "/x/", "/x/1/", "/x//1", "//x/1", "/X/1", "/x/1/2", "/x/1;a", "/fixed\n", "/fixed/", "", "*", "/x/1\x00/"],
)
def test_a_path_that_is_nearly_a_route_is_none_or_the_route_that_the_router_takes(path: str) -> None:
    every, fixed = Permission("GET", "/x/{id}", ADMINS), Permission("GET", "/fixed", ADMINS)
    table = _table((every, fixed), (every, fixed))
    try:
        assert table.find("GET", path) == every
    except ApiError as error:
        assert error.status == 404


def test_methods_of_a_path() -> None:
    get, post = Permission("GET", "/x/{id}", VIEWERS), Permission("POST", "/x/{id}", ADMINS)
    table = _table((get, post), (get, post))
    assert (table.find("GET", "/x/1"), table.find("POST", "/x/1")) == (get, post)
    with pytest.raises(ApiError) as refused:
        table.find("DELETE", "/x/1")
    assert (refused.value.status, refused.value.headers) == (405, {"Allow": "GET, POST"})
