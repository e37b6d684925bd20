"""The OpenAPI 3.1 document, and the route that serves it."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from nightmill.records.api import BETA, VERSION
from nightmill.records.message_batch import ID
from nightmill_gateway.access.names import JOB
from nightmill_gateway.answers.reply import HEADER, reply
from nightmill_gateway.answers.sending import KEY
from nightmill_gateway.batches.handlers import DEFAULT_LIMIT, MAX_LIMIT
from nightmill_gateway.batches.shapes import PATH as BATCHES
from nightmill_gateway.openapi.answers import ANSWERS
from nightmill_gateway.openapi.requests import REQUESTS, ref

if TYPE_CHECKING:
    from collections.abc import Iterable

Part = dict[str, Any]
PATH: Final = "/openapi.json"
_JSON: Final = "application/json"
_HEADERS: Final[Part] = {
    HEADER: {"required": True, "schema": {"type": "string"}, "description": "Id of the request."}
}


def routes(*, by_key: bool) -> Iterable[web.RouteDef]:
    """Return the route of the document."""
    made = document(by_key=by_key)

    async def serve(_: web.Request) -> web.Response:
        return reply(made)

    return [web.get(PATH, serve)]


def document(*, by_key: bool = True) -> Part:
    """Return the document; `by_key`: whether a request needs a key."""
    found: Part = {
        "openapi": "3.1.0",
        "info": {
            "title": "nightmill",
            "version": version("nightmill"),
            "description": "The Messages API and the Message Batches API over one queue, one "
            "limiter and one results store, and single jobs. See docs/gateway.md.",
        },
        "paths": _paths(),
        "components": {"schemas": {**REQUESTS, **ANSWERS}},
    }
    if by_key:
        found["components"]["securitySchemes"] = {
            "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
        found["security"] = [{"key": []}, {"bearer": []}]
    return found


def _paths() -> Part:
    batch = _in("path", "id", {"type": "string", "pattern": f"^{ID}$"})
    job = _in("path", "id", {"type": "string", "pattern": f"^{JOB}$"})
    cursor = {"type": "string", "pattern": f"^{ID}$"}
    limit = {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT}
    beta = _inner(BETA)
    sent = (
        _in("header", "anthropic-version", _header(_inner(VERSION), "2023-06-01")),
        _in("header", "anthropic-beta", _header(f"{beta}(?:, *{beta})*", "files-api-2025-04-14")),
        _in("header", "idempotency-key", {"type": "string", "pattern": f"^{KEY}$"}),
    )
    lines = {"application/x-jsonl": {"schema": {"type": "string"}}}
    one = f"{BATCHES}/{{id}}"
    return {
        "/healthz": {"get": _open("health", "Whether the process runs", _json("Health"))},
        "/readyz": {"get": _open("ready", "Whether Redis and the store answer", _json("Health"))},
        PATH: {"get": _open("openapi", "This document", {_JSON: {"schema": {"type": "object"}}})},
        "/v1/messages": {
            "post": _does(
                "createMessage",
                "One Message, or its events",
                {**_json("Message"), "text/event-stream": {}},
                body="MessagesRequest",
                parameters=sent,
            )
        },
        BATCHES: {
            "post": _does(
                "createBatch",
                "Create a batch",
                _json("MessageBatch"),
                body="CreateBatch",
                parameters=sent,
            ),
            "get": _does(
                "listBatches",
                "A page of batches, the newest first",
                _json("MessageBatchList"),
                parameters=(
                    _in("query", "limit", limit),
                    _in("query", "after_id", cursor),
                    _in("query", "before_id", cursor),
                ),
            ),
        },
        one: {
            "get": _does("getBatch", "One batch", _json("MessageBatch"), parameters=(batch,)),
            "delete": _does(
                "deleteBatch", "Delete an ended batch", _json("DeletedBatch"), parameters=(batch,)
            ),
        },
        f"{one}/cancel": {
            "post": _does(
                "cancelBatch", "Cancel a batch", _json("MessageBatch"), parameters=(batch,)
            )
        },
        f"{one}/results": {
            "get": _does(
                "getResults",
                "The results of an ended batch: a ResultLine a line",
                lines,
                parameters=(batch,),
            )
        },
        "/v1/jobs": {
            "post": _does(
                "createJob",
                "Enqueue one request; 202: it has not ended",
                _json("Job"),
                body="CreateJob",
                parameters=sent,
                accepted=True,
            )
        },
        "/v1/jobs/{id}": {"get": _does("getJob", "One job", _json("Job"), parameters=(job,))},
    }


def _does(  # noqa: PLR0913 - what an operation has
    name: str,
    summary: str,
    content: Part,
    *,
    body: str | None = None,
    parameters: Iterable[Part] = (),
    accepted: bool = False,
) -> Part:
    """Return an operation."""
    error = _answer("An error", _json("Error"))
    found: Part = {
        "operationId": name,
        "summary": summary,
        "parameters": list(parameters),
        "responses": {"200": _answer("Done", content), "4XX": error, "5XX": error},
    }
    if accepted:
        found["responses"]["202"] = _answer("Accepted", content)
    if body is not None:
        found["requestBody"] = {"required": True, "content": _json(body)}
    return found


def _open(name: str, summary: str, content: Part) -> Part:
    """Return an operation that needs no key."""
    return {**_does(name, summary, content), "security": []}


def _answer(text: str, content: Part) -> Part:
    return {"description": text, "headers": _HEADERS, "content": content}


def _json(name: str) -> Part:
    return {_JSON: {"schema": ref(name)}}


def _in(place: str, name: str, schema: Part) -> Part:
    return {"in": place, "name": name, "required": place == "path", "schema": schema}


def _header(pattern: str, example: str) -> Part:
    """Return the schema of a header; an empty one is none."""
    return {"type": "string", "pattern": f"^(?:{pattern})?$", "examples": [example]}


def _inner(pattern: str) -> str:
    """Return a pattern of Python without its ends."""
    return pattern.removeprefix("^").removesuffix(r"\Z")
