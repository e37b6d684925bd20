"""Reads a PostgreSQL URL as libpq's users write it, and connects to it with asyncpg.

asyncpg knows most options of libpq. This module adds several hosts that each have their time to
answer, passwords with characters that are not encoded, `connect_timeout` and `sslrootcert=system`.
It leaves out options that change nothing here, and refuses those that demand what asyncpg lacks.
"""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode

import msgspec

from nightmill.errors import StoreError
from nightmill.setting_redis import FIX_URL
from nightmill.store.connection import USE

CONNECT_TIMEOUT_S: Final = 10.0
"""Longest time for one host to accept a connection, unless `connect_timeout` says otherwise."""
MAX_TIMEOUT_S: Final = 300.0
WRITES: Final = "read-write"
"""With several hosts: which of them is used. The store is written to."""
FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile")
SYSTEM: Final = "system"
"""The value of `sslrootcert` for the authorities that the system trusts."""

UNUSED: Final = frozenset(
    {
        *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count"),
        *("tcp_user_timeout", "sslcompression", "sslsni", "load_balance_hosts", "gssdelegation"),
        *("client_encoding", "async_fallback", "pgbouncer", "ssl_cert_mode", "sslcertmode"),
        *("statement_cache_size", "prepared_statement_cache_size", "pool_timeout"),
    }
)
"""Options of libpq, SQLAlchemy and others that change nothing here."""
DEMANDS: Final = {
    "channel_binding": "require",
    "gssencmode": "require",
    "require_auth": "",
    "requirepeer": "",
}
"""Options that asyncpg does not have -> the value that demands something, "" for any."""

_WHERE: Final = re.compile(r"(?P<hosts>[^/?#@]*)(?:/(?P<database>[^?#@]*))?(?:\?(?P<query>.*))?")
_HOST: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>\d{1,5})?)?")
_BARE_PERCENT: Final = re.compile(r"%(?![0-9a-fA-F]{2})")


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """A database, and how to connect to it."""

    dsn: str
    """What asyncpg gets, without hosts."""
    hosts: tuple[tuple[str, int | None], ...]
    """Hosts with their ports; none: libpq's default, and PGHOST."""
    where: str
    """For a person: without password and options."""
    timeout_s: float
    """Longest time for each host."""
    system_ca: bool = False

    @property
    def total_s(self) -> float:
        """Longest time until a connection is there."""
        return self.timeout_s * max(1, len(self.hosts))

    async def connect(self, *, prepares: bool) -> Any:  # noqa: ANN401 - asyncpg has no annotations
        """Return an asyncpg connection to the first host that answers and takes rows.

        `prepares`: it keeps prepared statements. Raises what the last host raised.
        """
        import asyncpg  # noqa: PLC0415 - optional extra

        more: dict[str, Any] = {"timeout": self.timeout_s}
        if not prepares:
            more["statement_cache_size"] = 0
        if self.system_ca:
            more["ssl"] = ssl.create_default_context()
        # Another host may answer, or take rows.
        next_host = (OSError, asyncpg.PostgresError, asyncpg.InternalClientError)
        for host, port in self.hosts[:-1]:
            try:
                return await asyncpg.connect(self.dsn, host=host, port=port, **more)
            except next_host:
                continue
        for host, port in self.hosts[-1:]:
            more |= {"host": host, "port": port}
        return await asyncpg.connect(self.dsn, **more)


def parsed(url: str) -> Address:
    """Return the database at a postgresql:// URL. Raises StoreError for one that cannot be read."""
    user, password, rest = _split(url.partition("://")[2])
    found = _WHERE.fullmatch(rest)
    if found is None:
        raise _unreadable()
    options = parse_qsl(found["query"] or "", keep_blank_values=True)
    hosts = _hosts(found["hosts"], options)
    kept = _kept({name: value for name, value in options if name not in ("host", "port")})
    if len(hosts) > 1:
        kept.setdefault("target_session_attrs", WRITES)
    timeout_s = _timeout_s(kept.pop("connect_timeout", ""))
    secret = f":{_quoted(password)}" if password else ""
    login = f"{_quoted(user)}{secret}@" if user or secret else ""
    database = _quoted(found["database"] or "")
    system_ca = kept.get("sslrootcert") == SYSTEM
    if system_ca:
        del kept["sslrootcert"]
        kept.pop("sslmode", None)
    query = f"?{urlencode(kept, quote_via=quote)}" if kept else ""
    return Address(
        dsn=f"postgresql://{login}/{database}{query}",
        hosts=tuple(hosts),
        where=_shown(user, bool(password), hosts, database),
        timeout_s=timeout_s,
        system_ca=system_ca,
    )


