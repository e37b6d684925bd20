"""The retry of an ended Message Batch: its end is final for its clients, so a new batch is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill.errors import InvalidParamsError
from nightmill.maintenance.patched import patched
from nightmill.params import Defaults, check
from nightmill.queue.patience import patiently
from nightmill.records.job import now_ms
from nightmill.records.message_batch import MessageBatch, StoredRequest, is_id, new_id
from nightmill.records.stored_body import LARGEST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from nightmill.records.result import Result
    from nightmill.store import ResultStore


class Renewed(msgspec.Struct, frozen=True, kw_only=True):
    """The new batch, and how many requests it has; "" when no request was selected.

    `without_request` and `invalid` are as in Requeued.
    """

    batch: str = ""
    new: int = 0
    without_request: int = 0
    invalid: int = 0
    problem: str = ""


async def ended_message_batch(store: ResultStore, batch: str) -> MessageBatch | None:
    """Return the Message Batch of that name if it has ended, None for every other batch."""
    if not is_id(batch):
        return None
    from nightmill.store.message_batches import MessageBatches  # noqa: PLC0415 - optional extra

    found = await patiently(lambda: MessageBatches(store).named(batch))
    return None if found is None or found.ended_at is None else found


async def renew(
    ended: MessageBatch,
    rows: AsyncIterator[list[Result]],
    store: ResultStore,
    defaults: Defaults,
    patch: Mapping[str, object],
) -> Renewed:
    """Make a Message Batch of the requests of `rows`; it is there whole or not at all.

    It has the tenant, the API version, the betas and the life of the one that has ended.
    """
    from nightmill.store.message_batches import MessageBatches  # noqa: PLC0415 - optional extra

    batches, at = MessageBatches(store), now_ms()
    name, number = new_id(at), 0
    without, problems = 0, list[str]()
    limits = msgspec.structs.replace(defaults, max_payload_bytes=LARGEST)
    try:
        async for page in rows:
            found = await batches.bodies(ended.batch, [row.seq or 0 for row in page])
            part = []
            for row in page:
                if (request := found.get(row.seq or 0)) is None:
                    without += 1
                    continue
                try:
                    checked = check(patched(request.body, patch), limits, row.api)
                except InvalidParamsError as error:
                    problems.append(f"{request.custom_id}: {error}")
                    continue
                number += 1
                part.append(
                    StoredRequest(
                        seq=number,
                        custom_id=request.custom_id,
                        model=checked.model,
                        body=checked.body,
                    )
                )
            if part:
                await batches.stage(name, part)
    except BaseException:
        await batches.drop(name)
        raise
    if number:
        new = MessageBatch(
            batch=name,
            tenant=ended.tenant,
            total=number,
            created_at=at,
            expires_at=at + ended.expires_at - ended.created_at,
            anthropic_version=ended.anthropic_version,
            anthropic_beta=ended.anthropic_beta,
        )
        await batches.add(new, named_since=name)
    return Renewed(
        batch=name if number else "",
        new=number,
        without_request=without,
        invalid=len(problems),
        problem=next(iter(problems), ""),
    )
