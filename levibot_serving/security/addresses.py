"""Where a request is from: the peer of the connection, or what a trusted proxy says about it.

Nobody is trusted unless it is configured; an untrusted peer may claim what it likes and is taken for itself.
"""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Final

from starlette.types import Scope

from levibot_serving.security.settings import Network

UNKNOWN: Final = "unknown"
"""The address of a connection without one, such as over a Unix socket; in no network."""
_MOST_REMEMBERED: Final = 4096
_LONGEST: Final = 45


class Networks:
    """Whether an address is in one of some networks. Answers are remembered: callers come back."""

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = tuple(networks)
        self._found = lru_cache(_MOST_REMEMBERED)(self._look)

    def __contains__(self, address: str) -> bool:
        return bool(self._networks) and len(address) <= _LONGEST and self._found(address)

    def _look(self, address: str) -> bool:
        try:
            found = ip_address(address)
        except ValueError:
            return False
        plain = getattr(found, "ipv4_mapped", None) or found
        return any(plain in network for network in self._networks)


def peer_address(scope: Scope) -> str:
    """The address at the other end of the connection."""
    peer = scope.get("client")
    return peer[0] if peer and peer[0] else UNKNOWN


@lru_cache(_MOST_REMEMBERED)
def household(address: str) -> str:
    """What counts as one place when requests are counted: an IPv4 address, or the /64 that one IPv6 line has."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return address if isinstance(found, IPv4Address) else str(ip_network(f"{found.exploded}/64", strict=False))


def client_address(scope: Scope, forwarded: bytes | None, proxies: Networks) -> str:
    """The address of whoever sent the request.

    Args:
        scope: Of the connection.
        forwarded: Its X-Forwarded-For headers, joined by commas; None where there is none.
        proxies: Whose word is taken. The last address that is not one of theirs is the client.
    """
    address = peer_address(scope)
    if forwarded is None or address not in proxies:
        return address
    for hop in reversed(forwarded.decode("latin-1").split(",")):
        named = _without_port(hop.strip())
        if not _is_address(named):
            return address
        address = named
        if address not in proxies:
            return address
    return address


def _without_port(hop: str) -> str:
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
