"""Hands out the HTML pages among the reports of a home: backtests, model cards and Evidently's drift report.

A page is found by listing what is there, never by joining what a visitor sent to a path, and a link that leads out of
the reports is not followed. Each page runs in a sandbox of its own: it has no origin, so no cookie of ours, and may
load nothing from anywhere.
"""

from pathlib import Path
from typing import Final, Literal

from levibot_core.stores.paths import Home

ReportKind = Literal["backtests", "model_cards", "drift"]
KINDS: Final[tuple[ReportKind, ...]] = ("backtests", "model_cards", "drift")

_STATIC: Final = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
_WITH_SCRIPTS: Final = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; connect-src 'none'; form-action 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
POLICIES: Final[dict[ReportKind, str]] = {
    "backtests": _STATIC,
    "model_cards": _STATIC,
    # Evidently draws with scripts that are inside its page.
    "drift": _WITH_SCRIPTS,
}
"""The Content-Security-Policy of each kind of page."""


def find_page(home: Home, kind: str, name: str) -> tuple[Path, str] | None:
    """The file of a report page and its policy, or None where there is no such page.

    Args:
        home: Whose reports.
        kind: One of `KINDS`.
        name: The file's name without `.html`, as `page_names` lists it.
    """
    for known in KINDS:
        if known == kind:
            found = _pages(home, known).get(name)
            return None if found is None else (found, POLICIES[known])
    return None


def page_names(home: Home, kind: ReportKind) -> frozenset[str]:
    """The pages of a kind that can be handed out."""
    return frozenset(_pages(home, kind))


def _pages(home: Home, kind: ReportKind) -> dict[str, Path]:
    reports = home.reports.resolve()
    return {
        path.stem: path
        for path in (home.reports / kind).glob("[!.]*.html")
        if path.is_file() and path.resolve().is_relative_to(reports)
    }
