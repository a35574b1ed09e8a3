"""One spelling of a symbol inside (`BTC/USDT`), every usual spelling at the edges.

Which symbols a home trades is a setting (`levibot_core.config`), not decided here.
"""

import re

from levibot_core.errors import UnknownSymbolError

LEADER = "BTC/USDT"
"""The market whose returns every symbol's features see."""

_QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD", "EUR", "TRY", "BTC", "ETH")
_SEPARATED = re.compile(r"^([A-Z0-9]{2,15})[/\-_:]([A-Z0-9]{2,10})$")
_JOINED = re.compile(r"^([A-Z0-9]{2,15}?)(" + "|".join(_QUOTES) + r")$")


def normalize_symbol(text: str) -> str:
    """Return the inside spelling of a symbol: `btcusdt`, `BTC-USDT` and `BTC/USDT` all give `BTC/USDT`.

    Raises:
        UnknownSymbolError: the text is not a pair of a base and a quote currency.
    """
    candidate = text.strip().upper()
    match = _SEPARATED.match(candidate) or _JOINED.match(candidate)
    if match is None:
        raise UnknownSymbolError(f"Expected a symbol such as BTC/USDT, BTC-USDT or BTCUSDT, was {text[:40]!r}.")
    return f"{match[1]}/{match[2]}"


def path_symbol(symbol: str) -> str:
    """Spelling used in paths and partition keys: `BTC-USDT`."""
    return normalize_symbol(symbol).replace("/", "-")


def compact_symbol(symbol: str) -> str:
    """Spelling used by exchanges and engines: `BTCUSDT`."""
    return normalize_symbol(symbol).replace("/", "")
