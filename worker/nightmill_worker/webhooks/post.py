"""One POST to an address that a stranger chose: bounded, no redirects, no private network."""

from __future__ import annotations

import socket
from importlib.metadata import version
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING, Final

import aiohttp
import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp.client_reqrep import ClientResponse

    AddressInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]

TIMEOUT_S: Final = 20
SUCCESS: Final = range(200, 300)
REDIRECTS: Final = range(300, 400)
GONE: Final = 410
NAT64: Final = IPv6Network("64:ff9b::/96")
"""IPv6 addresses that end in the IPv4 address they lead to."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a POST: "" or the problem, whether that stays, and the wait it asks for."""

    problem: str = ""
    final: bool = False
    retry_after_s: float = 0.0


class PrivateAddressError(OSError):
    """A name leads to an address that is not on the public internet."""


async def post(
    url: str, body: bytes, headers: Mapping[str, str], *, allow_private: bool = False
) -> Answer:
    """Post JSON and tell what came of it; raises nothing. The answer's body is not read.

    Unless `allow_private`, the address is judged when the connection is made, after the name was
    resolved: no name can point elsewhere in between.
    """
    refused: list[str] = []
    connector = aiohttp.TCPConnector(
        socket_factory=None if allow_private else _public_sockets(refused), force_close=True
    )
    told = {"content-type": "application/json", "user-agent": f"nightmill/{version('nightmill')}"}
    try:
        async with (
            aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            ) as session,
            session.post(
                url, data=body, headers={**told, **headers}, allow_redirects=False
            ) as response,
        ):
            return _read(response)
    except TimeoutError:
        return Answer(problem=f"no answer within {TIMEOUT_S} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        if refused:
            return Answer(problem=_private(refused[0]), final=True)
        return Answer(problem=str(error) or type(error).__name__)


def _read(response: ClientResponse) -> Answer:
    status = response.status
    if status in SUCCESS:
        return Answer()
    if status in REDIRECTS:
        return Answer(problem=f"{status}: redirects are not followed")
    try:
        asked_s = max(0.0, float(response.headers.get("retry-after", "0")))
    except ValueError:  # a date
        asked_s = 0.0
    return Answer(problem=f"{status}", final=status == GONE, retry_after_s=asked_s)


def _private(address: str) -> str:
    return (
        f"{address} is a private address; NIGHTMILL_WEBHOOK_ALLOW_PRIVATE=true allows it, then "
        "ask for the webhook again"
    )


def _public_sockets(refused: list[str]) -> Callable[[AddressInfo], socket.socket]:
    """Return what makes sockets to public addresses alone, and notes the others."""

    def make(info: AddressInfo) -> socket.socket:
        family, kind, protocol, _, where = info
        if not is_public(where[0]):
            refused.append(where[0])
            raise PrivateAddressError(f"{where[0]} is a private address")
        return socket.socket(family, kind, protocol)

    return make


def is_public(address: str) -> bool:
    """Tell whether an IP address is one of the public internet, also where it wraps an IPv4 one."""
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
