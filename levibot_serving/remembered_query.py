"""A route that validates a query once: engines ask the same few questions every second.

FastAPI reads and validates the parameters of every request anew, which takes longer than a forecast. What it found in a
query string is a function of that string, so a string that led to an answer before goes straight to the endpoint with
the same values. Nothing else changes: the OpenAPI, errors, and any query not seen before are FastAPI's.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

MOST_REMEMBERED: Final = 1024
_LONGEST = 256


class RememberedQueryRoute(APIRoute):
    """For an endpoint that is a coroutine, takes `request` and otherwise nothing but its query, and gives a Response.

    A route that also has dependencies (of its own, of its router or of the application) is an ordinary one: what they
    decide may change from request to request. Include it in the application itself, where all of them are known.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute.get_route_handler`."""
        dependant = self.dependant
        others = (dependant.dependencies, dependant.path_params, dependant.header_params, dependant.cookie_params)
        if any(others) or dependant.body_params:
            return super().get_route_handler()
        known: dict[bytes, Mapping[str, Any]] = {}
        endpoint: Callable[..., Awaitable[Response]] = self.endpoint

        async def remembering(request: Request, **values: Any) -> Response:
            response = await endpoint(request=request, **values)
            query: bytes = request.scope["query_string"]
            if len(known) < MOST_REMEMBERED and len(query) <= _LONGEST:
                known[query] = values
            return response

        dependant.call = remembering
        ordinary = super().get_route_handler()

        async def handler(request: Request) -> Response:
            values = known.get(request.scope["query_string"])
            if values is None:
                return await ordinary(request)
            return await endpoint(request=request, **values)

        return handler
