"""The address of Redis, read from REDIS_URL. Pure; errors are ValueError and show no part of it.

redis://[USER:PASSWORD@]HOST:PORT/DATABASE, rediss:// with TLS, unix:///PATH, and with Sentinels
redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/PRIMARY/DATABASE, or rediss+sentinel://.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

import msgspec

FIX_URL: Final = (
    "it cannot be read as a URL; percent-encode a / # ? @ or : in its password (%2F %23 %3F %40 "
    "%3A)"
)
SENTINEL: Final = "+sentinel"
SENTINEL_PORT: Final = 26379
REDIS_SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
TLS_OPTIONS: Final = frozenset(
    ("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_check_hostname", "ssl_keyfile")
)
SENTINEL_OPTIONS: Final = frozenset(("sentinel_password", "sentinel_username"))
REDIS_OPTIONS: Final = frozenset(
    {
        *("client_name", "db", "health_check_interval", "password", "protocol"),
        *("socket_connect_timeout", "socket_keepalive", "socket_timeout", "username"),
    }
)
"""Options of any Redis URL. redis-py takes others too that would change what it returns."""
_CERT_REQS: Final = ("none", "optional", "required")
YES: Final = ("yes", "true", "on", "1", "y", "t")
"""How an option of a URL says yes."""
_NO: Final = ("no", "false", "off", "0", "n", "f")
_HOST: Final = re.compile(r"(?:\[([0-9a-fA-F:.%]+)\]|([^\[\]:,\s]+))(?::([0-9]{1,5}))?")
_WITH_SENTINELS: Final = "redis+sentinel://HOST:PORT,HOST:PORT/PRIMARY/DATABASE"
_LAST_PORT: Final = 65_535


class RedisAddress(msgspec.Struct, frozen=True, kw_only=True):
    """Where Redis is."""

    url: str
    """What redis-py reads. With Sentinels, its host and port are those of the first one."""
    sentinels: tuple[tuple[str, int], ...] = ()
    """Hosts and ports of the Sentinels that know the primary; () without Sentinel."""
    primary: str = ""
    """The name that the Sentinels have for it."""
    username: str | None = None
    """For the Sentinels themselves, as is the password."""
    password: str | None = None
    tls: dict[str, str] | None = None
    """Options of TLS, None without TLS."""


def read_redis_url(given: str) -> RedisAddress:
    """Return the address. Raises ValueError for what redis-py would read otherwise than meant."""
    scheme, _, rest = given.partition("://")
    if scheme not in REDIS_SCHEMES:
        raise ValueError(
            f"not a Redis URL: use redis://HOST:PORT, rediss://, unix:///PATH or {_WITH_SENTINELS}"
        )
    return _with_sentinels(scheme, rest) if scheme.endswith(SENTINEL) else _single(scheme, given)


def _single(scheme: str, given: str) -> RedisAddress:
    parts = split_url(given, FIX_URL)
    options = _options(parts.query, scheme)
    address = RedisAddress(url=given, tls=_tls(options) if scheme == "rediss" else None)
    if scheme == "unix":
        if not parts.path:
            raise ValueError("it names no socket: use unix:///PATH")
        return address
    _, _, rest = given.partition("://")
    if "@" in rest.replace(parts.netloc, "", 1):  # a / # or ? ended the host inside the password
        raise ValueError(FIX_URL)
    _require_number(parts.path.strip("/"))
    return address


def _with_sentinels(scheme: str, rest: str) -> RedisAddress:
    """Read by hand what stands between user and options: urlsplit knows no list of hosts."""
    netloc, _, tail = rest.partition("/")
    if "@" in tail or "#" in rest or "?" in netloc:
        raise ValueError(FIX_URL if "@" in rest else _NO_PRIMARY)
    user, at, hosts = netloc.rpartition("@")
    path, _, query = tail.partition("?")
    options = _options(query, scheme)
    primary, _, database = path.strip("/").partition("/")
    if not primary:
        raise ValueError(_NO_PRIMARY)
    _require_number(database)
    sentinels = tuple(_host(one) for one in hosts.split(","))
    plain = scheme.removesuffix(SENTINEL)
    host, port = sentinels[0]
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    own = {name: value for name, value in options.items() if name not in SENTINEL_OPTIONS}
    return RedisAddress(
        url=f"{plain}://{user}{at}{place}/{database}" + ((own and f"?{urlencode(own)}") or ""),
        sentinels=sentinels,
        primary=unquote(primary),
        username=options.get("sentinel_username"),
        password=options.get("sentinel_password"),
        tls=_tls(options) if plain == "rediss" else None,
    )


_NO_PRIMARY: Final = f"it does not name the primary that its Sentinels watch: {_WITH_SENTINELS}"


def _host(text: str) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    if not found or int(found[3] or SENTINEL_PORT) > _LAST_PORT:
        raise ValueError(f"its Sentinels are not HOST:PORT, separated by commas: {_WITH_SENTINELS}")
    return found[1] or found[2], int(found[3] or SENTINEL_PORT)


def _require_number(database: str) -> None:
    if database and not database.isdecimal():
        raise ValueError("its database, after the last /, is not a number")


def _options(query: str, scheme: str) -> dict[str, str]:
    """Return the options of a URL."""
    known = REDIS_OPTIONS
    if scheme.startswith("rediss"):
        known |= TLS_OPTIONS
    if scheme.endswith(SENTINEL):
        known |= SENTINEL_OPTIONS
    options = dict(parse_qsl(query))
    if unknown := set(options) - known:
        name = min(unknown)
        if name in TLS_OPTIONS:
            raise ValueError(f"its option {name} needs TLS: use rediss:// or rediss+sentinel://")
        raise ValueError(f"it has no option {name}: {', '.join(sorted(known))}")
    if options.get("ssl_cert_reqs", "none") not in _CERT_REQS:
        raise ValueError(f"its option ssl_cert_reqs is none of {', '.join(_CERT_REQS)}")
    if options.get("ssl_check_hostname", "no").lower() not in (*YES, *_NO):
        raise ValueError("its option ssl_check_hostname is neither yes nor no")
    if "ssl_keyfile" in options and "ssl_certfile" not in options:
        raise ValueError("its option ssl_keyfile needs ssl_certfile, the certificate of that key")
    return options


def _tls(options: dict[str, str]) -> dict[str, str]:
    """Return the options of TLS. The host's name is checked unless the URL says otherwise."""
    given = {name: options[name] for name in sorted(TLS_OPTIONS) if name in options}
    if "ssl_certfile" in given:
        given.setdefault("ssl_keyfile", given["ssl_certfile"])  # one PEM file may hold both
    if given.get("ssl_cert_reqs") == "none":
        return given | {"ssl_check_hostname": "no"}  # without a certificate, there is no name
    return {"ssl_check_hostname": "yes", **given}


def split_url(url: str, problem: str) -> SplitResult:
    """Return the parts of a URL; its port is a number."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:  # its text quotes a part of the URL
        raise ValueError(problem) from None
    return parts
