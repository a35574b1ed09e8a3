"""What a form of the console sends: small, URL-encoded, and with the token of its session.

That it was sent by a page of this API is checked at the door (`levibot_serving.security.guard`), before it is read.
"""

import hmac
from urllib.parse import parse_qs

from fastapi import Request

from levibot_core.security.roles import Principal
from levibot_serving.errors import ApiError

LONGEST_FORM_BYTES = 4096
_MOST_FIELDS = 10
_URL_ENCODED = "application/x-www-form-urlencoded"


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form, the last of each name; surrounding blanks are kept.

    Raises:
        ApiError: it is no URL-encoded form (415), is longer than a form of ours (413), or cannot be read (400).
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _URL_ENCODED:
        raise ApiError(415, "unsupported_form", f"Expected a form of the kind {_URL_ENCODED}, was {kind[:60]!r}.")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LONGEST_FORM_BYTES:
            raise ApiError(413, "form_too_long", f"Expected a form of at most {LONGEST_FORM_BYTES} bytes.")
    try:
        fields = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise ApiError(400, "unreadable_form", "Expected a URL-encoded form of UTF-8 text.") from error
    return {name: values[-1] for name, values in fields.items()}


def expect_token(visitor: Principal, fields: dict[str, str]) -> None:
    """Refuse a form without the token of its session.

    Raises:
        ApiError: 403.
    """
    if not hmac.compare_digest(fields.get("csrf_token", "").encode(), visitor.csrf_token.encode()):
        raise ApiError(403, "stale_form", "Expected the form of this session. Load the page again and repeat it.")
