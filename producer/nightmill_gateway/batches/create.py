"""Creates a batch while its body arrives: a piece of it is in memory at a time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from nightmill.errors import StoreError
from nightmill.params import api_of
from nightmill.records.job import now_ms
from nightmill.records.message_batch import MessageBatch
from nightmill_gateway.answers.body import pieces
from nightmill_gateway.batches.check import RequestsCheck, whole
from nightmill_gateway.batches.shapes import new_id
from nightmill_gateway.batches.stream import RequestsReader

if TYPE_CHECKING:
    from aiohttp import web

    from nightmill.records.message_batch import StoredRequest
    from nightmill_gateway.services import Services

MAX_BYTES: Final = 256 << 20
"""Longest body of a create, as the API has it, bytes."""
STAGED: Final = 2_000
STAGED_BYTES: Final = 4 << 20
"""So many requests, or bytes of them, are stored at once."""
PER_TURN: Final = 50
"""Requests that are checked before the event loop handles its sockets again."""


async def create(request: web.Request, tenant: str, services: Services) -> MessageBatch:
    """Accept the batch in the body of `request`, or nothing of it.

    Raises ApiError and InvalidParamsError that name the index and the field of a fault.
    """
    names = ("anthropic-version", "anthropic-beta")
    betas = ",".join(request.headers.getall(names[1], []))
    api = api_of(request.headers.get(names[0]), betas, names=names)
    began = now_ms()
    name = new_id(began)
    try:
        reader, check = RequestsReader(), RequestsCheck(services.producer.defaults)
        await _stage_all(request, name, services, reader, check)
        expires_s = services.settings.batch_expires_s
        about = whole(reader.fields, check.number, expires_s, begun=reader.begun)
        new = MessageBatch(
            batch=name,
            tenant=tenant,
            total=check.number,
            created_at=began,
            expires_at=began + int(about.expires_s * 1000),
            anthropic_version=api.anthropic_version,
            anthropic_beta=",".join(api.anthropic_beta) or None,
        )
        await services.message_batches.add(new)
    except BaseException:
        with suppress(StoreError):  # the keeper removes what stays
            await asyncio.shield(services.message_batches.drop(name))
        raise
    return new


async def _stage_all(
    request: web.Request,
    name: str,
    services: Services,
    reader: RequestsReader,
    check: RequestsCheck,
) -> None:
    """Check and store every request of the body."""
    staged: list[StoredRequest] = []
    size = 0

    async def take(found: object) -> None:
        nonlocal size
        staged.append(each := check.request(found))
        size += len(each.body)
        if len(staged) == STAGED or size > STAGED_BYTES:
            await services.message_batches.stage(name, staged)
            staged.clear()
            size = 0
        elif each.seq % PER_TURN == 0:
            await asyncio.sleep(0)

    async for piece in pieces(request, MAX_BYTES):
        for found in reader.feed(piece):
            await take(found)
    for found in reader.end():
        await take(found)
    if staged:
        await services.message_batches.stage(name, staged)
