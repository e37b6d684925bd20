"""The routes of Message Batches."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aiohttp import web

from nightmill.errors import StoreError
from nightmill.message_batches.feeding import end_if_over
from nightmill.records.counts import Counts, with_rows
from nightmill.records.job import now_ms
from nightmill.records.message_batch import is_id
from nightmill_gateway.access.caller import CALLER
from nightmill_gateway.answers.download import download
from nightmill_gateway.answers.errors import invalid, not_found
from nightmill_gateway.answers.log import bind
from nightmill_gateway.answers.reply import reply, write_end
from nightmill_gateway.batches.create import create
from nightmill_gateway.batches.polls import Polls
from nightmill_gateway.batches.shapes import PATH, message_batch, page, result_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nightmill.records.message_batch import MessageBatch
    from nightmill_gateway.batches.looking import Looking
    from nightmill_gateway.services import Services

DEFAULT_LIMIT: Final = 20
MAX_LIMIT: Final = 1000


class BatchHandlers:
    """The handlers, over connections that are open while they are used."""

    def __init__(self, services: Services, looking: Looking) -> None:
        """Take the connections, and what is woken for new work."""
        self._services = services
        self._looking = looking
        self._polls = Polls(self._look)

    def routes(self) -> Iterable[web.RouteDef]:
        """Return the routes."""
        one = f"{PATH}/{{id}}"
        return [
            web.post(PATH, self._create),
            web.get(PATH, self._list),
            web.get(one, self._get),
            web.delete(one, self._delete),
            web.post(f"{one}/cancel", self._cancel),
            web.get(f"{one}/results", self._results),
        ]

    async def _create(self, request: web.Request) -> web.StreamResponse:
        """Answer with the new batch, or with the one that an earlier sending of it has made."""
        batch = await create(request, self._services)
        self._looking.wake()
        bind(batch=batch.batch)
        noted = False
        try:
            response = reply(await self._shown(batch, request))
            await response.prepare(request)
            await write_end(request, response)
            noted = True
        finally:
            at = now_ms() if noted else None
            with suppress(StoreError):  # unknown, the next retry takes it over
                await asyncio.shield(self._services.message_batches.answered(batch, at))
        return response

    async def _list(self, request: web.Request) -> web.Response:
        after, before = _id_in(request, "after_id"), _id_in(request, "before_id")
        if after is not None and before is not None:
            raise invalid("before_id: given with after_id; allowed: one of them")
        found, more = await self._services.message_batches.page(
            request[CALLER].tenant, _limit(request), after=after, before=before
        )
        shown = [message_batch(*each, _base(request)) for each in await self._counted(found)]
        return reply(page(shown, more=more))

    async def _get(self, request: web.Request) -> web.Response:
        name, tenant = request.match_info["id"], request[CALLER].tenant
        batch, counts = await self._polls.get(tenant, name)
        bind(batch=batch.batch)
        return reply(message_batch(batch, counts, _base(request)))

    async def _delete(self, request: web.Request) -> web.Response:
        batch = await self._find(request)
        if batch.ended_at is None and not await end_if_over(self._services, batch):
            raise invalid(f"{batch.batch} is still processing: cancel it, and delete it once ended")
        await self._services.message_batches.delete(batch, now_ms())
        self._polls.forget(batch.tenant, batch.batch)
        self._looking.wake()
        return reply({"id": batch.batch, "type": "message_batch_deleted"})

    async def _cancel(self, request: web.Request) -> web.Response:
        batch = await self._find(request)
        if batch.ended_at is None:
            await self._services.message_batches.cancel(batch, now_ms())
            await self._services.batches.cancel(batch.batch)
            self._polls.forget(batch.tenant, batch.batch)
            self._looking.wake()
        return reply(await self._shown(await self._find(request), request))

    async def _results(self, request: web.Request) -> web.StreamResponse:
        batch = await self._find(request)
        if batch.ended_at is None and not await end_if_over(self._services, batch):
            raise invalid(f"{batch.batch} is still processing: its results are there once it ended")
        pages = self._services.message_batches.ends(batch.batch)
        headers = {"content-type": "application/x-jsonl"}
        return await download(request, headers, pages, result_line)  # type: ignore[arg-type]

    async def _find(self, request: web.Request) -> MessageBatch:
        """Return the batch that the path names. Raises ApiError when the caller has none such."""
        return await self._named(request[CALLER].tenant, request.match_info["id"])

    async def _named(self, tenant: str, name: str) -> MessageBatch:
        found = await self._services.message_batches.get(tenant, name) if is_id(name) else None
        if found is None:
            raise not_found(f"batch {name!a:.80}")
        bind(batch=found.batch)
        return found

    async def _shown(self, batch: MessageBatch, request: web.Request) -> dict[str, object]:
        """Return a batch as it is now."""
        (found,) = await self._counted([batch])
        return message_batch(*found, _base(request))

    async def _look(self, tenant: str, name: str) -> tuple[MessageBatch, Counts]:
        (found,) = await self._counted([await self._named(tenant, name)])
        return found

    async def _counted(self, found: Sequence[MessageBatch]) -> list[tuple[MessageBatch, Counts]]:
        """Return batches as they are now, with their counts: one read for all of them."""
        names = [each.batch for each in found if each.ended_at is None]
        counts = await self._services.batches.counts_of(names)
        # Redis does not know these yet, or has lost them.
        unfed = [name for name in names if not counts[name].fed]
        rows = await self._services.store.counts_of(unfed) if unfed else {}
        counts |= {name: with_rows(Counts(), rows[name], {}) for name in unfed}
        return [await self._now(each, counts.get(each.batch, Counts())) for each in found]

    async def _now(self, batch: MessageBatch, counts: Counts) -> tuple[MessageBatch, Counts]:
        """Return a batch, and its counts; it ends now if all of its requests have."""
        over = batch.ended_at is None and counts.fed and counts.drained
        if over and await end_if_over(self._services, batch):
            batch = await self._find_again(batch)
        return batch, counts

    async def _find_again(self, batch: MessageBatch) -> MessageBatch:
        return await self._services.message_batches.get(batch.tenant, batch.batch) or batch


def _base(request: web.Request) -> str:
    """Return the URL of the gateway as its client has it: through a proxy, that of the proxy."""
    forwarded = request.headers.get("x-forwarded-proto", "")
    scheme = forwarded if forwarded in {"http", "https"} else request.scheme
    return f"{scheme}://{request.host}"


def _limit(request: web.Request) -> int:
    given = request.query.get("limit", str(DEFAULT_LIMIT))
    if not given.isascii() or not given.isdecimal() or not 1 <= int(given[:9]) <= MAX_LIMIT:
        raise invalid(f"limit: given {given!a:.60}; allowed: 1 to {MAX_LIMIT}")
    return int(given)


def _id_in(request: web.Request, name: str) -> str | None:
    given = request.query.get(name)
    if given is not None and not is_id(given):
        raise invalid(f"{name}: given {given!a:.60}; allowed: the id of a batch")
    return given
