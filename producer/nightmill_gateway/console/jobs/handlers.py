"""The page of one job, as Redis or the store has it, and its retry with an edited request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from nightmill.errors import InvalidParamsError, NightmillError, PayloadError
from nightmill.maintenance.requeue_one import requeue_one
from nightmill.queue import wire
from nightmill.queue.queued_job import read_queued
from nightmill.records.result import Attempt, Result
from nightmill_gateway.access.caller import CALLER
from nightmill_gateway.answers.errors import ApiError, not_found
from nightmill_gateway.console.access import may_see
from nightmill_gateway.console.formats import printed
from nightmill_gateway.console.forms import FORM
from nightmill_gateway.console.jobs.blocks import (
    PAGE,
    Room,
    answer_of,
    images_of,
    indented,
    pretty,
    request_of,
    settings_of,
    turns_of,
)
from nightmill_gateway.console.jobs.images import answer_with
from nightmill_gateway.console.jobs.line import line_of
from nightmill_gateway.console.pages import render, see_other

if TYPE_CHECKING:
    from nightmill.queue.queued_job import QueuedJob
    from nightmill_gateway.access.caller import Caller
    from nightmill_gateway.console.audited import Audited
    from nightmill_gateway.services import Services

RAW: Final = 30_000
"""Characters of raw JSON on the page; `/jobs/json` has all."""
FEW: Final = 30_000
"""A longer request, in bytes of a page, is not in the form for its edit: it is pasted there."""
EDIT: Final = 4_000_000
"""Longest request that a form takes, bytes."""
_attempt = msgspec.json.Decoder(Attempt)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One job at one moment."""

    job_id: str
    state: str
    batch: str | None
    params: bytes | None
    """The request; None when it is not kept, or cannot be read."""
    attempts: tuple[Attempt, ...]
    enqueued_at: int | None
    row: Result | None = None
    """Its row, once it has ended."""


