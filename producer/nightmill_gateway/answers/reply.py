"""Answers of handlers: JSON, and the id that each answer has."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

if TYPE_CHECKING:
    from nightmill_gateway.answers.errors import ApiError

HEADER: Final = "request-id"
"""The header that every answer has."""
REQUEST_ID: Final = web.RequestKey("request_id", str)
"""The key in a request of its id."""
LIMITS: Final = web.RequestKey("limits", Mapping[str, str])
"""The key in a request of headers that say what its key may still use."""

ENDED: Final = web.RequestKey("ended", int)
"""The key in a request of its answer's status, once the answer has ended."""
HUNG_UP: Final = 499
"""The status of a request whose client hung up before the end of its answer."""

SERVER: Final = "nightmill"
"""The `server` header of every answer: without versions, which would say where it is weak."""
OTHER: Final = "other"
"""The route of a path without one, and a method that HTTP does not define."""


def new_request_id() -> str:
    """Return the id of one request; support finds the request by it."""
    return f"req_{secrets.token_hex(12)}"


def reply(body: object, status: int = 200) -> web.Response:
    """Return a JSON answer."""
    return json_reply(msgspec.json.encode(body), status)


def json_reply(data: bytes, status: int = 200) -> web.Response:
    """Return an answer that is JSON already."""
    return web.Response(body=data, status=status, content_type="application/json")


async def written(request: web.Request, response: web.Response) -> web.Response:
    """Write an answer to its end, and return it."""
    await response.prepare(request)
    await write_end(request, response)
    return response


async def write_end(request: web.Request, response: web.StreamResponse) -> None:
    """End an answer. A client that hangs up from now on has its whole answer."""
    await response.write_eof()
    request[ENDED] = response.status


def status_of(request: web.Request) -> int:
    """Return the status of the answer that the client has, HUNG_UP when it left before."""
    status: int = request.get(ENDED, HUNG_UP)
    return status


def error_reply(error: ApiError, request_id: str) -> web.Response:
    """Return the answer of an error."""
    return web.Response(
        body=error.envelope(request_id),
        status=error.status,
        headers={**error.headers, HEADER: request_id, "server": SERVER},
        content_type="application/json",
    )


def route_of(request: web.Request) -> str:
    """Return the template of a request's route, such as /v1/messages/batches/{id}."""
    resource = request.match_info.route.resource
    return OTHER if resource is None else resource.canonical
