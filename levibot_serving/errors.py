"""One JSON shape for everything that goes wrong: `{"error": {"code", "message", "request_id", "details"}}`.

Errors a person can act on carry their message. Anything else is a defect: its traceback goes to the log under the
request id (see `levibot_serving.middleware`), and the answer says no more than that.
"""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from levibot_core.errors import LevibotError, MissingFeatureError, UnknownSymbolError, UnusableCandlesError


class ErrorBody(BaseModel):
    """What went wrong."""

    code: str = Field(description="Stable word for programs")
    message: str = Field(description="Expected, was, what to do: for people")
    request_id: str = Field(description="Find it in the log, or in the X-Request-ID header")
    details: Any = Field(None, description="More for programs, depending on the code")


class ErrorResponse(BaseModel):
    """Every response with a status of 400 or more."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "code": "unknown_symbol",
                        "message": "Expected one of BTC/USDT, ETH/USDT, was DOGE/USDT.",
                        "request_id": "6f1c0a7be2a94a0f8f3f0d1c2b3a4958",
                        "details": None,
                    }
                }
            ]
        }
    )

    error: ErrorBody


class ApiError(Exception):
    """A refusal that only makes sense over HTTP."""

    def __init__(
        self, status: int, code: str, message: str, details: Any = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.details = details
        self.headers = headers


_MEANINGS: dict[type[LevibotError], tuple[int, str]] = {
    UnknownSymbolError: (404, "unknown_symbol"),
    MissingFeatureError: (503, "features_unavailable"),
    UnusableCandlesError: (422, "unusable_candles"),
}


_EXAMPLES: dict[int, tuple[str, str]] = {
    400: (
        "not_served",
        "Expected timeframe 5m and horizon 60 (minutes), which levibot-5m-h12 forecasts, was 1m and 5.",
    ),
    404: ("unknown_symbol", "Expected one of BTC/USDT, ETH/USDT, was DOGE/USDT."),
    409: ("gates_not_passed", "Expected a version that passed every promotion gate, but version 8 was never judged."),
    422: ("invalid_request", "The request does not fit: symbol: Field required"),
    503: ("features_unavailable", "Expected whole and fresh features in online.sqlite: BTC/USDT has none."),
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of an endpoint that may answer with these errors, each with an example."""
    return {status: _documented(status) for status in statuses}


def _documented(status: int) -> dict[str, Any]:
    code, message = _EXAMPLES.get(status, (_code_of(status), HTTPStatus(status).description or "See the message."))
    body = {"code": code, "message": message, "request_id": "6f1c0a7be2a94a0f8f3f0d1c2b3a4958", "details": None}
    return {
        "model": ErrorResponse,
        "description": HTTPStatus(status).phrase,
        "content": {"application/json": {"example": {"error": body}}},
    }


def _code_of(status: int) -> str:
    return HTTPStatus(status).phrase.lower().replace(" ", "_").replace("-", "_")


def error_response(
    request_id: str,
    status: int,
    code: str,
    message: str,
    details: Any = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    """An error in the one shape there is."""
    body = ErrorResponse(error=ErrorBody(code=code, message=message, request_id=request_id, details=details))
    return JSONResponse(body.model_dump(mode="json"), status, headers)


def internal_error(request_id: str) -> JSONResponse:
    """The answer to a defect: nothing about it leaves the host."""
    message = "Something unforeseen failed. The log has the traceback under this request id."
    return error_response(request_id, 500, "internal_error", message)


def add_error_handlers(app: FastAPI) -> None:
    """Make every error of the app answer in this shape."""
    app.exception_handler(ApiError)(_api_error)
    app.exception_handler(LevibotError)(_levibot_error)
    app.exception_handler(RequestValidationError)(_validation_error)
    app.exception_handler(HTTPException)(_http_exception)


def refusal(request_id: str, error: ApiError) -> JSONResponse:
    """The response that an `ApiError` stands for."""
    return error_response(request_id, error.status, error.code, str(error), error.details, error.headers)


async def _api_error(request: Request, error: ApiError) -> JSONResponse:
    return refusal(request.state.request_id, error)


def meaning_of(error: LevibotError) -> tuple[int, str, Any]:
    """Status, code and details that an error has over HTTP."""
    for kind, (status, code) in _MEANINGS.items():
        if isinstance(error, kind):
            if isinstance(error, UnusableCandlesError):
                return status, code, {"cause": error.cause, "candles_needed": error.needed}
            return status, code, None
    return 503, "unavailable", None


async def _levibot_error(request: Request, error: LevibotError) -> JSONResponse:
    status, code, details = meaning_of(error)
    return error_response(request.state.request_id, status, code, str(error), details)


async def _validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
    problems = [
        {"field": ".".join(str(part) for part in problem["loc"][1:]), "problem": problem["msg"]}
        for problem in error.errors()
    ]
    message = "The request does not fit: " + "; ".join(f"{item['field']}: {item['problem']}" for item in problems)
    return error_response(request.state.request_id, 422, "invalid_request", message, problems)


async def _http_exception(request: Request, error: HTTPException) -> JSONResponse:
    code = _code_of(error.status_code)
    headers = dict(error.headers) if error.headers else None
    return error_response(request.state.request_id, error.status_code, code, str(error.detail), headers=headers)
