"""`/docs`: the API's reference as a page that needs nothing from outside."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from levibot_serving.console.api_reference import api_reference
from levibot_serving.console.pages import PAGE_HEADERS, render

router = APIRouter(include_in_schema=False)


# A thread: laying out the whole reference takes tens of milliseconds.
@router.get("/docs")
def get_docs(request: Request) -> HTMLResponse:
    """Every endpoint with its parameters, answers and a `curl` line; every shape with its fields."""
    address = f"{request.url.scheme}://{request.url.netloc}"
    reference = api_reference(request.app.openapi(), address)
    page = render("docs", reference=reference, here="docs", visitor=None)
    return HTMLResponse(page, headers=PAGE_HEADERS)
