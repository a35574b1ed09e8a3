"""Keeps requests from being larger than the API wants to hold."""

from starlette.types import Message, Receive

from levibot_serving.errors import ApiError
from levibot_serving.security.requests import Headers


async def read_limited(headers: Headers, receive: Receive, most_bytes: int) -> Receive:
    """A `receive` that gives no more than `most_bytes` of body.

    A length that is announced is compared with the limit, and the server keeps the client to it. A body without a
    length is read here.

    Raises:
        ApiError: 413, the body is larger.
    """
    announced = headers.get(b"content-length")
    if announced is not None and not (announced.isdigit() and int(announced) <= most_bytes):
        raise _too_large(most_bytes)
    return await _read_whole(receive, most_bytes) if b"transfer-encoding" in headers else receive


async def _read_whole(receive: Receive, most_bytes: int) -> Receive:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return _first(message, receive)
        body += message.get("body", b"")
        if len(body) > most_bytes:
            raise _too_large(most_bytes)
        if not message.get("more_body", False):
            return _first({"type": "http.request", "body": bytes(body), "more_body": False}, receive)


def _first(message: Message, receive: Receive) -> Receive:
    waiting = [message]

    async def give() -> Message:
        return waiting.pop() if waiting else await receive()

    return give


def _too_large(most_bytes: int) -> ApiError:
    return ApiError(413, "body_too_large", f"Expected a request body of at most {most_bytes} bytes. Send less at once.")
