from collections.abc import Callable
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from levibot_serving import remembered_query
from levibot_serving.remembered_query import RememberedQueryRoute

pytestmark = pytest.mark.anyio

Small = Annotated[int, Query(ge=0, le=9)]


async def endpoint(request: Request, name: Annotated[str, Query(max_length=5)], size: Small = 3) -> Response:
    if name == "absent":
        raise ValueError
    return Response(f"{name}|{size}|{request.url.query}")


def application(route: type[Any], *dependencies: Any) -> FastAPI:
    app = FastAPI(dependencies=list(dependencies))
    app.router.add_api_route("/", endpoint, response_model=None, route_class_override=route)
    return app


def client_of(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://levibot")


@pytest.fixture(scope="module")
def both() -> tuple[FastAPI, FastAPI]:
    from fastapi.routing import APIRoute

    return application(RememberedQueryRoute), application(APIRoute)


parts = st.sampled_from(["name=BTC", "name=", "name=%42TC", "name=toolong", "size=4", "size=44", "size=", "x=1", "&"])


@given(queries=st.lists(st.lists(parts, max_size=4).map("&".join), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_query_is_answered_as_an_ordinary_route_answers_it_again_and_again(
    both: tuple[FastAPI, FastAPI], queries: list[str]
) -> None:
    remembering, ordinary = both
    async with client_of(remembering) as ours, client_of(ordinary) as theirs:
        for query in queries * 2:
            found, expected = await ours.get(f"/?{query}"), await theirs.get(f"/?{query}")
            assert (found.status_code, found.content) == (expected.status_code, expected.content)


async def test_a_query_is_validated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastapi import routing

    solved, solve = [], routing.solve_dependencies

    async def counting(**arguments: Any) -> Any:
        solved.append(arguments["request"].url.query)
        return await solve(**arguments)

    monkeypatch.setattr(routing, "solve_dependencies", counting)
    async with client_of(application(RememberedQueryRoute)) as client:
        for _ in range(3):
            assert (await client.get("/?name=BTC")).text == "BTC|3|name=BTC"
            assert (await client.get("/?name=BTC&size=4")).text == "BTC|4|name=BTC&size=4"
    assert solved == ["name=BTC", "name=BTC&size=4"]


async def test_strangers_cannot_fill_the_memory_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered_query, "MOST_REMEMBERED", 8)
    app = application(RememberedQueryRoute)
    async with client_of(app) as client:
        for number in range(20):
            await client.get(f"/?name=BTC&x={number}")
        assert (await client.get("/?name=ETH&x=new")).text == "ETH|3|name=ETH&x=new"
    (route,) = [route for route in app.routes if isinstance(route, RememberedQueryRoute)]
    known = next(
        cell.cell_contents for cell in route.dependant.call.__closure__ or () if isinstance(cell.cell_contents, dict)
    )
    assert len(known) == 8


def refuse() -> None:
    raise PermissionError


@pytest.mark.parametrize("where", ["application", "route", "router"])
async def test_dependencies_are_never_passed_over(where: str, make_app: Callable[[str], FastAPI]) -> None:
    async with client_of(make_app(where)) as client:
        for _ in range(2):
            with pytest.raises(PermissionError):
                await client.get("/?name=BTC")


@pytest.fixture
def make_app() -> Callable[[str], FastAPI]:
    def make(where: str) -> FastAPI:
        if where == "application":
            return application(RememberedQueryRoute, Depends(refuse))
        app, router = FastAPI(), APIRouter(dependencies=[Depends(refuse)] if where == "router" else [])
        own = [Depends(refuse)] if where == "route" else []
        router.add_api_route(
            "/", endpoint, response_model=None, dependencies=own, route_class_override=RememberedQueryRoute
        )
        app.include_router(router)
        return app

    return make
