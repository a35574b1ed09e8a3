"""A typed client of the API: `LevibotClient`, and `AsyncLevibotClient` for asyncio.

    with LevibotClient("http://127.0.0.1:8000") as client:
        client.login("ada", password)
        prediction = client.predict("BTC/USDT")

Results are the models of the API's contract; every refusal is an exception with the API's code and message.
"""

from levibot_serving.client.asynchronous import AsyncLevibotClient
from levibot_serving.client.conversation import RetryPolicy
from levibot_serving.client.errors import (
    ApiRequestError,
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    InvalidRequestError,
    LevibotClientError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    UnavailableError,
)
from levibot_serving.client.synchronous import LevibotClient

__all__ = [
    "ApiRequestError",
    "AsyncLevibotClient",
    "AuthenticationError",
    "ConflictError",
    "ConnectionFailedError",
    "InvalidRequestError",
    "LevibotClient",
    "LevibotClientError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitedError",
    "RetryPolicy",
    "UnavailableError",
]
