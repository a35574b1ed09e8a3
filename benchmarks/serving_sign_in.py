"""Signs benchmarks of the API in: users made in the home, and the header with a token of one.

The one place of the benchmarks that knows how users are made and how a token is got.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Final

from levibot_core.security.roles import Role
from levibot_core.security.users import UsersFile
from levibot_core.stores.paths import Home

ENGINE, PERSON = "benchmark-engine", "benchmark-person"
SIGNED_IN_ENVIRONMENT: Final[Mapping[str, str]] = {
    # The budget of an engine is not what is measured, and no benchmark is over before a token of 15 minutes expires.
    "LEVIBOT_ENGINE_PREDICT_PER_MINUTE": "100000000",
    "LEVIBOT_ACCESS_TOKEN_SECONDS": "86400",
}
"""What a server is told so that whoever signed in is not held up."""
_PASSWORD: Final = "four unrelated words"  # noqa: S105 - of users of one run, in a home that is deleted after it


def add_users(home: Home) -> None:
    """Add an engine (role service) and a person (role viewer) to a home; its server may run already."""
    users = UsersFile(home.users)
    for name, role in ((ENGINE, Role.SERVICE), (PERSON, Role.VIEWER)):
        users.add(name, role, _PASSWORD)


def signed_in(url: str, user: str = ENGINE) -> dict[str, str]:
    """Headers of a request that the API at that address lets in."""
    body = json.dumps({"username": user, "password": _PASSWORD}).encode()
    request = urllib.request.Request(f"{url}/auth/login", body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return {"Authorization": f"Bearer {json.load(answer)['access_token']}"}


def accepted_of_a_person(urls: Sequence[str], path: str, requests: int) -> int:
    """How many of so many requests of one person, sent to the servers in turn, are let in."""
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