def _split(text: str) -> tuple[str, str, str]:
    """Return user, password and the rest. The password ends at the first @ before a place."""
    if "@" not in text:
        return "", "", text
    for at in (found.start() for found in re.finditer("@", text)):
        user, _, password = text[:at].partition(":")
        if _WHERE.fullmatch(text[at + 1 :]) and not re.search("[/?#]", user):
            return user, password, text[at + 1 :]
    raise StoreError(f"STORE_URL: {FIX_URL}")  # it shows no part of the password


def _hosts(text: str, options: list[tuple[str, str]]) -> list[tuple[str, int | None]]:
    """Return the hosts of a URL, or those of its options, each with its port."""
    named = [unquote(text)] if text else [value for name, value in options if name == "host"]
    ports = ",".join(value for name, value in options if name == "port").split(",")
    hosts = [host for each in named for host in each.split(",")]
    found: list[tuple[str, int | None]] = []
    for number, each in enumerate(hosts):
        if each.startswith("/"):  # the folder of a unix socket
            host, port = each, ""
        elif (parts := _HOST.fullmatch(each)) is None:
            raise _unreadable()
        else:
            host, port = parts["host"].strip("[]"), parts["port"] or ""
        port = port or ports[min(number, len(ports) - 1)]
        if port and not port.isdecimal():
            raise _unreadable()
        found.append((host, int(port) if port else None))
    return found


def _kept(options: dict[str, str]) -> dict[str, str]:
    """Return the options for asyncpg, which gives those that it does not know to the server."""
    for name, value in DEMANDS.items():
        given = options.pop(name, None)
        if given is not None and (not value or given == value):
            raise StoreError(
                f"STORE_URL: {name}={given} is not possible here: remove it; "
                "sslmode=verify-full makes sure of the server"
            )
    kept = {name: value for name, value in options.items() if name not in UNUSED}
    if "ssl" in kept:  # SQLAlchemy's name
        kept.setdefault("sslmode", "require" if kept["ssl"] == "true" else kept["ssl"])
        del kept["ssl"]
    if fallback := kept.pop("fallback_application_name", ""):
        kept.setdefault("application_name", fallback)
    for name in FILES:
        path = kept.get(name)
        if path and not (name == "sslrootcert" and path == SYSTEM) and not Path(path).is_file():
            raise StoreError(f"STORE_URL: {name}: there is no file {path}")
    return kept


def _timeout_s(given: str) -> float:
    """Return libpq's `connect_timeout`: seconds for each host, 0 for no limit."""
    if not given:
        return CONNECT_TIMEOUT_S
    if not given.isdecimal():
        raise StoreError(f"STORE_URL: connect_timeout is no number of seconds: {given}")
    return min(float(given) or MAX_TIMEOUT_S, MAX_TIMEOUT_S)


def _shown(user: str, has_password: bool, hosts: list[tuple[str, int | None]], name: str) -> str:  # noqa: FBT001
    secret = ":***" if has_password else ""
    shown = ",".join(_host_shown(*each) for each in hosts)
    login = f"{user}{secret}@" if user or secret else ""
    if any(host.startswith("/") for host, _ in hosts):  # the folder of a socket
        return f"postgresql://{login}/{name}?host={shown}"
    return f"postgresql://{login}{shown}/{name}"


def _host_shown(host: str, port: int | None) -> str:
    bracketed = f"[{host}]" if ":" in host else host
    return f"{bracketed}:{port}" if port else bracketed


def _quoted(text: str) -> str:
    """Return a part of a URL with all its special characters encoded, and no % encoded twice."""
    return quote(unquote(_BARE_PERCENT.sub("%25", text)), safe="")


def _unreadable() -> StoreError:
    return StoreError(f"STORE_URL is not a URL that can be read: {USE}")
