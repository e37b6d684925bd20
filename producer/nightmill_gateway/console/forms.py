"""Forms: what a browser sends with a POST, and whether it is ours that sends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from nightmill_gateway.answers.body import read_body
from nightmill_gateway.answers.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

FORM_BYTES: Final = 4 << 20
"""Longest form, bytes: an edited request is one field of it."""
FIELDS: Final = 2_000
"""Most fields of a form: every batch of a page can be selected."""
URLENCODED: Final = "application/x-www-form-urlencoded"


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


async def read_form(request: web.Request) -> Form:
    """Return the form of a POST. Raises ApiError."""
    if request.content_type != URLENCODED:
        raise ApiError(415, f"content-type: allowed: {URLENCODED}")
    body = await read_body(request, FORM_BYTES)
    try:
        return Form(
            parse_qs(body.decode(), keep_blank_values=True, max_num_fields=FIELDS, errors="strict")
        )
    except ValueError:
        raise ApiError(400, "the form cannot be read: send fields as UTF-8") from None


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
