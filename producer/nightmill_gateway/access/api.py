"""The API version and the betas that a request asks for, as far as its key may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightmill.params import api_of
from nightmill_gateway.access.caller import CALLER

if TYPE_CHECKING:
    from aiohttp import web

    from nightmill.records.api import Api


def api_in_headers(request: web.Request) -> Api:
    """Return the API version and the betas that a client asks for.

    Raises InvalidParamsError, and ApiError when its key may not ask for a beta.
    """
    names = ("anthropic-version", "anthropic-beta")
    betas = ",".join(request.headers.getall(names[1], []))
    api = api_of(request.headers.get(names[0]), betas, names=names)
    request[CALLER].require_betas(api.anthropic_beta)
    return api
