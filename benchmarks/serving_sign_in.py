"""Signs benchmarks of the API in: users made in the home, and the header with a token of one.

The one place of the benchmarks that knows how users are made and how a token is got.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from importlib.util import find_spec

from benchmarks.serving_home import ServedHome

ENGINE, PERSON = "benchmark-engine", "benchmark-person"
_AUTHENTICATED = find_spec("levibot_core.security") is not None


def add_users(served: ServedHome) -> None:
    """Add an engine (role service) and a person (role viewer) to the home, before a server of it starts."""
    if _AUTHENTICATED:
        raise NotImplementedError(f"Add {ENGINE} and {PERSON} to {served.home.root}.")


def signed_in(url: str, user: str = ENGINE) -> dict[str, str]:
    """Headers of a request that the API at that address lets in; empty where it asks for none."""
    if not _AUTHENTICATED:
        return {}
    body = json.dumps({"username": user, "password": _password(user)}).encode()
    request = urllib.request.Request(f"{url}/auth/login", body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return {"Authorization": f"Bearer {json.load(answer)['access_token']}"}


def accepted_of_a_person(urls: Sequence[str], path: str, requests: int) -> int | None:
    """How many of so many requests of one person, sent to the servers in turn, are let in; None without sign-in."""
    if not _AUTHENTICATED:
        return None
    headers = signed_in(urls[0], PERSON)
    accepted = 0
    for number in range(requests):
        request = urllib.request.Request(urls[number % len(urls)] + path, headers=headers)  # noqa: S310
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
                accepted += answer.status == 200
        except urllib.error.HTTPError as refused:
            if refused.code != 429:
                raise
    return accepted


def _password(user: str) -> str:
    """Of users that exist for one run, in a home that is deleted after it."""
    return f"{user}-of-one-run-only-17"
