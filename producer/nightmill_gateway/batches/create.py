"""Creates a batch while its body arrives: a piece of it is in memory at a time."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Final

from nightmill.records.job import now_ms
from nightmill.records.message_batch import MessageBatch, id_before, new_id
from nightmill_gateway.access.api import api_in_headers
from nightmill_gateway.access.caller import CALLER
from nightmill_gateway.access.room import ROOM
from nightmill_gateway.answers.body import pieces
from nightmill_gateway.answers.sending import LOST_MS, NAMED_MS, Sending
from nightmill_gateway.batches.check import RequestsCheck, whole
from nightmill_gateway.batches.staging import Staging
from nightmill_gateway.batches.stream import RequestsReader
from nightmill_gateway.sendings import key_taken

if TYPE_CHECKING:
    from aiohttp import web

    from nightmill_gateway.services import Services

MAX_BYTES: Final = 256 << 20
"""Longest body of a create, as the API has it, bytes."""
PER_TURN: Final = 50
"""Requests that are checked before the event loop handles its sockets again."""


async def create(request: web.Request, services: Services) -> MessageBatch:
    """Accept the batch in the body of `request`, or nothing of it.

    A batch that an earlier sending has made is returned also when the queue takes no new one.
    Raises ApiError and InvalidParamsError that name the index and the field of a fault.
    """
    api, sent, began = api_in_headers(request), Sending.of(request.headers), now_ms()
    caller, room, batches = request[CALLER], request.app[ROOM], services.message_batches
    first = sent.key is None and not sent.again
    if first:
        await room.require(caller)
    name = new_id(began)
    staging = Staging(batches, name)
    reader, check = RequestsReader(), RequestsCheck(services.defaults(api))
    try:
        digest = await _stage(request, reader, check, staging)
        expires_s = services.settings.batch_expires_s
        about = whole(reader.fields, check.number, expires_s, begun=reader.begun)
        await staging.finish()
        new = MessageBatch(
            batch=name,
            tenant=caller.tenant,
            key_id=caller.payer,
            total=check.number,
            created_at=began,
            expires_at=began + int(about.expires_s * 1000),
            anthropic_version=api.anthropic_version,
            anthropic_beta=",".join(api.anthropic_beta) or None,
            digest=digest,
            idempotency_key=sent.key,
        )
        named_since = id_before(began - NAMED_MS)
        lost_since = id_before(began - LOST_MS) if sent.again else None
        if not first and not await batches.has_earlier(new, named_since, lost_since):
            await room.require(caller)
    except BaseException:
        await asyncio.shield(staging.drop())
        raise
    # Nothing is dropped while it is not known: a commit that was not answered may have been made.
    there = await asyncio.shield(batches.add(new, named_since=named_since, lost_since=lost_since))
    if there is not new:
        await asyncio.shield(staging.drop())
        if there.digest != new.digest:
            raise key_taken()
    return there


async def _stage(
    request: web.Request, reader: RequestsReader, check: RequestsCheck, staging: Staging
) -> str:
    """Stage the requests in the body; return the digest of the body."""
    hashed = hashlib.blake2b(digest_size=16)
    async for piece in pieces(request, MAX_BYTES):
        hashed.update(piece)
        for found in reader.feed(piece):
            await staging.add(check.request(found))
            if check.number % PER_TURN == 0:
                await asyncio.sleep(0)
    for found in reader.end():
        await staging.add(check.request(found))
    return hashed.hexdigest()
