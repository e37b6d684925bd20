"""The application: its routes, and what every request goes through."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aiohttp import web

from nightmill.metrics.serving import counting
from nightmill.queue.connection import redis_errors
from nightmill_gateway.access.caller import ALL, CALLER
from nightmill_gateway.access.key_use import KeyUse
from nightmill_gateway.access.room import ROOM, QueueRoom
from nightmill_gateway.access.spending import Spending
from nightmill_gateway.answers.errors import ApiError, api_error
from nightmill_gateway.answers.log import begin_request, note_request, report
from nightmill_gateway.answers.reply import (
    ENDED,
    HEADER,
    LIMITS,
    REQUEST_ID,
    error_reply,
    new_request_id,
    reply,
    route_of,
    status_of,
)
from nightmill_gateway.batches.handlers import BatchHandlers
from nightmill_gateway.batches.looking import Looking
from nightmill_gateway.console.console import Console
from nightmill_gateway.jobs.handlers import JobHandlers
from nightmill_gateway.messages.handlers import MessageHandlers
from nightmill_gateway.openapi import document as openapi
from nightmill_gateway.sendings import Sendings
from nightmill_gateway.stopping import LOOKS, STOPPING, Stopping
from nightmill_gateway.waiting import Waiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.typedefs import Middleware

    from nightmill_gateway.access.caller import Access
    from nightmill_gateway.services import Services

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

OPEN: Final = LOOKS | {openapi.PATH}
"""Paths that need no key."""
READY_S: Final = 2.0
"""Longest time for Redis or the store to answer a look at readiness, seconds."""


def make_app(services: Services, access: Access) -> web.Application:
    """Return the application over open connections."""
    console = Console(services, access)
    use = KeyUse(services.redis)
    room = QueueRoom(services.redis, services.settings)
    app = web.Application(middlewares=[_answers, _guard(access, console, use)])
    app[ROOM] = room
    app.on_response_prepare.append(_add_id)
    stopping = app[STOPPING] = Stopping()
    ready = _readyz(services, stopping)
    app.add_routes([web.get("/healthz", _healthz), web.get("/readyz", ready)])
    looking = Looking(services)
    app.add_routes(BatchHandlers(services, looking).routes())
    waiting = Waiting(services)
    sendings = Sendings(services.redis)
    spending = Spending(services.redis, room, waiting.wake)
    messages = MessageHandlers(services, waiting, sendings, spending)
    app.add_routes(JobHandlers(services, waiting, sendings).routes())
    app.add_routes(messages.routes())
    app.add_routes(openapi.routes(by_key=access.by_key))
    console.add_to(app)
    if counting():
        from nightmill_gateway.metrics import GatewayCounters  # noqa: PLC0415 - off costs nothing

        counters = GatewayCounters()
        app.middlewares.insert(0, counters.middleware)
        waiting.watch = counters.waits
    app.cleanup_ctx.extend(
        (looking.running, waiting.running, use.running, sendings.running, spending.running)
    )
    app.cleanup_ctx.append(messages.running)
    stopping.tell(waiting.stop)
    return app


@web.middleware
async def _answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give the request its id, and turn every failure into the API's envelope."""
    request[REQUEST_ID] = request_id = new_request_id()
    begin_request()
    began = time.monotonic()
    try:
        answer = await _answered(request, handler)
        request[ENDED] = answer.status
    finally:
        seconds, status = time.monotonic() - began, status_of(request)
        note_request(request_id, request.method, route_of(request), status, seconds)
    return answer


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        failed = _of_http(request, error)
    except (asyncio.CancelledError, ConnectionError):  # the client has left
        raise
    except Exception as error:  # noqa: BLE001 - a client gets an envelope whatever failed
        failed = api_error(error) or _defect(error, request[REQUEST_ID])
    return error_reply(failed, request[REQUEST_ID])


def _of_http(request: web.Request, error: web.HTTPException) -> ApiError:
    """Return what a client gets for an error of aiohttp's own."""
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        text = f"{request.method}: not allowed at {request.path}; allowed: {allowed}"
        return ApiError(405, text, {"allow": allowed})
    if isinstance(error, web.HTTPNotFound):
        return ApiError(404, f"no route {request.path:.200}")
    return ApiError(error.status, error.reason)


def _defect(error: Exception, request_id: str) -> ApiError:
    """Report a defect to the operator, with the request's id."""
    report(request_id, error)
    return ApiError(500, f"a defect of the gateway; its log has {request_id}")


def _guard(access: Access, console: Console, use: KeyUse) -> Middleware:
    """Return the middleware that lets a request in: by its caller, its content type, its limits."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN:
            return await handler(request)
        if console.serves(request):
            return await console.answer(request, handler)
        caller = await access.caller(request.headers)
        if caller.tenant == ALL:
            raise ApiError(403, "a key of all tenants is for the console: use one of a tenant")
        caller.require(request.method)
        if request.can_read_body and request.content_type != "application/json":
            raise ApiError(415, "content-type: allowed: application/json")
        request[CALLER] = caller
        async with use.request(caller, request[REQUEST_ID]) as request[LIMITS]:
            return await handler(request)

    return guard


async def _add_id(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.setdefault(HEADER, request.get(REQUEST_ID) or new_request_id())
    response.headers.update(request.get(LIMITS, {}))


async def _healthz(_: web.Request) -> web.Response:
    """Answer that the process runs."""
    return reply({"ok": True})


def _readyz(services: Services, stopping: Stopping) -> Handler:
    """Return the handler that answers whether Redis and the store do, and it does not stop."""

    async def ready(_: web.Request) -> web.Response:
        stopping.asked()
        away = [name for name, look in _looks(services).items() if not await _answers_to(look)]
        if away:
            raise ApiError(503, f"not ready: no answer from {' and '.join(away)}")
        return reply({"ok": True})

    return ready


def _looks(services: Services) -> dict[str, Callable[[], Awaitable[object]]]:
    async def ping() -> None:
        with redis_errors():
            await services.redis.ping()

    return {"Redis": ping, "the results store": services.store.probe}


async def _answers_to(look: Callable[[], Awaitable[object]]) -> bool:
    with suppress(Exception):
        async with asyncio.timeout(READY_S):
            await look()
            return True
    return False
