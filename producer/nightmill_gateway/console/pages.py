"""Pages: templates, their headers, and the redirect after an action."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

import jinja2
from aiohttp import web
from markupsafe import Markup

from nightmill.records.job import now_ms
from nightmill.safety.visible import visible
from nightmill_gateway.access.caller import CALLER
from nightmill_gateway.console import formats
from nightmill_gateway.console.assets import asset

if TYPE_CHECKING:
    from collections.abc import MutableMapping

NAVIGATION: Final = (
    ("/", "Overview"),
    ("/batches", "Batches"),
    ("/lanes", "Lanes"),
    ("/workers", "Workers"),
    ("/audit", "Audit"),
)
"""Path and name of each page in the header, from left to right."""

CSRF: Final = web.RequestKey("csrf", str)
"""The key in a request of the token that its forms must send."""

_TEMPLATES: Final = Path(__file__).parent / "templates"
NOTE: Final = "nightmill_note"
"""Cookie: what an action has done, for the page after it. A query could be forged in a link."""
_MAX_NOTE: Final = 3_000
"""Longest such text as the cookie has it, bytes: browsers drop cookies of more than 4,096."""
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With `no-referrer` browsers would send `Origin: null`, which the check of Origin refuses.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""What every answer of the console has, unless its handler set another value."""


def _shown(value: object) -> object:
    """Return what a template prints: texts without characters that reorder or control."""
    return visible(value) if type(value) is str else value


def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(formats.FILTERS)
    made.globals.update(asset=asset, navigation=NAVIGATION)
    return made


_ENVIRONMENT: Final = _environment()


def text_of(request: web.Request, template: str, **values: object) -> str:
    """Return a template with `values` as HTML; a part of a page, such as an update, too."""
    caller, token = request.get(CALLER), request.get(CSRF, "")
    field = Markup('<input type="hidden" name="csrf" value="{}">').format(token)
    return _ENVIRONMENT.get_template(template).render(
        caller=caller,
        csrf_field=lambda: field,
        path=request.path,
        note=unquote(request.cookies.get(NOTE, "")),
        now=now_ms(),
        **values,
    )


def render(
    request: web.Request, template: str, *, status: int = 200, **values: object
) -> web.Response:
    """Return a page. Every value is escaped, whatever it holds."""
    html = text_of(request, template, **values)
    page = web.Response(text=html, status=status, content_type="text/html", charset="utf-8")
    if NOTE in request.cookies:
        page.del_cookie(NOTE, path="/")
    return page


def add_headers(headers: MutableMapping[str, str]) -> None:
    """Add the headers of the console to those of an answer, which wins."""
    for name, value in HEADERS.items():
        headers.setdefault(name, value)


def see_other(path: str, note: str = "") -> web.Response:
    """Return the redirect after an action; the next page shows `note`. `path` is our own."""
    response = web.Response(status=303, headers={"Location": path})
    if note:
        text = quote(note.encode(errors="replace")[:_MAX_NOTE])[:_MAX_NOTE]
        text = re.sub(r"%[0-9A-F]?$", "", text)
        response.set_cookie(NOTE, text, path="/", max_age=60, httponly=True, samesite="Strict")
    return response
