"""Reads what the door needs from a request: its token, and whether a browser sent it from a page of ours."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Final

from starlette.types import Scope

from levibot_serving.errors import ApiError

SESSION_COOKIE: Final = "levibot_session"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_BEARER: Final = b"bearer "
_COOKIE: Final = SESSION_COOKIE.encode()
_WANTED: Final = frozenset(
    {
        *(b"authorization", b"cookie", b"host", b"origin", b"sec-fetch-site"),
        *(b"content-length", b"transfer-encoding", b"x-forwarded-for", b"x-forwarded-proto"),
    }
)

Headers = Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Credentials:
    """The token of a request.

    Attributes:
        token: As it was sent; None where there is none.
        by_header: Whether the caller put it there, and not a browser by itself.
    """

    token: str | None
    by_header: bool

    @classmethod
    def of(cls, headers: Headers) -> "Credentials":
        """The token of the header, or else of the console's cookie."""
        given = headers.get(b"authorization")
        if given is not None:
            token = given[len(_BEARER) :].strip() if given[: len(_BEARER)].lower() == _BEARER else b""
            return cls(token.decode("latin-1"), by_header=True)
        cookies = headers.get(b"cookie")
        if cookies is None or _COOKIE not in cookies:
            return cls(None, by_header=False)
        for cookie in cookies.split(b";"):
            name, _, value = cookie.strip().partition(b"=")
            if name == _COOKIE:
                return cls(value.decode("latin-1"), by_header=False)
        return cls(None, by_header=False)


def read_headers(scope: Scope) -> Headers:
    """The headers that decide. One that is sent twice is joined, which makes of two tokens none."""
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _WANTED:
            found[name] = found[name] + (b"; " if name == b"cookie" else b",") + value if name in found else value
    return found


def expect_own_page(headers: Headers, credentials: Credentials, origins: Set[bytes]) -> None:
    """Refuse what a page of another site made a browser send (cross-site request forgery).

    Browsers say where a request is from and pages cannot change that. One with our cookie has to be from a page of
    ours; one without any token, such as a sign-in, must not be from another's.

    Args:
        headers: Of the request.
        credentials: Of the request, which are not in a header.
        origins: Of pages that may call the API.

    Raises:
        ApiError: 403.
    """
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
    silent = origin is None and site is None
    own = site == b"same-origin" or (site is None and origin is not None and _is_own(origin, headers.get(b"host")))
    if own or (credentials.token is None and (silent or origin in origins)):
        return
    raise ApiError(403, "other_site", "Expected a request from a page of this API, was one from another site.")


def _is_own(origin: bytes, host: bytes | None) -> bool:
    return host is not None and origin.partition(b"://")[2].lower() == host.lower()
