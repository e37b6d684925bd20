"""Checks and readings of single settings that are more than a number. They raise ValueError.

No text of an error holds a part of a value: it may be a secret.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final, get_args

import msgspec

from nightmill.setting_redis import read_redis_url, split_url
from nightmill.setting_tables import read_groups, read_prices

if TYPE_CHECKING:
    from collections.abc import Callable

WEBHOOK_PREFIX: Final = "whsec_"
WEBHOOK_KEY_BYTES: Final = range(24, 65)
_BETWEEN_ROOTS: Final = re.compile(r":(?!//)")
"""A colon that is not part of "://". A URL with a port therefore needs the JSON list."""

OTHER_APIS: Final = frozenset(
    {"batches", "complete", "completions", "count_tokens", "messages", "responses", "v1"}
)
"""Last parts of a path that no base URL ends in."""
_NO_PATH: Final = re.compile(r"=|^postgres(ql)?:|^:memory:$", re.IGNORECASE)
"""Of libpq's own form (host=... password=...), of a mistyped URL, or a database that is no file."""

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN: Final = "nightmill sets it itself"
RESERVED_HEADERS: Final = {
    "x-api-key": "set API_KEY instead",
    "authorization": "set AUTH_TOKEN instead",
    "anthropic-version": "set ANTHROPIC_VERSION instead",
    "proxy-authorization": "write the credential into the proxy's URL",
    **dict.fromkeys(("accept-encoding", "content-type", "user-agent"), _OWN),
    **dict.fromkeys(("connection", "content-length", "cookie", "expect", "host"), _OWN),
    **dict.fromkeys(("keep-alive", "te", "trailer", "transfer-encoding", "upgrade"), _OWN),
}
"""Headers that nobody may add, and what to do instead."""


def split_roots(given: str | None) -> tuple[str, ...]:
    """Return the paths and URLs of ATTACH_ROOTS, which are separated by colons or a JSON list."""
    if not given:
        return ()
    if not given.startswith("["):
        return tuple(part for part in _BETWEEN_ROOTS.split(given) if part)
    try:
        return msgspec.json.decode(given, type=tuple[str, ...])
    except msgspec.MsgspecError:
        raise ValueError("not a JSON list of paths and URLs") from None


def signing_key(secret: str) -> bytes:
    """Return the key of a WEBHOOK_SECRET: whsec_ and base64, as Standard Webhooks writes it."""
    try:
        key = base64.b64decode(secret.removeprefix(WEBHOOK_PREFIX), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith(WEBHOOK_PREFIX) or len(key) not in WEBHOOK_KEY_BYTES:
        raise ValueError("not whsec_ and the base64 of 24 to 64 random bytes")
    return key


def endpoint_of(base_url: str) -> str:
    """Return what stands before /v1/messages in the address of a call.

    `base_url` may end in /v1, in /v1/messages, and in slashes.
    """
    text = base_url.strip()
    parts = split_url(text, "not an http(s) address: give https://HOST or https://HOST/PATH")
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"\s", text):
        raise ValueError("not an http(s) address: give https://HOST or https://HOST/PATH")
    if "@" in parts.netloc:
        raise ValueError("holds a user or password: set API_KEY or AUTH_TOKEN instead")
    path = parts.path.rstrip("/")
    end = next((end for end in ("/v1/messages", "/v1") if path.endswith(end)), "")
    path = path.removesuffix(end).rstrip("/")
    endpoint = f"{parts.scheme}://{parts.netloc}{path}"
    if parts.query or parts.fragment:
        raise ValueError(f"has a query or a fragment, which no call carries: give {endpoint}")
    last = path.rpartition("/")[2]
    if last in OTHER_APIS:
        raise ValueError(f"ends in /{last}: give what stands before /v1/messages")
    return endpoint


def check_store_url(given: str) -> None:
    """Check that a text without :// is meant as a path: SQLite makes a file of any name.

    That file's name would hold the password, and the results would be in it.
    """
    if "://" not in given and _NO_PATH.search(given):
        raise ValueError("neither a file's path nor a URL: use a path or postgresql://...")


def parse_headers(given: str) -> dict[str, str]:
    """Return the headers of HEADERS: a JSON object, or one `Name: value` a line."""
    if given.lstrip().startswith("{"):
        try:
            pairs = list(msgspec.json.decode(given, type=dict[str, str]).items())
        except msgspec.MsgspecError:
            raise ValueError("not a JSON object of texts") from None
    else:
        lines = [line for line in given.splitlines() if line.strip()]
        if not all(":" in line for line in lines):
            raise ValueError("not `Name: value`; give one a line, or a JSON object")
        pairs = [(name, value) for name, _, value in (line.partition(":") for line in lines)]
    found: dict[str, str] = {}
    for number, (raw_name, raw_value) in enumerate(pairs, 1):
        name, value = raw_name.strip(), raw_value.strip()
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"the name of its header {number} is not one that HTTP knows")
        if fix := RESERVED_HEADERS.get(name.lower()):
            raise ValueError(f"{name} cannot be set here: {fix}")
        if not (value.isascii() and value.isprintable()):
            raise ValueError(f"{name} holds characters that no header can carry")
        if name.lower() in found:
            raise ValueError(f"{name} is given twice: join its values with a comma")
        found[name.lower()] = value
    return found


_KINDS: Final[dict[object, tuple[str, tuple[type, ...]]]] = {
    bool: ("true or false", (bool,)),
    int: ("a whole number", (int,)),
    float: ("a number", (int, float)),
}
_MORE: Final = {"headers": dict, "attach_roots": list}
"""Settings that a settings file may also give as a table or a list."""


def mistyped(name: str, annotation: object, value: object) -> str:
    """Return what is wrong with the type of a value from a settings file, "" when nothing is."""
    kinds = [annotation, *get_args(annotation)]
    what, allowed = next((_KINDS[kind] for kind in kinds if kind in _KINDS), _TEXT)
    fits = type(value) in allowed or type(value) is _MORE.get(name)
    return "" if fits else f"needs {what}"


_TEXT: Final[tuple[str, tuple[type, ...]]] = ("a text in quotes", (str,))


_CHECK: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}=[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def read_checks(given: str | None) -> dict[str, str]:
    """Return name -> module:function of CHECKS: name=module:function pairs, or a JSON object."""
    if not given:
        return {}
    pairs = given.replace(",", " ").split()
    if given.lstrip().startswith("{"):
        try:
            table = msgspec.json.decode(given, type=dict[str, str])
        except msgspec.MsgspecError:
            raise ValueError("not a JSON object of names and module:function") from None
        pairs = [f"{name}={target}" for name, target in table.items()]
    if not all(map(_CHECK.fullmatch, pairs)):
        raise ValueError("not name=module:function, separated by commas")
    return dict(pair.split("=", 1) for pair in pairs)


CHECKS: Final[dict[str, Callable[[str], object]]] = {
    "attach_roots": split_roots,
    "checks": read_checks,
    "headers": parse_headers,
    "limit_groups": read_groups,
    "prices": read_prices,
    "redis_url": read_redis_url,
    "store_url": check_store_url,
    "webhook_secret": signing_key,
}
"""Setting -> what raises ValueError for a text that cannot be read."""
