"""Finds the line of the permission table for a request, with the patterns of the routes themselves.

The door and the router have to mean the same route, or one could walk around the door. So what matches no route is
refused at the door, and a table of other routes than the application has keeps it from starting.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute, Mount, Route

from levibot_core.errors import ConfigurationError
from levibot_serving.errors import ApiError
from levibot_serving.security.permissions import Permission

Lines = Mapping[tuple[str, str], Permission]
_ByMethod = dict[str, Permission]


@dataclass(frozen=True, slots=True)
class _Declared:
    """A route of the application, for one path and its methods."""

    path: str
    methods: tuple[str, ...]
    pattern: re.Pattern[str]

    @property
    def has_parameters(self) -> bool:
        return "{" in self.path


class RouteTable:
    """The routes of an application with what the permission table says about each."""

    def __init__(self, routes: Sequence[BaseRoute], lines: Lines) -> None:
        """Match routes and lines.

        Args:
            routes: Of the application, in the order in which it tries them.
            lines: The table.

        Raises:
            ConfigurationError: a route has no line, a line no route, or a route is hidden by one before it.
        """
        declared = list(_declared(routes))
        self._fixed: dict[str, _ByMethod] = {}
        self._patterns: list[tuple[re.Pattern[str], _ByMethod]] = []
        problems: list[str] = []
        unused = set(lines)
        for place, route in enumerate(declared):
            found: _ByMethod = {}
            for method in route.methods:
                # HEAD is GET without the body.
                key = ("GET" if method == "HEAD" else method, route.path)
                line = lines.get(key)
                if line is None:
                    problems.append(f"{method} {route.path} has no line")
                    continue
                unused.discard(key)
                found[method] = line
            if route.has_parameters:
                self._patterns.append((route.pattern, found))
            else:
                problems += _hidden(route, declared[:place])
                for method, line in found.items():
                    self._fixed.setdefault(route.path, {}).setdefault(method, line)
        problems += [f"the line {method} {path} has no route" for method, path in sorted(unused)]
        if problems:
            raise ConfigurationError(
                "Expected one line in the table of levibot_serving/security/permissions.py for every route, and a "
                f"route for every line, but {'; '.join(problems)}. Add or remove the lines."
            )

    def __iter__(self) -> Iterator[tuple[str, Permission]]:
        """Every method with its line."""
        for by_method in (*self._fixed.values(), *(found for _, found in self._patterns)):
            yield from by_method.items()

    def find(self, method: str, path: str) -> Permission:
        """The line for a request.

        Raises:
            ApiError: there is no such path (404), or it has no such method (405).
        """
        by_method = self._fixed.get(path)
        if by_method is None:
            by_method = {}
            for pattern, found in self._patterns:
                if pattern.match(path):
                    by_method = {**found, **by_method}
        line = by_method.get(method)
        if line is not None:
            return line
        if not by_method:
            raise ApiError(404, "not_found", "Not Found")
        raise ApiError(405, "method_not_allowed", "Method Not Allowed", headers={"Allow": ", ".join(sorted(by_method))})


def _declared(routes: Sequence[BaseRoute]) -> Iterator[_Declared]:
    for route in iter_route_contexts(routes):
        if not isinstance(route.original_route, Route | Mount):
            raise ConfigurationError(
                f"Expected HTTP routes, was a {type(route.original_route).__name__} at {route.path}: the door does not "
                "guard those."
            )
        if isinstance(route.original_route, Mount):
            yield _Declared(f"{route.path}/{{path:path}}", ("GET", "HEAD"), route.path_regex)
            continue
        yield _Declared(str(route.path_format), tuple(sorted(route.methods or ())), route.path_regex)


def _hidden(route: _Declared, earlier: Sequence[_Declared]) -> list[str]:
    """The router takes the first route that matches; the door looks for fixed paths first."""
    return [
        f"{route.path} is hidden by {other.path}, which is declared before it"
        for other in earlier
        if other.has_parameters and other.pattern.match(route.path) and set(other.methods) & set(route.methods)
    ]
