from typing import Annotated

import httpx
import pytest
from fastapi import FastAPI, Query, Request, Response
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from levibot_core.errors import LevibotError
from levibot_serving import main, repeated_questions
from levibot_serving.config import ServingSettings
from levibot_serving.main import create_app
from levibot_serving.repeated_questions import RepeatedQuestions, ShortPath

pytestmark = pytest.mark.anyio

Small = Annotated[int, Query(ge=0, le=9)]


class Application:
    """An application with one endpoint, with the short path or without."""

    def __init__(self, *, short: bool) -> None:
        self.app = FastAPI()
        self.answered: list[str] = []
        self.read: list[str] = []
        self.broken = False
        self.failure: Exception = LevibotError("away")
        self.questions = questions = RepeatedQuestions("/ask", self._answer)
        read = self.read

        async def endpoint(request: Request, name: Annotated[str, Query(max_length=5)], size: Small = 3) -> Response:
            read.append(request.url.query)
            return await questions.ask(request, name=name, size=size)

        self.app.router.add_api_route("/ask", endpoint, methods=["GET"], response_model=None)
        self.app.exception_handler(LevibotError)(_not_found)
        if short:
            self.app.add_middleware(ShortPath, questions=questions)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.ASGITransport(app=self.app), base_url="http://levibot")

    async def _answer(self, app: FastAPI, *, name: str, size: int) -> bytes:
        assert app is self.app
        if name == "none" or self.broken:
            raise self.failure
        self.answered.append(name)
        return f'["{name}", {size}]'.encode()


async def _not_found(_: Request, error: Exception) -> Response:
    return Response(f"nothing: {error!r}", 404)


@pytest.fixture(scope="module")
def both() -> tuple[Application, Application]:
    return Application(short=True), Application(short=False)


parts = st.sampled_from(
    ["name=BTC", "name=", "name=%42TC", "name=toolong", "name=none", "size=4", "size=44", "size=", "x=1", "&"]
)


@given(queries=st.lists(st.lists(parts, max_size=4).map("&".join), min_size=1, max_size=4))
@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_every_question_is_answered_as_without_the_short_path_again_and_again(
    both: tuple[Application, Application], queries: list[str]
) -> None:
    with_it, without = both
    async with with_it.client() as ours, without.client() as theirs:
        for query in queries * 2:
            found, expected = await ours.get(f"/ask?{query}"), await theirs.get(f"/ask?{query}")
            assert (found.status_code, found.content, found.headers) == (
                expected.status_code,
                expected.content,
                expected.headers,
            )


async def test_a_query_is_read_once_and_answered_every_time() -> None:
    asked = Application(short=True)
    async with asked.client() as client:
        for _ in range(3):
            assert (await client.get("/ask?name=BTC")).json() == ["BTC", 3]
            assert (await client.get("/ask?name=BTC&size=4")).json() == ["BTC", 4]
    assert asked.read == ["name=BTC", "name=BTC&size=4"]
    assert len(asked.answered) == 6


@pytest.mark.parametrize(("method", "path"), [("POST", "/ask"), ("HEAD", "/ask"), ("GET", "/other")])
async def test_other_methods_and_paths_go_the_ordinary_way(method: str, path: str) -> None:
    asked = Application(short=True)
    async with asked.client() as client:
        await client.get("/ask?name=BTC")
        assert (await client.request(method, f"{path}?name=BTC")).status_code in (404, 405)
    assert len(asked.answered) == 1


async def test_what_goes_wrong_is_said_by_the_ordinary_way_until_there_is_an_answer_again() -> None:
    asked = Application(short=True)
    async with asked.client() as client:
        await client.get("/ask?name=BTC")
        asked.broken = True
        for _ in range(2):
            refused = await client.get("/ask?name=BTC")
            assert (refused.status_code, refused.text) == (404, "nothing: LevibotError('away')")
        asked.broken = False
        for _ in range(2):
            assert (await client.get("/ask?name=BTC")).json() == ["BTC", 3]
    assert asked.read == ["name=BTC"] * 4


async def test_what_nobody_foresaw_is_not_tried_a_second_time() -> None:
    asked = Application(short=True)
    async with asked.client() as client:
        await client.get("/ask?name=BTC")
        asked.broken, asked.failure = True, ZeroDivisionError()
        with pytest.raises(ZeroDivisionError):
            await client.get("/ask?name=BTC")
    assert asked.read == ["name=BTC"]


async def test_strangers_cannot_fill_the_memory_of_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_questions, "MOST_REMEMBERED", 8)
    asked = Application(short=True)
    async with asked.client() as client:
        for number in range(20):
            await client.get(f"/ask?name=BTC&x={number}")
        assert (await client.get("/ask?name=ETH&x=new")).json() == ["ETH", 3]
    assert len(asked.questions) == 8


async def test_the_endpoint_of_the_api_has_no_dependency_that_the_short_path_would_pass_over(
    settings: ServingSettings,
) -> None:
    app = create_app(settings)
    (route,) = [one for one in app.routes if isinstance(one, APIRoute) and one.path == "/ai/predict"]
    assert not route.dependant.dependencies
    assert not app.router.dependencies
    assert ShortPath in [middleware.cls for middleware in app.user_middleware]


async def test_requests_that_are_traced_go_the_long_way_which_makes_the_spans(
    settings: ServingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(main, "telemetry_of", lambda _: TelemetryConfig(tracing=True))
    assert ShortPath not in [middleware.cls for middleware in create_app(settings).user_middleware]
