"""What a caller of the console reaches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nightmill.records.message_batch import is_id
from nightmill_gateway.access.caller import ALL, TENANT
from nightmill_gateway.answers.errors import ApiError, not_found

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nightmill.records.counts import Counts
    from nightmill.store.message_batches import MessageBatches
    from nightmill_gateway.access.caller import Caller

NOBODY: Final = "?"
"""The tenant of a Message Batch whose own is not known: only callers of all tenants see it."""
_OWNERS: Final[dict[str, str]] = {}
"""Message Batch -> its tenant, which never changes. Its name does not say it."""


async def learn(batches: MessageBatches, found: Mapping[str, Counts]) -> None:
    """Find out whose the Message Batches among these batches are."""
    for name, counts in found.items():
        if is_id(name) and name not in _OWNERS:
            tenant = counts.limits.tenant
            if tenant is None:  # Redis has lost the batch
                stored = await batches.named(name)
                tenant = None if stored is None else stored.tenant
            if tenant is not None:
                _OWNERS[name] = tenant


def may_see(caller: Caller, name: str) -> bool:
    """Tell whether a caller reaches a batch by its name, or a job by its id.

    Of a Message Batch, Looks must have seen it before: until then it is nobody's.
    """
    return caller.tenant in (ALL, tenant_of(name))


def require_sees(caller: Caller, name: str) -> None:
    """Raise ApiError unless the caller reaches a batch; it is as if there were none."""
    if not may_see(caller, name):
        raise not_found(f'batch "{name:.80}"')


def tenant_of(name: str) -> str:
    """Return whose a batch, or a job by its id, is: before its slash, else the default one."""
    batch = name.partition(":")[0]
    if is_id(batch):
        return _OWNERS.get(batch, NOBODY)
    tenant, slash, _ = batch.partition("/")
    return tenant if slash else TENANT


def require_all(caller: Caller) -> None:
    """Raise ApiError when the caller is of one tenant: lanes and workers serve all of them."""
    if caller.tenant != ALL:
        raise ApiError(403, "this page is about all tenants: log in with a key of --tenant '*'")
