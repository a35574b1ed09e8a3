"""The console at `/`: its page, the files it loads, report pages of the home, sign-in and the kill switch's form.

These answer people in a browser; none of them is part of the contract with engines, so OpenAPI does not list them. Who
may open which is in `levibot_serving.security.permissions`.
"""

from functools import lru_cache
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from levibot_core.errors import LevibotError
from levibot_core.security.roles import Principal, Role
from levibot_core.stores.paths import Home
from levibot_serving.console.forms import expect_token, read_form
from levibot_serving.console.overview import overview
from levibot_serving.console.pages import PAGE_HEADERS, render, static_files
from levibot_serving.console.panels.kill_switch import LONGEST_REASON
from levibot_serving.console.report_files import ReportFiles
from levibot_serving.console.report_pages import find_page
from levibot_serving.deps import Services, ServicesDep
from levibot_serving.errors import ApiError
from levibot_serving.security.cookies import drop_session_cookie, set_session_cookie
from levibot_serving.security.dependencies import ClientAddressDep, PrincipalDep, SecurityDep
from levibot_serving.security.guard import SIGN_IN_PAGE

router = APIRouter(include_in_schema=False)

_VERSION = version("levibot-platform")
_SHORTEST_REASON = 3
_A_YEAR_S = 31_536_000


@router.get("/")
async def get_console(services: ServicesDep, visitor: PrincipalDep) -> Response:
    """The page."""
    return await _console(services, visitor)


@router.get("/console/reports/{kind}/{name}")
async def get_report_page(services: ServicesDep, visitor: PrincipalDep, kind: str, name: str) -> Response:
    """A page among the reports of the home, in a sandbox of its own."""
    found = await run_in_threadpool(find_page, services.settings.folders, kind, name)
    if found is None:
        return _page("not_found", 404, visitor, words="There is no such report.")
    path, policy = found
    return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": policy})


@router.get("/console/{name}")
async def get_static_file(name: str) -> Response:
    """What the pages load. Their addresses change with their content, so a browser may keep them."""
    file = static_files().get(name)
    if file is None:
        raise ApiError(404, "not_found", f"Expected one of {', '.join(static_files())}.")
    return Response(
        file.content, media_type=file.media_type, headers={"Cache-Control": f"public, max-age={_A_YEAR_S}, immutable"}
    )


@router.post("/console/kill-switch")
async def post_kill_switch(request: Request, services: ServicesDep, visitor: PrincipalDep) -> Response:
    """Throw the switch as the form says, and show the console again."""
    fields = await read_form(request)
    expect_token(visitor, fields)
    reason = " ".join(fields.get("reason", "").split())
    problem = _why_not(fields, reason)
    if problem is not None:
        return await _console(services, visitor, 400, problem)
    try:
        throw = services.operations.throw_kill_switch
        await run_in_threadpool(throw, fields["on"] == "true", reason, visitor.name)
    except LevibotError as error:
        return await _console(services, visitor, 503, f"Not all of it was done; what stands above holds. {error}")
    return _see("/#kill-switch")


@router.get(SIGN_IN_PAGE)
async def get_sign_in(signed_out: bool = False) -> Response:
    """The form."""
    return _sign_in(signed_out=signed_out)


@router.post(SIGN_IN_PAGE)
async def post_sign_in(request: Request, security: SecurityDep, address: ClientAddressDep) -> Response:
    """Begin a session, whose token goes into a cookie."""
    fields = await read_form(request)
    response, name = _see("/"), fields.get("name", "").strip()
    try:
        signed_in = await security.sign_in(name, fields.get("password", ""), address, console=True)
    except ApiError as error:
        refused = _sign_in(error.status, name[:100], str(error))
        refused.headers.update(error.headers or {})
        return refused
    if signed_in.user.role is Role.SERVICE:
        return _sign_in(403, name[:100], "Expected the account of a person, was that of an engine.")
    set_session_cookie(response, signed_in, secure=request.url.scheme == "https")
    return response


@router.get("/sign-out")
async def get_sign_out(visitor: PrincipalDep) -> Response:
    """A page with the one button, for whoever types the address."""
    return _page("sign_out", 200, visitor)


@router.post("/sign-out")
async def post_sign_out(
    request: Request, security: SecurityDep, visitor: PrincipalDep, address: ClientAddressDep
) -> Response:
    """End the session."""
    expect_token(visitor, await read_form(request))
    await security.sign_out(visitor, address)
    response = _see(f"{SIGN_IN_PAGE}?signed_out=true")
    drop_session_cookie(response)
    return response


async def _console(
    services: Services, visitor: Principal, status: int = 200, kill_problem: str | None = None
) -> HTMLResponse:
    """Gathered and laid out in a thread: the online store may keep its caller waiting."""

    def page() -> HTMLResponse:
        found = overview(services, _reports(services.settings.folders), visitor)
        shown: dict[str, Any] = {name: getattr(found, name) for name in found.__slots__}
        return _page("console", status, visitor, **shown, kill_problem=kill_problem)

    return await run_in_threadpool(page)


def _page(template: str, status: int, visitor: Principal | None, **shown: Any) -> HTMLResponse:
    common = {"visitor": visitor, "here": template.replace("_", "-"), "platform_version": _VERSION}
    return HTMLResponse(render(template, **common, **shown), status, PAGE_HEADERS)


def _sign_in(
    status: int = 200, name: str = "", problem: str | None = None, *, signed_out: bool = False
) -> HTMLResponse:
    return _page("sign_in", status, None, name=name, problem=problem, signed_out=signed_out)


def _see(address: str) -> RedirectResponse:
    """Another page, fetched with GET whatever this was."""
    return RedirectResponse(address, 303)


def _why_not(fields: dict[str, str], reason: str) -> str | None:
    if fields.get("on") not in ("true", "false"):
        return "Expected the form of this page. Load it again."
    if not _SHORTEST_REASON <= len(reason) <= LONGEST_REASON:
        return f"Expected a reason of {_SHORTEST_REASON} to {LONGEST_REASON} characters: the audit log keeps it."
    if fields.get("confirmed") != "yes":
        return "Expected the box to be ticked: nothing was changed."
    return None


@lru_cache(maxsize=4)
def _reports(home: Home) -> ReportFiles:
    return ReportFiles(home)
