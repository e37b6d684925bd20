"""One POST to an address that a user chose: bounded, no redirects, no private network."""

from __future__ import annotations

import socket
from importlib.metadata import version
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final

import aiohttp

from nightmill_worker.messages.text import clean
from nightmill_worker.webhooks.reply import PostReply

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.client_reqrep import ClientResponse

    AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]

TIMEOUT_S: Final = 20
"""Longest time of a whole post, seconds."""
PROBLEM_CHARS: Final = 500
"""Characters kept of an error's text."""
SUCCESS: Final = range(200, 300)
REDIRECTS: Final = range(300, 400)
GONE: Final = 410
NAT64: Final = IPv6Network("64:ff9b::/96")
"""Each of these IPv6 addresses ends in the IPv4 address that it leads to."""


class PrivateAddressError(OSError):
    """A host name resolves to an address that is not on the public internet."""


async def post(
    url: str, body: bytes, headers: Mapping[str, str], *, allow_private: bool = False
) -> PostReply:
    """Post JSON and return the result. Raises nothing and does not read the answer's body.

    Without `allow_private`, only addresses of the public internet are connected to. The check is
    done on the resolved address itself, so the name cannot be changed after the check.
    """
    refused: list[str] = []
    connector = aiohttp.TCPConnector(
        socket_factory=None if allow_private else _public_sockets(refused), force_close=True
    )
    common = {"content-type": "application/json", "user-agent": f"nightmill/{version('nightmill')}"}
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                auto_decompress=False,  # the body is not read
            ) as session,
            session.post(
                url, data=body, headers={**common, **headers}, allow_redirects=False
            ) as response,
        ):
            return _read(response)
    except TimeoutError:
        return PostReply(problem=f"no answer within {TIMEOUT_S} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if refused:
            return PostReply(problem=_private(refused[0]), final=True)
        return PostReply(problem=clean(str(error) or type(error).__name__, PROBLEM_CHARS))


def _read(response: ClientResponse) -> PostReply:
    status = response.status
    if status in SUCCESS:
        return PostReply()
    if status in REDIRECTS:
        return PostReply(problem=f"{status}: redirects are not followed")
    try:
        asked_s = max(0.0, float(response.headers.get("retry-after", "0")))
    except ValueError:  # an HTTP date is not supported
        asked_s = 0.0
    return PostReply(problem=f"{status}", final=status == GONE, retry_after_s=asked_s)


def _private(address: str) -> str:
    return (
        f"{address} is a private address; NIGHTMILL_WEBHOOK_ALLOW_PRIVATE=true allows it, then "
        "ask for the webhook again"
    )


def _public_sockets(refused: list[str]) -> Callable[[AddressInfo], socket.socket]:
    """Return a socket factory that refuses private addresses and appends them to `refused`."""

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, where = info
        if not is_public(where[0]):
            refused.append(where[0])
            raise PrivateAddressError(f"{where[0]} is a private address")
        return socket.socket(family, kind, protocol)

    return make


def is_public(address: str) -> bool:
    """Return whether an IP address is public; of an IPv6 one with an IPv4 one inside, that one."""
    found: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(found, IPv6Address):
        inner = found.ipv4_mapped
        if inner is None and found in NAT64:
            inner = IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if found.sixtofour or found.teredo or found.is_site_local:
            return False
    return found.is_global and not (found.is_multicast or found.is_reserved)
