"""Forms: what a browser sends with a POST, and whether it is ours that sends it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.message import Message
from typing import Final
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from nightmill_gateway.answers.body import read_body
from nightmill_gateway.answers.errors import ApiError

FIELDS: Final = 2_000
"""Most fields of a form: every batch of a page can be selected."""
URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"
"""For long texts: a quote takes 3 bytes of the other, and its parts 80 bytes of memory a byte."""
BEFORE_LOGIN: Final[Mapping[str, int]] = {URLENCODED: 64 << 10}
"""Longest form of each type that anybody may send, bytes."""
AFTER_LOGIN: Final[Mapping[str, int]] = {URLENCODED: 2 << 20, MULTIPART: 9 << 20}
"""That of a person who has logged in: the names of 1,000 batches; a request of 4 MB, whose line
ends have two bytes here."""
_NAME: Final = re.compile(rb'[; ]name="([^"]*)"', re.IGNORECASE)


class Form:
    """The fields of a form. A field that was not sent is empty."""

    def __init__(self, fields: Mapping[str, list[str]]) -> None:
        """Take the values of each field, in their order."""
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        """Return the first value of a field."""
        return next(iter(self._fields.get(name, ())), "")

    def all(self, name: str) -> list[str]:
        """Return every value of a field."""
        return list(self._fields.get(name, ()))


FORM: Final = web.RequestKey("form", Form)
"""The key in a request of its Form."""


async def read_form(request: web.Request, allowed: Mapping[str, int]) -> Form:
    """Return the form of a POST, of an allowed type and length. Raises ApiError."""
    most = allowed.get(request.content_type)
    if most is None:
        raise ApiError(415, f"content-type: allowed: {', '.join(allowed)}")
    body = await read_body(request, most)
    try:
        if request.content_type == MULTIPART:
            return Form(_of_multipart(request.headers["content-type"], body))
        return Form(
            parse_qs(body.decode(), keep_blank_values=True, max_num_fields=FIELDS, errors="strict")
        )
    except ValueError:
        raise ApiError(400, "the form cannot be read: send fields as UTF-8") from None


def _of_multipart(content_type: str, body: bytes) -> dict[str, list[str]]:
    """Return the fields of a form without files, as browsers write it. Raises ValueError.

    The parser of `email` reads line by line: a text of 4 MB would hold up the gateway for seconds.
    """
    head = Message()
    head["content-type"] = content_type
    boundary = (head.get_boundary() or "").encode()
    start, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary)
    if not boundary or start or not parts or parts.pop().strip() != b"--" or len(parts) > FIELDS:
        raise ValueError
    fields: dict[str, list[str]] = {}
    for part in parts:
        about, _, value = part.partition(b"\r\n\r\n")
        name = _NAME.search(about)
        if name is None:
            raise ValueError
        fields.setdefault(name[1].decode(), []).append(value.decode())
    return fields


def require_own_origin(headers: Mapping[str, str]) -> None:
    """Raise ApiError when another site's page sent the request."""
    origin, host = headers.get("origin"), headers.get("host", "")
    foreign = origin is not None and origin not in (f"http://{host}", f"https://{host}")
    if foreign or headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise ApiError(403, "Origin must be the gateway itself: open the console and try again")


def own_path(text: str) -> str:
    """Return a path of the console from a form or a query, "/" for anything else."""
    try:
        parts = urlsplit(text)
    except ValueError:
        return "/"
    bad = parts.scheme or parts.netloc or not text.startswith("/") or text.startswith("//")
    return "/" if bad or "\\" in text or not text.isascii() or not text.isprintable() else text
