"""The routes of single jobs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from nightmill.errors import PayloadError
from nightmill.params import decode
from nightmill.queue import wire
from nightmill.queue.queued_job import read_queued
from nightmill.records.job import request_hash
from nightmill_gateway.access.api import api_in_headers
from nightmill_gateway.access.caller import CALLER
from nightmill_gateway.access.names import inner, is_job
from nightmill_gateway.access.room import ROOM
from nightmill_gateway.answers.body import read_body
from nightmill_gateway.answers.errors import ApiError, not_found
from nightmill_gateway.answers.log import bind
from nightmill_gateway.answers.params import checked_params
from nightmill_gateway.answers.reply import reply, written
from nightmill_gateway.answers.sending import Sending
from nightmill_gateway.jobs.shapes import Asked, asked, ended_job, job_id_of, waiting_job
from nightmill_gateway.sendings import Sendings, key_taken

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nightmill.records.api import Api
    from nightmill.records.result import Result
    from nightmill_gateway.services import Services
    from nightmill_gateway.waiting import Waiting

ACCEPTED: Final = 202


class JobHandlers:
    """The handlers, over connections that are open while they are used."""

    def __init__(self, services: Services, waiting: Waiting, sendings: Sendings) -> None:
        """Take the connections, what waits for jobs, and what knows of earlier sendings."""
        self._sendings = sendings
        self._services = services
        self._waiting = waiting

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the routes."""
        return [web.post("/v1/jobs", self._create), web.get("/v1/jobs/{id}", self._get)]

    async def _create(self, request: web.Request) -> web.Response:
        """Enqueue one job; the same job again is only looked at, and may be waited for."""
        data = await read_body(request)
        given = asked(decode(data))
        api = api_in_headers(request)
        _, body = checked_params(given.params, self._services.defaults(api), below="params")
        tenant = request[CALLER].tenant
        sent = self._sendings.of(tenant, request.path, data, Sending.of(request.headers))
        earlier = await sent.find(given.name or wire.new_job_id())
        try:
            answer = await self._answer(request, given, sent.name, (body, api), earlier=earlier)
            response = await written(request, answer)
        except ApiError:
            await asyncio.shield(sent.written())
            raise
        except BaseException:
            await asyncio.shield(sent.lost())
            raise
        await asyncio.shield(sent.written())
        return response

    async def _answer(
        self,
        request: web.Request,
        given: Asked,
        name: str,
        asks: tuple[bytes, Api],
        *,
        earlier: bool,
    ) -> web.Response:
        """Enqueue a job, unless it is there; return what its client gets."""
        (body, api), caller, room = asks, request[CALLER], request.app[ROOM]
        job_id, batch, name = job_id_of(caller.tenant, given, name)
        bind(job_id=job_id, batch=batch)
        named = earlier or given.name is not None
        queued = named and await room.has(job_id)
        row = await self._services.store.get(job_id) if named and not queued else None
        if row is not None:
            if row.request_hash != request_hash(body, api):
                raise _taken(given.name)
            return reply(ended_job(row))
        if not queued:
            await room.require(caller)
        if given.batch is None:  # many services share it: like failures of one stop no other
            await self._services.batches.without_canary(batch)
        receipt = await self._services.producer.enqueue(
            body,
            job_id=job_id,
            batch=batch,
            custom_id=name,
            anthropic_version=api.anthropic_version,
            anthropic_beta=api.anthropic_beta,
            payer=caller.payer,
            accept={"on_pause": "keep"},  # a client of the Messages API continues it itself
        )
        if receipt.differs:
            raise _taken(given.name)
        row = await self._waiting.row(job_id, given.wait_s) if given.wait_s else None
        if row is not None:
            return reply(ended_job(row))
        return reply(await self._found(job_id), ACCEPTED)

    async def _get(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        if not is_job(name):
            raise not_found(f"job {name!a:.80}")
        job_id = inner(request[CALLER].tenant, name)
        found = await self._found(job_id)
        bind(job_id=job_id)  # not before: a name that is no job's may be any text
        return reply(found)

    async def _found(self, job_id: str) -> dict[str, object]:
        """Return a job as it is now."""
        found = await read_queued(self._services.redis, job_id)
        if found is not None:
            enqueued_at = _enqueued_at(found.payload)
            return waiting_job(job_id, found.state, enqueued_at, found.attempts)
        row: Result | None = await self._services.store.get(job_id)
        if row is None:
            raise not_found(f"job {job_id.partition('/')[2]}")
        return ended_job(row)


def _enqueued_at(payload: bytes) -> int | None:
    try:
        return wire.decode_job(payload)[1]
    except PayloadError:
        return None


def _taken(name: str | None) -> ApiError:
    if name is None:
        return key_taken()
    return ApiError(409, f"id: {name} names a job with another request; give another id")
