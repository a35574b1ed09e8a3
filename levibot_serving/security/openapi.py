"""Says in the OpenAPI document what the door does: who may call what, and how it refuses."""

from typing import Any, Final

from fastapi import FastAPI

from levibot_serving.errors import documented
from levibot_serving.security.permissions import Permission
from levibot_serving.security.routing import RouteTable

_SCHEME: Final = "token"
_RATE_HEADERS: Final = {
    "Retry-After": {"description": "Seconds until one more is allowed", "schema": {"type": "integer"}},
}


def document_security(app: FastAPI, routes: RouteTable) -> None:
    """Add to `app.openapi()` the token, the roles and the refusals of every operation."""
    lines = {(line.path, method.lower()): line for method, line in routes}
    build = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = build()
            schema.setdefault("components", {}).setdefault("securitySchemes", {})[_SCHEME] = {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "An access token of POST /auth/login",
            }
            for path, operations in schema["paths"].items():
                for method, operation in operations.items():
                    line = lines.get((path, method))
                    if line is not None:
                        _document(operation, line)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def _document(operation: dict[str, Any], line: Permission) -> None:
    # A body that is no JSON at all is a bad request before anybody asks whether it fits.
    statuses = [400, 413, 504] if line.method != "GET" else [504]
    if not line.public:
        operation["security"] = [{_SCHEME: []}]
        roles = ", ".join(sorted(line.roles))
        operation["description"] = f"{operation.get('description', '')}\n\nRoles: {roles}.".strip()
        statuses = [401, 403, *statuses]
    if line.forecasts:
        statuses.append(429)
    responses = operation.setdefault("responses", {})
    for status in statuses:
        responses.setdefault(str(status), _response(status))
    if line.forecasts:
        responses["429"]["headers"] = _RATE_HEADERS


def _response(status: int) -> dict[str, Any]:
    found = documented(status)[status]
    return {
        "description": str(found["description"]),
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}},
    }
