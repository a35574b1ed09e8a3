"""The console's cookie: the token of a browser's session, out of reach of scripts and of other sites."""

from starlette.responses import Response

from levibot_serving.security.requests import SESSION_COOKIE
from levibot_serving.security.sign_in import SignedIn


def set_session_cookie(response: Response, signed_in: SignedIn, *, secure: bool) -> None:
    """Put the token into the cookie.

    Args:
        response: Of the sign-in.
        signed_in: A session of the console.
        secure: Whether the page came over HTTPS, so that the cookie never travels without.
    """
    response.set_cookie(
        SESSION_COOKIE,
        signed_in.access_token,
        max_age=int(signed_in.expires_in_s),
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def drop_session_cookie(response: Response) -> None:
    """Make the browser forget it."""
    response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")
