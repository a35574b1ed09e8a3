"""Tokens that are not ours, or not any more: all refused, on a real route, with the same words."""

import base64
import json
import time
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import jwt
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from levibot_core.security.roles import Role
from levibot_core.security.sessions import Sessions
from levibot_core.security.signing_keys import SigningKeysFile
from levibot_core.security.users import UsersFile
from levibot_core.stores.paths import Home
from levibot_serving.security.access import Access
from levibot_serving.security.tokens import TokenRefusedError, issue_token, read_token

pytestmark = pytest.mark.anyio

Api = Callable[..., httpx.AsyncClient]


@pytest.fixture
def mint(home: Home, visitors: Any) -> Callable[..., str]:
    """Signs what it is told, with the key of the home unless told otherwise."""
    visitors.move_in(home)
    real = jwt.decode(visitors.tokens["viewer"], options={"verify_signature": False})
    key = SigningKeysFile(home.signing_keys).ensure()

    def make(
        secret: bytes = key.content, algorithm: str = "HS256", kid: object = key.id, drop: str = "", **claims: object
    ) -> str:
        chosen = {name: value for name, value in {**real, **claims}.items() if name != drop}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", jwt.InsecureKeyLengthWarning)  # The key is for SHA-256.
            return jwt.encode(chosen, secret, algorithm, headers={"kid": kid})

    return make


