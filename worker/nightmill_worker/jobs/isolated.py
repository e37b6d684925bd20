"""The isolation process: runs jobs under which workers died, one at a time.

`python -m nightmill_worker.jobs.isolated`, started by a worker (see `isolation`), settings from the
environment. Requests come on standard input, answers leave on standard output: the length (4 bytes,
big-endian) and MessagePack. Before it looks at a request, it answers that it has it: an empty
message. It ends when its input closes.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.checked.structured import structured
from nightmill.enqueue.prepare import defaults_of_queued
from nightmill.errors import (
    InvalidAcceptanceError,
    InvalidParamsError,
    PayloadError,
    StoreUnavailableError,
)
from nightmill.params import recheck
from nightmill.queue import wire
from nightmill.records.acceptance import from_text
from nightmill.records.message import is_null
from nightmill.records.stored_body import stored_body
from nightmill.records.turn import Turn
from nightmill.settings import settings_from_parent
from nightmill.store import ResultStore
from nightmill.store.message_batches import MessageBatches
from nightmill_worker.attachments.loader import Attachments, attached
from nightmill_worker.child import LENGTH, framed
from nightmill_worker.jobs.chain import fitting, request_of
from nightmill_worker.jobs.isolation import Isolated, Request
from nightmill_worker.messages.client import MessagesClient
from nightmill_worker.messages.outcome import Broken, Fail, Reply

if TYPE_CHECKING:
    from nightmill.records.acceptance import Acceptance
    from nightmill.records.job import Job
    from nightmill.records.stored_body import StoredBody
    from nightmill.settings import Settings

BEGUN: Final = b""
"""The message that a request has arrived."""
_request: Final = msgspec.msgpack.Decoder(Request)
_encode: Final = msgspec.msgpack.Encoder().encode


async def serve(settings: Settings, client: MessagesClient) -> None:
    """Answer requests until the input closes."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    attachments = Attachments(settings)
    coming = asyncio.create_task(_next(reader))
    while (request := await coming) is not None:
        _put(BEGUN)
        coming = asyncio.create_task(_next(reader))  # before the answer, only the end can come
        running = asyncio.create_task(_run(request, settings, client, attachments))
        await asyncio.wait({running, coming}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done():  # the worker is gone: its call would be for nothing
            running.cancel()
            return
        _put(_encode(await running))


async def _next(reader: asyncio.StreamReader) -> Request | None:
    """Return the next request, None when the input closes."""
    try:
        size = int.from_bytes(await reader.readexactly(LENGTH))
        return _request.decode(await reader.readexactly(size))
    except asyncio.IncompleteReadError:
        return None


def _put(message: bytes) -> None:
    sys.stdout.buffer.write(framed(message))
    sys.stdout.buffer.flush()


async def _run(
    request: Request, settings: Settings, client: MessagesClient, attachments: Attachments
) -> Isolated:
    """Decode, attach, call: every step that a job could end a process with."""
    try:
        job, _ = wire.decode_job(request.payload, request.job_id)
        params = bytes(job.params)
        stored = stored_body(params, job.batch)
        body = b"" if stored else recheck(params, defaults_of_queued(settings))
        accept = from_text(request.accept if is_null(job.accept) else job.accept)
    except (PayloadError, InvalidParamsError, InvalidAcceptanceError):
        return Isolated(kind="unfit")
    if request.stored_run >= job.run:
        return Isolated(kind="stored")
    if job.expires_at is not None and job.expires_at <= request.claimed_at:
        return Isolated(kind="unfit")
    if stored is None:
        whole = _whole(request, job, body, accept)
        return await _attach_and_call(whole, job, client, attachments)
    read = await _read(stored, settings)
    if isinstance(read, Isolated):
        return read
    reply = await client.send(_whole(request, job, read, accept), api=job.api)
    return msgspec.structs.replace(_isolated(reply), body=read)


def _whole(request: Request, job: Job, body: bytes, accept: Acceptance) -> bytes:
    """Return the request to send: it may go on from turns."""
    found = msgspec.json.decode(request.turns, type=list[Turn])
    turns, _ = fitting(found, job, body)
    return structured(request_of(body, accept, turns) if turns else body, accept)


async def _attach_and_call(
    body: bytes, job: Job, client: MessagesClient, attachments: Attachments
) -> Isolated:
    if not attached(body):
        return _isolated(await client.send(body, api=job.api))
    async with attachments.loaded(body) as whole:
        if isinstance(whole, bytes):
            return _isolated(await client.send(whole, api=job.api))
        value = _encode(whole)
        return Isolated(kind="fail" if isinstance(whole, Fail) else "retry", value=value)


async def _read(at: StoredBody, settings: Settings) -> bytes | Isolated:
    """Return a request that is in the store, or why there is none."""
    try:
        async with ResultStore.open(settings.store_at) as store:
            found = await MessageBatches(store).bodies(at.batch, [at.seq])
    except StoreUnavailableError:
        return Isolated(kind="away")
    return found[at.seq].body if at.seq in found else Isolated(kind="deleted")


def _isolated(reply: Reply | Broken) -> Isolated:
    headers = {name.lower(): value for name, value in reply.headers.items()}
    plain = msgspec.structs.replace(reply, headers=headers)
    value = _encode(plain)
    return Isolated(kind="reply" if isinstance(reply, Reply) else "broken", value=value)


async def main() -> None:
    """Serve with the settings of the environment."""
    settings = settings_from_parent()
    async with MessagesClient(settings) as client:
        await serve(settings, client)


if __name__ == "__main__":
    asyncio.run(main())
