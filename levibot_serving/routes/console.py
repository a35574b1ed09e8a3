"""The console at `/`: its page, the files it loads, report pages of the home, sign-in and the kill switch's form.

These answer people in a browser; none of them is part of the contract with engines, so OpenAPI does not list them.
"""

from functools import lru_cache
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from levibot_core.errors import LevibotError
from levibot_core.stores.paths import Home
from levibot_serving.console.forms import expect_token, read_form
from levibot_serving.console.overview import overview
from levibot_serving.console.pages import PAGE_HEADERS, render, static_files
from levibot_serving.console.panels.kill_switch import LONGEST_REASON
from levibot_serving.console.report_files import ReportFiles
from levibot_serving.console.report_pages import find_page
from levibot_serving.console.visitors import ANYBODY, ConsoleParts, SignInRefusedError, Visitor
from levibot_serving.deps import Services, ServicesDep
from levibot_serving.errors import ApiError

router = APIRouter(include_in_schema=False)

SIGN_IN = "/sign-in"
_VERSION = version("levibot-platform")
_SHORTEST_REASON = 3
_A_YEAR_S = 31_536_000


async def _parts(request: Request) -> ConsoleParts:
    parts: ConsoleParts = getattr(request.app.state, "console", ConsoleParts())
    return parts


PartsDep = Annotated[ConsoleParts, Depends(_parts)]


async def _visitor(request: Request, parts: PartsDep) -> Visitor | None:
    """Who looks; None where this API has accounts and nobody is signed in."""
    return ANYBODY if parts.accounts is None else await parts.accounts.visitor(request)


VisitorDep = Annotated[Visitor | None, Depends(_visitor)]


@router.get("/")
async def get_console(services: ServicesDep, parts: PartsDep, visitor: VisitorDep) -> Response:
    """The page."""
    if visitor is None:
        return _see(SIGN_IN)
    return await _console(services, parts, visitor)


@router.get("/console/reports/{kind}/{name}")
async def get_report_page(
    services: ServicesDep, parts: PartsDep, visitor: VisitorDep, kind: str, name: str
) -> Response:
    """A page among the reports of the home, in a sandbox of its own."""
    if visitor is None:
        return _see(SIGN_IN)
    found = await run_in_threadpool(find_page, services.settings.folders, kind, name)
    if found is None:
        return _page("not_found", 404, parts, visitor, words="There is no such report.")
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
async def post_kill_switch(request: Request, services: ServicesDep, parts: PartsDep, visitor: VisitorDep) -> Response:
    """Throw the switch as the form says, and show the console again."""
    fields = await read_form(request)
    if visitor is None:
        return _see(SIGN_IN)
    if parts.kill_switch is None or not visitor.may_kill or visitor.name is None:
        raise ApiError(403, "not_allowed", "Expected an administrator: nobody else may throw the kill switch.")
    expect_token(visitor, fields)
    reason = " ".join(fields.get("reason", "").split())
    problem = _why_not(fields, reason)
    if problem is None:
        try:
            await run_in_threadpool(parts.kill_switch.throw, fields["on"] == "true", reason, visitor.name)
        except LevibotError as error:
            return await _console(services, parts, visitor, 503, f"It was not thrown. {error}")
        return _see("/#kill-switch")
    return await _console(services, parts, visitor, 400, problem)


@router.get(SIGN_IN)
async def get_sign_in(parts: PartsDep, visitor: VisitorDep, signed_out: bool = False) -> Response:
    """The form."""
    if visitor is not None and visitor.name is not None:
        return _see("/")
    return _sign_in(parts, signed_out=signed_out)


@router.post(SIGN_IN)
async def post_sign_in(request: Request, parts: PartsDep) -> Response:
    """Begin a session."""
    fields = await read_form(request)
    if parts.accounts is None:
        return _sign_in(parts, status=404)
    response, name = _see("/"), fields.get("name", "").strip()
    try:
        await parts.accounts.sign_in(request, response, name, fields.get("password", ""))
    except SignInRefusedError as error:
        refused = _sign_in(parts, status=error.status, name=name[:100], problem=str(error))
        if error.retry_after_s is not None:
            refused.headers["Retry-After"] = str(error.retry_after_s)
        return refused
    return response


@router.get("/sign-out")
async def get_sign_out(parts: PartsDep, visitor: VisitorDep) -> Response:
    """A page with the one button, for whoever types the address."""
    if visitor is None or visitor.name is None:
        return _see(SIGN_IN)
    return _page("sign_out", 200, parts, visitor)


@router.post("/sign-out")
async def post_sign_out(request: Request, parts: PartsDep, visitor: VisitorDep) -> Response:
    """End the session."""
    fields = await read_form(request)
    if parts.accounts is None or visitor is None:
        return _see(SIGN_IN)
    expect_token(visitor, fields)
    response = _see(f"{SIGN_IN}?signed_out=true")
    await parts.accounts.sign_out(request, response)
    return response


async def _console(
    services: Services, parts: ConsoleParts, visitor: Visitor, status: int = 200, kill_problem: str | None = None
) -> HTMLResponse:
    """Gathered and laid out in a thread: the online store may keep its caller waiting."""

    def page() -> HTMLResponse:
        found = overview(services, _reports(services.settings.folders), parts.kill_switch, visitor)
        shown: dict[str, Any] = {name: getattr(found, name) for name in found.__slots__}
        return _page("console", status, parts, visitor, **shown, kill_problem=kill_problem)

    return await run_in_threadpool(page)


def _page(template: str, status: int, parts: ConsoleParts, visitor: Visitor | None, **shown: Any) -> HTMLResponse:
    common = {
        "visitor": visitor,
        "accounts": parts.accounts is not None,
        "here": template.replace("_", "-"),
        "platform_version": _VERSION,
    }
    return HTMLResponse(render(template, **common, **shown), status, PAGE_HEADERS)


def _sign_in(
    parts: ConsoleParts, status: int = 200, name: str = "", problem: str | None = None, signed_out: bool = False
) -> HTMLResponse:
    return _page("sign_in", status, parts, None, name=name, problem=problem, signed_out=signed_out)


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
