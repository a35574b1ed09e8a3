"""Lays the panels out: one Jinja environment, which escapes everything, and the files that pages load from this API.

Nothing is loaded from anywhere else, and no script or style stands in a page, which the policy sent along enforces.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from levibot_serving.console import wording

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of every page of the console."""
PAGE_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    # Without a referrer the browser would say of our own forms that they come from nowhere (`Origin: null`).
    "Referrer-Policy": "same-origin",
}
_KINDS: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_STATIC: Final = ("console.css", "console.js", "icon.svg")


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that pages load; `tag` changes with its content."""

    content: bytes
    media_type: str
    tag: str


def render(template: str, **context: Any) -> str:
    """A page.

    Args:
        template: Name of the template without its ending.
        context: What it shows; `now` is expected among it wherever ages are.
    """
    return _environment().get_template(f"{template}.html.j2").render(**context)


@cache
def static_files() -> dict[str, StaticFile]:
    """By name. The style sheet begins with that of model cards, whose colours and figures it shares."""
    found: dict[str, StaticFile] = {}
    for name in _STATIC:
        content = files("levibot_serving.console").joinpath("static", name).read_bytes()
        if name == "console.css":
            content = files("levibot_core.models").joinpath("page.css").read_bytes() + content
        kind = _KINDS[name[name.rindex(".") :]]
        found[name] = StaticFile(content, kind, hashlib.sha256(content).hexdigest()[:12])
    return found


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("levibot_serving.console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ago": wording.ago,
        "days": wording.days,
        "duration": wording.duration,
        "e_value": wording.e_value,
        "instant": wording.instant,
        "moment": wording.of_milliseconds,
        "number": wording.number,
        "percent": wording.percent,
        "price": wording.price,
        "signed": wording.signed,
        "signed_percent": wording.signed_percent,
        "drawing": _drawing,
        "iso": _iso,
    }
    environment.globals["file"] = _address
    return environment


def _address(name: str) -> str:
    return f"/console/{name}?{static_files()[name].tag}"


def _drawing(svg: str) -> Markup:
    """A drawing of ours: made of figures alone, and its words are escaped where it is made."""
    return Markup(svg)  # noqa: S704


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
