"""`/auth`: tokens for a password, new ones for a refresh token, and the end of a session."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StrictBool, StringConstraints

from levibot_core.security.roles import Role
from levibot_core.security.strength import LONGEST_PASSWORD
from levibot_serving.errors import documented
from levibot_serving.security.cookies import drop_session_cookie, set_session_cookie
from levibot_serving.security.dependencies import ClientAddressDep, PrincipalDep, SecurityDep
from levibot_serving.security.sign_in import SignedIn

router = APIRouter(tags=["auth"], prefix="/auth")


class Credentials(BaseModel):
    """Who wants to sign in."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"username": "engine-btc", "password": "…"}]})

    username: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    password: Annotated[SecretStr, Field(min_length=1, max_length=LONGEST_PASSWORD)]
    cookie: StrictBool = Field(
        False, description="For browsers: the token is put into a cookie and not into the answer"
    )


class RefreshRequest(BaseModel):
    """A refresh token of an earlier answer."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"refresh_token": "…"}]})

    refresh_token: Annotated[SecretStr, Field(min_length=1, max_length=256)]


class Tokens(BaseModel):
    """What somebody who signed in gets."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "ok": True,
                    "access_token": "eyJhbGciOiJIUzI1NiIs…",
                    "token_type": "bearer",
                    "expires_in": 900,
                    "refresh_token": "…",
                    "refresh_expires_in": 604800,
                    "name": "engine-btc",
                    "role": "service",
                }
            ]
        }
    )

    ok: bool = True
    access_token: str | None = Field(description="For `Authorization: Bearer …`; null where it is in a cookie")
    token_type: Literal["bearer"] = "bearer"  # noqa: S105
    expires_in: int = Field(description="Seconds that the access token works")
    refresh_token: str | None = Field(description="Works once, for POST /auth/refresh; null where there is a cookie")
    refresh_expires_in: int | None = Field(description="Seconds that the refresh token works")
    name: str
    role: Role


class Me(BaseModel):
    """Who the token belongs to."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "ada", "role": "admin"}]})

    name: str
    role: Role


class SignedOut(BaseModel):
    """The session is over."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"ok": True}]})

    ok: bool = True


@router.post("/login", response_model=Tokens, responses=documented(401, 403, 422, 429, 503))
async def sign_in(
    request: Request, response: Response, given: Credentials, security: SecurityDep, address: ClientAddressDep
) -> Tokens:
    """Sign in with a name and a password."""
    password = given.password.get_secret_value()
    signed_in = await security.sign_in(given.username, password, address, console=given.cookie)
    if given.cookie:
        set_session_cookie(response, signed_in, secure=request.url.scheme == "https")
    return _tokens(signed_in, cookie=given.cookie)


@router.post("/refresh", response_model=Tokens, responses=documented(401, 403, 422, 429, 503))
async def refresh(given: RefreshRequest, security: SecurityDep, address: ClientAddressDep) -> Tokens:
    """Exchange a refresh token for new tokens. It works once; one that comes back ends the session."""
    return _tokens(await security.refresh(given.refresh_token.get_secret_value(), address), cookie=False)


@router.post("/logout", response_model=SignedOut, responses=documented(503))
async def sign_out(
    response: Response, principal: PrincipalDep, security: SecurityDep, address: ClientAddressDep
) -> SignedOut:
    """End the session of the token: none of its tokens works any more."""
    await security.sign_out(principal, address)
    drop_session_cookie(response)
    return SignedOut()


@router.get("/me", response_model=Me)
async def get_me(principal: PrincipalDep) -> Me:
    """Who the token belongs to, and the role they have now."""
    return Me(name=principal.name, role=principal.role)


def _tokens(signed_in: SignedIn, *, cookie: bool) -> Tokens:
    return Tokens(
        access_token=None if cookie else signed_in.access_token,
        expires_in=int(signed_in.expires_in_s),
        refresh_token=None if cookie else signed_in.refresh_token,
        refresh_expires_in=None if cookie else int(signed_in.refresh_expires_in_s),
        name=signed_in.user.name,
        role=signed_in.user.role,
    )
