"""The HTTP proxy for calls to the endpoint, from the variables that curl and the SDKs use.

HTTP_PROXY is for http:// endpoints, HTTPS_PROXY for https:// ones, ALL_PROXY for both; NO_PROXY
lists hosts that are called directly. Lower case wins over upper case. Calls to this machine (the
simulator) never go by a proxy.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final
from urllib.parse import unquote

import msgspec
from yarl import URL

from nightmill.errors import SettingsError

SCHEMES: Final = ("http", "https")
PORTS: Final = {"http": 80, "https": 443}
AUTHORIZATION: Final = "Proxy-Authorization"


class Proxy(msgspec.Struct, frozen=True, kw_only=True):
    """A proxy and the credential for it."""

    url: URL
    """Its address, without a credential."""
    variable: str
    """The variable that names it."""
    authorization: str = ""

    def __str__(self) -> str:
        """Name it for a person, without its credential."""
        return f"{self.variable} {str(self.url).rstrip('/')}"

    def headers(self) -> dict[str, str]:
        """Return the headers that are for the proxy."""
        return {AUTHORIZATION: self.authorization} if self.authorization else {}


def proxy_for(endpoint: URL, env: Mapping[str, str] = os.environ) -> Proxy | None:
    """Return the proxy of calls to `endpoint`, None when they go there directly.

    Raises SettingsError, without the credential, for a proxy that cannot be used.
    """
    if _is_this_machine(endpoint.host or "") or bypassed(endpoint, _get(env, "no_proxy")[1]):
        return None
    variable, given = _get(env, f"{endpoint.scheme}_proxy", "all_proxy")
    return _parsed(variable, given.strip()) if given.strip() else None


def bypassed(endpoint: URL, no_proxy: str) -> bool:
    """Return whether NO_PROXY lists the endpoint.

    Its entries, separated by commas or spaces: *, a host with its subdomains, .example.com,
    *.example.com, an IP address, a network such as 10.0.0.0/8; each may end in a port.
    """
    host, port = (endpoint.host or "").lower().rstrip("."), endpoint.port or PORTS[endpoint.scheme]
    address = _address(host)
    return any(
        wanted in ("", str(port)) and (name == "*" or _matches(name, host, address))
        for name, wanted in _entries(no_proxy)
    )


def _entries(no_proxy: str) -> Iterator[tuple[str, str]]:
    """Yield (host or network, port or "") for each entry."""
    for entry in re.split(r"[,\s]+", no_proxy.lower()):
        if not entry:
            continue
        bracketed = re.fullmatch(r"\[(.+)\](?::(\d+))?", entry)
        plain = re.fullmatch(r"([^:]+):(\d+)", entry)  # an IPv6 address has more colons
        if found := bracketed or plain:
            yield found[1], found[2] or ""
        else:
            yield entry, ""


def _matches(name: str, host: str, address: IPv4Address | IPv6Address | None) -> bool:
    if address is not None:
        try:
            return address in ip_network(name, strict=False)
        except ValueError:
            return False
    plain = name.removeprefix("*").strip(".")
    return bool(plain) and (host == plain or host.endswith(f".{plain}"))


def _address(host: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found


def _is_this_machine(host: str) -> bool:
    address = _address(host)
    if address is not None:
        return address.is_loopback or address.is_unspecified
    return host.lower().rstrip(".").rpartition(".")[2] == "localhost"


def _get(env: Mapping[str, str], *names: str) -> tuple[str, str]:
    """Return the first of these variables that is set, and its value; names in lower case.

    A CGI server sets HTTP_PROXY from a header of its client, so it is not read there.
    """
    for name in names:
        for key in (name, name.upper()):
            if env.get(key) and not (key == "HTTP_PROXY" and "REQUEST_METHOD" in env):
                return key, env[key]
    return "", ""


def _parsed(variable: str, given: str) -> Proxy:
    """Return the proxy that a variable names; without a scheme it is http://."""
    text = given if "://" in given else f"http://{given}"
    scheme, _, rest = text.partition("://")
    if scheme.lower() not in SCHEMES:
        raise SettingsError(
            f"{variable} is a {scheme}:// proxy, which nightmill cannot use: give an http:// one, "
            "or unset it"
        )
    user, _, where = rest.rpartition("@")
    try:
        url = URL(f"{scheme.lower()}://{where}")
    except ValueError:  # its text may quote a part of the password
        url = URL()
    if not url.host or url.path.strip("/") or url.query_string or url.fragment:
        raise SettingsError(
            f"{variable} is not the address of a proxy: use http://HOST:PORT; percent-encode a / # "
            "or ? in its password (%2F %23 %3F)"
        )
    authorization = ""
    if user:
        name, _, password = user.partition(":")
        plain = f"{unquote(name)}:{unquote(password)}".encode()
        authorization = f"Basic {base64.b64encode(plain).decode()}"
    return Proxy(url=url.origin(), variable=variable, authorization=authorization)
