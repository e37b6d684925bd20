"""`POST /v1/messages`: one request becomes a durable job of high weight, and its client waits."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from aiohttp import web

from nightmill.errors import NightmillError
from nightmill.params import decode
from nightmill.queue import keys, wire
from nightmill.queue.connection import redis_errors
from nightmill.records.limits import Change, Limits
from nightmill.records.state import JobState
from nightmill_gateway.access.api import api_in_headers
from nightmill_gateway.access.caller import CALLER
from nightmill_gateway.access.names import CLIENTS, inner
from nightmill_gateway.access.room import ROOM
from nightmill_gateway.answers.body import read_body
from nightmill_gateway.answers.errors import ApiError, api_error
from nightmill_gateway.answers.log import bind, report
from nightmill_gateway.answers.params import checked_params
from nightmill_gateway.answers.reply import REQUEST_ID, json_reply, write_end, written
from nightmill_gateway.answers.sending import Sending
from nightmill_gateway.messages.ends import NotEndedError, busy, message_of, stopping, unanswered
from nightmill_gateway.messages.events import PING, error_event, events
from nightmill_gateway.sendings import Sendings, Sent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterable

    from nightmill.records.api import Api
    from nightmill.records.message import Message
    from nightmill.records.result import Result
    from nightmill_gateway.access.caller import Caller
    from nightmill_gateway.access.spending import Spending
    from nightmill_gateway.services import Services
    from nightmill_gateway.waiting import Waiting

PATH: Final = "/v1/messages"
WEIGHT: Final = 1000
"""Its weight: a client waits for each of its jobs."""
KNOWN_S: Final = 60.0
"""After so long, the batch is looked at again: Redis may have lost it; seconds."""
LEAVING: Final = 16
"""Clients that hang up whose jobs are cancelled at once; thousands may do so in one moment."""
PING_S: Final = 5.0
"""Between two pings of a stream that waits, seconds."""
LOOK_S: Final = 20.0
"""Between two looks at the store, in case Redis lost that the job has ended; seconds."""


class MessageHandlers:
    """The handler, over connections that are open while it is used."""

    def __init__(
        self, services: Services, waiting: Waiting, sendings: Sendings, spending: Spending
    ) -> None:
        """Take the connections, and what knows of ends, earlier sendings and spent budgets."""
        self._spending = spending
        self._sendings = sendings
        self._services = services
        self._waiting = waiting
        self._withdraw = services.redis.register_script(wire.script("withdraw"))
        self._known: dict[str, float] = {}
        self._leaving = asyncio.Semaphore(LEAVING)
        self._ends: set[asyncio.Task[None]] = set()

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the routes."""
        return [web.post(PATH, self._create)]

    async def _create(self, request: web.Request) -> web.StreamResponse:
        api = api_in_headers(request)
        data = await read_body(request)
        given = decode(data)
        services = self._services
        _, body = checked_params(given, services.defaults(api), streams=True)
        caller = request[CALLER]
        sent = self._sendings.of(caller.tenant, PATH, data, Sending.of(request.headers))
        earlier = await sent.find(wire.new_job_id())
        try:
            await self._enqueue(request, sent, (body, api), earlier=earlier)
            streams = isinstance(given, dict) and given.get("stream")
            with self._spending.watched(caller, sent.job_id):
                response = await (self._streamed if streams else self._whole)(request, sent)
        except BaseException as error:
            answered = isinstance(error, ApiError) and not isinstance(error, NotEndedError)
            await self._finish(sent.written() if answered else self._left(sent))
            raise
        await self._finish(sent.written())
        return response

    async def _enqueue(
        self, request: web.Request, sent: Sent, asks: tuple[bytes, Api], *, earlier: bool
    ) -> None:
        """Enqueue the job of a request, unless an earlier sending of it has its answer.

        An earlier sending may have been refused: its job needs room like a new one then.
        """
        (body, api), caller, room = asks, request[CALLER], request.app[ROOM]
        batch = inner(caller.tenant, CLIENTS)
        sent.job_id = f"{batch}:{sent.name}"
        bind(job_id=sent.job_id, batch=batch)
        if earlier and await room.has(sent.job_id):
            with redis_errors():  # a client that hung up may have cancelled it a moment ago
                await self._services.redis.zrem(keys.ABORTS, sent.job_id)
        else:
            row = await self._services.store.get(sent.job_id) if earlier else None
            if row is not None and not unanswered(row):
                return
            await room.require(caller)
            if row is not None:
                await sent.renew(wire.new_job_id())
                sent.job_id = f"{batch}:{sent.name}"
                bind(job_id=sent.job_id)
        await self._prepare(batch)
        await self._services.producer.enqueue(
            body,
            batch=batch,
            custom_id=sent.name,
            expires=timedelta(seconds=self._services.settings.max_wait_s),
            anthropic_version=api.anthropic_version,
            anthropic_beta=api.anthropic_beta,
            accept={"on_pause": "keep"},
            payer=caller.payer,
        )

    async def _finish(self, work: Coroutine[None, None, None]) -> None:
        """Do `work` to its end, also when the request is cancelled meanwhile."""
        task = asyncio.create_task(work)
        self._ends.add(task)
        task.add_done_callback(self._ends.discard)
        await asyncio.shield(task)

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Let what clients have left behind be cancelled, at the end of an application."""
        yield
        if self._ends:
            await asyncio.wait(self._ends)

    async def _left(self, sent: Sent) -> None:
        """Cancel a job that nobody waits for; one that was called is kept for its retry."""
        async with self._leaving:
            with suppress(NightmillError):
                if await sent.leave() and not await self._cancel(sent.job_id):
                    await sent.keep()

    async def _prepare(self, batch: str) -> None:
        """Give the batch its weight, unless a person has limited it; no canary pauses it."""
        if time.monotonic() - self._known.get(batch, -KNOWN_S) < KNOWN_S:
            return
        batches, settings = self._services.batches, self._services.settings
        limits = (await batches.counts(batch)).limits
        if not limits.interactive:
            weight = WEIGHT if limits == Limits() else None
            change = Change(weight=weight, interactive=True)
            await batches.limit(batch, change, settings=settings)
        await batches.without_canary(batch)
        self._known[batch] = time.monotonic()

    async def _whole(self, request: web.Request, sent: Sent) -> web.StreamResponse:
        """Wait for the Message of a job, and answer with it. Raises ApiError."""
        async for message in self._waits(request[CALLER], sent.job_id, LOOK_S):
            if message is not None:
                return await written(request, json_reply(bytes(message)))
        raise busy()

    async def _waits(
        self, caller: Caller, job_id: str, every_s: float
    ) -> AsyncIterator[Message | None]:
        """Yield None every `every_s` seconds, and the Message when it is there, as the last."""
        async for row in self._rows(job_id, every_s):
            if row is None or row.status is JobState.CANCELLED:
                await self._require_budget(caller, job_id, row)
            yield None if row is None else message_of(row)

    async def _require_budget(self, caller: Caller, job_id: str, row: Result | None) -> None:
        """Raise ApiError when the budget of the key has ended, and the job was not called."""
        error = self._spending.ended(caller)
        if error and (row or await self._cancel(job_id)):
            raise error

    async def _rows(self, job_id: str, every_s: float) -> AsyncIterator[Result | None]:
        """Yield None until the row of a job is there, and then the row, as the last."""
        end = time.monotonic() + self._services.settings.max_wait_s
        row = await self._services.store.get(job_id)  # of an earlier sending
        while row is None and (left := end - time.monotonic()) > 0:
            row = await self._waiting.row(job_id, min(every_s, left))
            if row is None and self._waiting.stopped:
                raise stopping()
            if row is None:
                yield None
        if row is not None:
            yield row

    async def _streamed(self, request: web.Request, sent: Sent) -> web.StreamResponse:
        """Answer with events: pings while the job waits, then those of its whole Message."""
        headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        try:
            await response.write(PING)
            await self._write(response, request[CALLER], sent.job_id)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - a stream that has begun ends with an event
            failed = api_error(error)
            if failed is None:
                report(request[REQUEST_ID], error)
                failed = ApiError(500, "a defect of the gateway; its log has the request's id")
            await response.write(error_event(failed, request[REQUEST_ID]))
            if isinstance(error, NotEndedError):
                await self._left(sent)
        await write_end(request, response)
        return response

    async def _write(self, response: web.StreamResponse, caller: Caller, job_id: str) -> None:
        async for message in self._waits(caller, job_id, PING_S):
            if message is not None:
                await response.write(b"".join(events(message)))
                return
            await response.write(PING)
        raise busy()

    async def _cancel(self, job_id: str) -> bool:
        """Cancel a job that has not started, since nobody waits for it; return whether it had not.

        A call in flight goes on, and its answer is stored.
        """
        with suppress(NightmillError), redis_errors():
            return bool(await self._withdraw(args=[job_id]))
        return False
