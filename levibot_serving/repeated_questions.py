"""The short path: a question that was answered before goes from the door straight to its answer.

Engines ask the same few questions every second, and what FastAPI and Starlette do around an endpoint (routing, reading
and validating the query, dependencies, stacks of contexts) takes three times as long as a forecast. What FastAPI found
in a query string is a function of that string, so a string that led to an answer before need not be read again. The
answer itself is made anew every time.

Nothing else changes: the OpenAPI and a query not seen before are FastAPI's. A refusal is asked for again on the long
way, which says it in the words it always had; what nobody foresaw is a defect here as there, logged and answered by
`levibot_serving.middleware`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from levibot_core.errors import LevibotError
from levibot_serving.errors import ApiError

MOST_REMEMBERED: Final = 1024
_LONGEST: Final = 256
_JSON: Final = (b"content-type", b"application/json")


class RepeatedQuestions:
    """The questions to one GET endpoint whose query was read before, and how they are answered."""

    def __init__(self, path: str, answer: Callable[..., Awaitable[bytes]]) -> None:
        """Remember nothing yet.

        Args:
            path: Of the endpoint. It must have no dependencies: on the short path nobody asks them.
            answer: Called with the application and what was found in the query; gives a body of JSON.
        """
        self.path = path
        self.answer = answer
        self._known: dict[bytes, Mapping[str, Any]] = {}

    def __len__(self) -> int:
        return len(self._known)

    async def ask(self, request: Request, **values: Any) -> Response:
        """Answer what FastAPI has read from a request, and remember the question if there is an answer."""
        content = await self.answer(request.app, **values)
        query: bytes = request.scope["query_string"]
        if len(self._known) < MOST_REMEMBERED and len(query) <= _LONGEST:
            self._known[query] = values
        return Response(content, media_type="application/json")

    def values(self, query: bytes) -> Mapping[str, Any] | None:
        """What FastAPI found in this query; None where it has to look."""
        return self._known.get(query)

    def forget(self, query: bytes) -> None:
        """Leave the question to FastAPI until it has an answer again."""
        self._known.pop(query, None)


class ShortPath:
    """Middleware for the inside of the door: answers repeated questions, and passes everything else on."""

    def __init__(self, app: ASGIApp, questions: RepeatedQuestions) -> None:
        self._app = app
        self._questions = questions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        content = await self._answer(scope)
        if content is None:
            await self._app(scope, receive, send)
            return
        headers = [(b"content-length", b"%d" % len(content)), _JSON]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _answer(self, scope: Scope) -> bytes | None:
        """The body of the answer, or None where the ordinary way has to be gone."""
        questions = self._questions
        if scope["type"] != "http" or scope["path"] != questions.path or scope["method"] != "GET":
            return None
        values = questions.values(scope["query_string"])
        if values is None:
            return None
        app: FastAPI = scope["app"]
        try:
            return await questions.answer(app, **values)
        except (ApiError, LevibotError):  # The ordinary way meets it again, and says it.
            questions.forget(scope["query_string"])
            return None