class JobPages:
    """The handlers, over connections that are open while they are used."""

    def __init__(self, services: Services, audited: Audited) -> None:
        """Take the connections, and what does actions."""
        self._services = services
        self._audited = audited

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/jobs/one", self._page),
            web.get("/jobs/image", self._image),
            web.get("/jobs/json", self._json),
            web.post("/jobs/retry", self._retry),
        ]

    async def _page(self, request: web.Request) -> web.Response:
        seen = await self._seen(request[CALLER], request.query.get("id", ""))
        return self._shown(request, seen)

    async def _image(self, request: web.Request) -> web.Response:
        """Answer with one image of a request, by its place among those on the job's page."""
        seen = await self._seen(request[CALLER], request.query.get("id", ""))
        turns, _ = turns_of(None if self._hides(request) else _request_of(seen.params))
        number = request.query.get("n", "")
        found = images_of(turns).get(number)
        if found is None:
            raise not_found(f"image {number!a:.20} of this job")
        return answer_with(found)

    async def _json(self, request: web.Request) -> web.Response:
        """Answer with all of a request or an answer as a file: a page has the beginning."""
        seen = await self._seen(request[CALLER], request.query.get("id", ""))
        of = request.query.get("of", "")
        message = seen.row.message if seen.row is not None else None
        found = bytes(message.raw) if of == "answer" and message is not None else None
        if of == "request" and not self._hides(request):
            found = seen.params
        if found is None:
            raise not_found(f"{of!a:.20} of this job")
        return web.Response(
            body=await asyncio.to_thread(indented, found),
            content_type="application/json",
            headers={"Content-Disposition": f'attachment; filename="{of}.json"'},
        )

    def _hides(self, request: web.Request) -> bool:
        """Tell whether the text of the request is hidden, until somebody asks for it."""
        hides = request[CALLER].role == "viewer" or not self._services.settings.keep_params
        return hides and request.query.get("text") != "shown"

    def _shown(
        self,
        request: web.Request,
        seen: Seen,
        *,
        edited: bytes = b"",
        problem: str = "",
        status: int = 400,
    ) -> web.Response:
        row, hidden = seen.row, self._hides(request)
        params = None if hidden else seen.params
        asked = _request_of(params)
        turns, left_out = turns_of(asked)
        room = Room(PAGE)
        answer = answer_of(row.message) if row is not None and row.message is not None else None
        return render(
            request,
            "jobs/one.html",
            status=status if problem else 200,
            job=seen,
            row=row,
            hidden=hidden and seen.params is not None,
            settings=settings_of(asked),
            answer=None if answer is None else room.turn(answer),
            turns=[room.turn(turn) for turn in turns[::-1]][::-1],
            left_out=left_out,
            request_json=room.fit(pretty(params, RAW)),
            answer_json=room.fit(pretty(bytes(row.message.raw), RAW))
            if row and row.message
            else "",
            editable=_editable(edited or params),
            edited=bool(edited),
            problem=problem,
            time_line=line_of(seen.attempts, seen.enqueued_at, row.finished_at if row else None),
        )

    async def _seen(self, caller: Caller, job_id: str) -> Seen:
        """Return a job that the caller may see."""
        if not may_see(caller, job_id.partition(":")[0]):
            raise not_found(f"job {job_id!a:.80}")
        found = await read_queued(self._services.redis, job_id)
        if found is not None:
            return _waiting(job_id, found)
        row = await self._services.store.get(job_id)
        if row is None:
            raise not_found(f"job {job_id!a:.80}")
        return Seen(
            job_id=job_id,
            state=row.status,
            batch=row.batch,
            params=None if row.params is None else bytes(row.params),
            attempts=row.attempts,
            enqueued_at=row.enqueued_at,
            row=row,
        )

    async def _retry(self, request: web.Request) -> web.Response:
        """Enqueue an ended job as its next run, with the request of the form."""
        form = request[FORM]
        seen = await self._seen(request[CALLER], form["id"])
        if seen.row is None or str(seen.row.run) != form["run"]:
            raise ApiError(409, "the job has run again meanwhile: look at it, then decide anew")
        edited, row = form["params"].replace("\r\n", "\n").strip().encode(), seen.row
        if len(edited) > EDIT:
            given = f"the request: given {len(edited):,} bytes; allowed: {EDIT:,}"
            problem = f"{given}; use nightmill retry --set"
            return self._shown(request, seen, edited=edited, problem=problem)
        services = self._services

        async def work(_: str) -> str:
            return await requeue_one(
                row, edited, services.store, services.producer, services.batches
            )

        found = await self._audited.run(
            request[CALLER], "retry with an edit", [seen.job_id], work, detail=f"run {row.run + 1}"
        )
        outcome = found[seen.job_id]
        if isinstance(outcome, NightmillError):
            status = 400 if isinstance(outcome, InvalidParamsError) else 409
            return self._shown(request, seen, edited=edited, problem=str(outcome), status=status)
        return see_other(f"/jobs/one?{urlencode({'id': seen.job_id})}", outcome)


def _request_of(params: bytes | None) -> object:
    return None if params is None else request_of(params)


def _editable(params: bytes | None) -> str | None:
    """Return a request for its form; None when it would make the page too large."""
    if params is None or len(params) > FEW:
        return None if params else ""
    text = pretty(params, FEW)
    return text if printed(text) <= FEW else None


def _waiting(job_id: str, found: QueuedJob) -> Seen:
    params, batch, enqueued_at = None, None, None
    try:
        job, enqueued_at = wire.decode_job(found.payload)
        params, batch = bytes(job.params), job.batch
    except PayloadError:
        pass
    return Seen(
        job_id=job_id,
        state=found.state,
        batch=batch,
        params=params,
        attempts=tuple(call for each in found.attempts if (call := _read(each)) is not None),
        enqueued_at=enqueued_at,
    )


def _read(raw: bytes) -> Attempt | None:
    try:
        return _attempt.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