def _unsigned(token: str, algorithm: str, *, keep_signature: bool = False, **claims: object) -> str:
    header, payload, signature = token.split(".")

    def packed(part: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()

    def unpacked(part: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        return found

    parts = (packed({**unpacked(header), "alg": algorithm}), packed({**unpacked(payload), **claims}))
    return ".".join((*parts, signature if keep_signature else ""))


async def test_every_forged_or_outdated_token_is_refused_with_the_same_words(
    api: Api, mint: Callable[..., str], visitors: Any, error_of: Callable[[httpx.Response], dict[str, Any]]
) -> None:
    good, now = visitors.tokens["viewer"], int(time.time())
    tokens = {
        "expired": mint(exp=now - 1),
        "wrong key": mint(secret=b"w" * 32),
        "unknown key": mint(kid="other"),
        "key without a name": mint(kid=""),
        "alg none": _unsigned(good, "none"),
        "alg None": _unsigned(good, "None"),
        "alg none with the signature": _unsigned(good, "none", keep_signature=True),
        "other role forged": _unsigned(good, "HS256", keep_signature=True, role="admin"),
        "other user forged": _unsigned(good, "HS256", keep_signature=True, sub="admin"),
        "other algorithm": mint(algorithm="HS512"),
        "other algorithm named": _unsigned(good, "RS256", keep_signature=True),
        "truncated": good[:-1],
        "half": good[: len(good) // 2],
        "two parts": good.rpartition(".")[0],
        "doubled": good + good,
        "wrong audience": mint(aud="another"),
        "list of audiences": mint(aud=["levibot-api", "x"]),
        "wrong issuer": mint(iss="another"),
        "unknown user": mint(sub="nobody"),
        "unknown session": mint(sid="x"),
        "password before": mint(cid="x"),
        "not yet": mint(nbf=now + 3600),
        "too long": "x" * 5000,
        "spaces": f"{good} {good}",
        "not ascii": "ä.ö.ü",
        "empty": "",
    }
    tokens |= {
        f"without {claim}": mint(drop=claim) for claim in ("iss", "aud", "sub", "role", "sid", "cid", "iat", "exp")
    }
    messages = set()
    async with api(role=None) as client:
        for name, token in tokens.items():
            sent = f"Bearer {token}".encode("latin-1")
            response = await client.get("/ai/models", headers=[(b"Authorization", sent)])
            assert response.status_code == 401, name
            assert response.headers["www-authenticate"] == 'Bearer error="invalid_token"', name
            messages.add(error_of(response)["message"])
        for headers in ({}, {"Authorization": f"Basic {good}"}, {"Authorization": good}, {"X-Token": good}):
            assert (await client.get("/ai/models", headers=headers)).status_code == 401
        twice = [("Authorization", f"Bearer {good}"), ("Authorization", f"Bearer {good}")]
        assert (await client.get("/ai/models", headers=twice)).status_code == 401
        in_the_address = await client.get("/ai/models", params={"access_token": good, "token": good})
        assert in_the_address.status_code == 401
        accepted = await client.get("/auth/me", headers={"Authorization": f"bearer {good}"})
        assert (accepted.status_code, accepted.json()) == (200, {"name": "viewer", "role": "viewer"})
    assert len(messages) == 1


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_change_of_a_token_is_accepted(data: st.DataObject, visitors: Any) -> None:
    good = visitors.tokens["viewer"]
    keys = {key.id: key.content for key in SigningKeysFile(visitors._home.signing_keys).read()}
    assert read_token(good, keys).user == "viewer"
    place = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.characters(max_codepoint=0x2FF).filter(lambda letter: letter != good[place]))
    altered = data.draw(
        st.sampled_from([good[:place] + other + good[place + 1 :], good[:place] + good[place + 1 :], good[:place]])
        | st.text(max_size=60)
    )
    try:
        read = read_token(altered, keys)
    except TokenRefusedError:
        return
    # The last letter of base64 has bits that mean nothing: other text, the same token.
    assert altered[:-1] == good[:-1]
    assert read == read_token(good, keys)


def test_what_changes_in_the_home_holds_for_tokens_that_were_verified_before(home: Home, visitors: Any) -> None:
    visitors.move_in(home)
    users, access = UsersFile(home.users, visitors.hashes), Access(home)
    viewer, trader = visitors.tokens["viewer"], visitors.tokens["trader"]
    assert access.principal(viewer).role is Role.VIEWER
    assert access.principal(viewer) is access.principal(viewer)

    users.set_role("viewer", Role.ADMIN)
    access.look()
    assert access.principal(viewer).role is Role.ADMIN

    Sessions(home.sessions).end(access.principal(viewer).session_id)
    users.set_password("trader", "another four unrelated words")
    access.look()
    for token in (viewer, trader):
        with pytest.raises(TokenRefusedError):
            access.principal(token)

    users.remove("admin")
    assert access.principal(visitors.tokens["service"]).role is Role.SERVICE
    access.look()
    with pytest.raises(TokenRefusedError):
        access.principal(visitors.tokens["admin"])


def test_a_rotated_key_is_accepted_while_its_tokens_live(home: Home, visitors: Any) -> None:
    visitors.move_in(home)
    keys, access = SigningKeysFile(home.signing_keys), Access(home)
    before = visitors.tokens["viewer"]
    user, claims = UsersFile(home.users).read()["viewer"], access.principal(before)
    new = keys.rotate(timedelta(minutes=15))
    # Unknown when it was last looked; known after another look.
    assert access.principal(issue_token(new, user, claims.session_id, 60)).name == "viewer"
    assert access.principal(before).name == "viewer"

    keys.rotate(timedelta(0))
    access.look()
    with pytest.raises(TokenRefusedError):
        access.principal(before)


def test_files_that_cannot_be_read_leave_what_was_known(
    home: Home, visitors: Any, caplog: pytest.LogCaptureFixture
) -> None:
    visitors.move_in(home)
    access = Access(home)
    token = visitors.tokens["viewer"]
    assert access.principal(token).name == "viewer"
    home.users.chmod(0o644)
    home.users.touch()
    access.look()
    assert access.principal(token).name == "viewer"
    assert "mode 644" in str(access.problem)
    assert "mode 644" in caplog.text
    home.users.chmod(0o600)
    access.look()
    assert access.problem is None


def test_a_home_without_users_lets_nobody_in_and_stays_empty(tmp_path: Any, visitors: Any) -> None:
    home = Home.at(tmp_path / "nothing")
    with pytest.raises(TokenRefusedError):
        Access(home).principal(visitors.tokens["admin"])
    assert not home.root.exists()
