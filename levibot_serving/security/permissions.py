"""Who may call what: the one table. A route without a line here keeps the application from starting.

To add a route, add its line to `PERMISSIONS`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from levibot_core.security.roles import Role

ADMINS: Final = frozenset({Role.ADMIN})
VIEWERS: Final = frozenset({Role.VIEWER, Role.TRADER, Role.ADMIN})
"""Viewer and up: everybody who is a person."""
EVERYBODY: Final = VIEWERS | {Role.SERVICE}
"""Everybody who is signed in, engines included."""
PUBLIC: Final[frozenset[Role]] = frozenset()
"""Nobody has to sign in."""


@dataclass(frozen=True, slots=True)
class Permission:
    """One line of the table.

    Attributes:
        method: HTTP method. HEAD goes with GET.
        path: The path of the route as OpenAPI shows it, such as `/features/{symbol}`.
        roles: Who may call it; empty for everybody, signed in or not.
        forecasts: Whether it counts against the budget of forecasts.
        streams: Whether it answers for as long as somebody listens, so that no time limit applies.
        page: Whether a browser without a session is sent to the sign-in page.
        scraped: Whether the metrics token is enough.
    """

    method: str
    path: str
    roles: frozenset[Role]
    forecasts: bool = False
    streams: bool = False
    page: bool = False
    scraped: bool = False

    @property
    def public(self) -> bool:
        """Whether nobody has to sign in."""
        return not self.roles

    @property
    def admins_only(self) -> bool:
        """Whether it is for admins alone, who have to call it from a listed address."""
        return self.roles == ADMINS


PERMISSIONS: Final[tuple[Permission, ...]] = (
    Permission("GET", "/livez", PUBLIC),
    Permission("GET", "/readyz", PUBLIC),
    Permission("GET", "/healthz", PUBLIC),
    Permission("GET", "/openapi.json", PUBLIC),
    Permission("GET", "/docs", PUBLIC),
    Permission("POST", "/auth/login", PUBLIC),
    Permission("POST", "/auth/refresh", PUBLIC),
    Permission("POST", "/auth/logout", EVERYBODY),
    Permission("GET", "/auth/me", EVERYBODY),
    Permission("GET", "/metrics", VIEWERS, scraped=True),
    Permission("GET", "/ai/predict", EVERYBODY, forecasts=True),
    Permission("POST", "/ai/predict", EVERYBODY, forecasts=True),
    Permission("POST", "/ai/predict/batch", EVERYBODY, forecasts=True),
    Permission("GET", "/ai/explain", VIEWERS, forecasts=True),
    Permission("GET", "/ai/models", VIEWERS),
    Permission("GET", "/ai/models/list", VIEWERS),
    Permission("POST", "/ai/models/activate", ADMINS),
    Permission("POST", "/ai/models/rollback", ADMINS),
    Permission("POST", "/ai/select", ADMINS),
    Permission("GET", "/features", VIEWERS),
    Permission("GET", "/features/{symbol}", VIEWERS),
    Permission("GET", "/analytics/predictions/recent", VIEWERS),
    Permission("GET", "/analytics/deciles", VIEWERS),
    Permission("GET", "/ops/signal_log", VIEWERS),
    Permission("GET", "/stream/predictions", VIEWERS, streams=True),
    Permission("POST", "/backtest/run", ADMINS),
    Permission("GET", "/backtest/reports", VIEWERS),
    Permission("GET", "/backtest/reports/{id}", VIEWERS),
    Permission("POST", "/live/kill", ADMINS),
    # Engines poll the kill switch here.
    Permission("GET", "/live/status", EVERYBODY),
    Permission("GET", "/", VIEWERS, page=True),
    Permission("GET", "/console/reports/{kind}/{name}", VIEWERS, page=True),
    Permission("GET", "/console/{name}", PUBLIC),
    Permission("POST", "/console/kill-switch", ADMINS, page=True),
    Permission("GET", "/sign-in", PUBLIC),
    Permission("POST", "/sign-in", PUBLIC),
    Permission("GET", "/sign-out", EVERYBODY, page=True),
    Permission("POST", "/sign-out", EVERYBODY, page=True),
)


def permissions_by_route(lines: Iterable[Permission]) -> dict[tuple[str, str], Permission]:
    """The lines by method and path.

    Raises:
        ValueError: two lines are for the same route.
    """
    found: dict[tuple[str, str], Permission] = {}
    for line in lines:
        key = (line.method, line.path)
        if key in found:
            raise ValueError(f"Expected one line for {line.method} {line.path} in the permission table, was two.")
        found[key] = line
    return found
