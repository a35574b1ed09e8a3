"""Access tokens: JSON Web Tokens (RFC 7519) signed with HMAC-SHA256, how they are made and read.

Whether the user and the session of a genuine token still exist is asked in `access`.
"""

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import jwt
from jwt.types import Options

from levibot_core.security.signing_keys import SigningKey
from levibot_core.security.users import User

Flaw = Literal["malformed", "unknown_key", "forged", "expired", "unfit", "ended"]

ISSUER: Final = "levibot"
AUDIENCE: Final = "levibot-api"
ALGORITHM: Final = "HS256"
LONGEST_TOKEN: Final = 2048
"""Characters; ours have about 400. Longer ones are not looked at."""
_CLAIMS: Final = ("iss", "aud", "sub", "role", "sid", "cid", "iat", "exp")
# A clock that was set back does not make tokens invalid that were issued before.
_OPTIONS: Final[Options] = {"require": list(_CLAIMS), "verify_iat": False, "strict_aud": True}


class TokenRefusedError(Exception):
    """A token that does not prove anything; `flaw` says why, for the audit log and never for the caller."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(flaw)
        self.flaw: Final = flaw


@dataclass(frozen=True, slots=True)
class Claims:
    """What a genuine token says."""

    user: str
    session_id: str
    credential_id: str
    expires_at_s: float
    csrf_token: str


def issue_token(key: SigningKey, user: User, session_id: str, lifetime_s: float) -> str:
    """A token for a session of the user, which works for `lifetime_s` seconds from now."""
    now = int(time.time())
    claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": user.name,
        "role": user.role.value,
        "sid": session_id,
        "cid": user.credential_id,
        "iat": now,
        "exp": now + int(lifetime_s),
        # Two tokens of one second differ: whoever renews one can tell the new one from the old one.
        "jti": secrets.token_hex(8),
    }
    return jwt.encode(claims, key.content, ALGORITHM, headers={"kid": key.id})


def read_token(token: str, keys: Mapping[str, bytes]) -> Claims:
    """What the token says, after its signature, its times, its issuer and its audience were checked.

    Args:
        token: As it was sent.
        keys: The accepted keys by their ids.

    Raises:
        TokenRefusedError: it is not one of ours, or has expired.
    """
    if len(token) > LONGEST_TOKEN:
        raise TokenRefusedError("malformed")
    try:
        key_id = jwt.get_unverified_header(token).get("kid")
        key = keys.get(key_id) if isinstance(key_id, str) else None
        if key is None:
            raise TokenRefusedError("unknown_key")
        # The algorithm is ours, whatever the header says.
        claims = jwt.decode(token, key, [ALGORITHM], _OPTIONS, audience=AUDIENCE, issuer=ISSUER)
        return Claims(
            user=claims["sub"],
            session_id=str(claims["sid"]),
            credential_id=str(claims["cid"]),
            expires_at_s=float(claims["exp"]),
            csrf_token=_csrf_token(key, str(claims["sid"])),
        )
    except jwt.ExpiredSignatureError:
        raise TokenRefusedError("expired") from None
    except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError):
        raise TokenRefusedError("forged") from None
    except jwt.DecodeError:
        raise TokenRefusedError("malformed") from None
    except (jwt.PyJWTError, ValueError, TypeError):
        raise TokenRefusedError("unfit") from None


def _csrf_token(key: bytes, session_id: str) -> str:
    return hmac.new(key, f"csrf {session_id}".encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]
