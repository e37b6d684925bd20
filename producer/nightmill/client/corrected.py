"""The counts of batches as Redis and the store know them together. Redis may have lost some."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.client.stored import store_to_read
from nightmill.enqueue.known import is_lost, spent_fields, total_of
from nightmill.errors import StoreError
from nightmill.queue.keys import SINGLES
from nightmill.records.counts import Counts, agree, with_rows, with_spent
from nightmill.records.state import BATCH_ENDED

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from contextlib import AbstractAsyncContextManager

    from nightmill.queue.batches import Batches
    from nightmill.settings import Settings
    from nightmill.store import ResultStore

RATE_S: Final = 60.0
"""Time over which the rate of a batch is measured in the store, seconds."""
LISTED_S: Final = 5.0
"""How long a batch that neither Redis nor the store knows any more may still be listed, seconds."""
LOST: Final = "it was so before Redis lost it"


async def corrected(counts: Counts, batch: str, store: ResultStore | None) -> Counts:
    """Return `counts` with the total of the store and, while no job is in Redis, its rows.

    Redis's total is used where it is larger. Of a batch that was never fed with this store, the
    store knows nothing.
    """
    known = None if store is None or batch == SINGLES else await store.known(batch)
    if store is None or known is None:
        return counts
    if counts.drained:
        counts = await with_store(counts, batch, store)
    ended = is_lost(counts, known) and known.state in BATCH_ENDED
    return msgspec.structs.replace(
        counts,
        total=total_of(counts, known),
        fed=True,
        flag=known.state if ended else counts.flag,
        reason=LOST if ended else counts.reason,
    )


async def with_store(counts: Counts, batch: str, store: ResultStore) -> Counts:
    """Return `counts` with the ends of jobs and the stop reasons that the store has.

    The stop reasons are read only where the ends differ: that reads every row of the batch.
    """
    rows = await store.counts(batch)
    if agree(counts, rows):
        return counts
    counts = with_rows(counts, rows, await store.stop_reasons(batch))
    return with_spent(counts, spent_fields(await store.spent(batch)))


class Corrections:
    """Corrects the counts that Redis has, with what the store beside it knows better.

    The store is asked only about batches that may be over or lost, and again only when their counts
    in Redis have changed. It also measures rates.
    """

    def __init__(
        self,
        batches: Batches,
        settings: Settings,
        *,
        lenient: bool = False,
        store: ResultStore | None = None,
    ) -> None:
        """Take a Redis, and the settings that say where the store is, or the store that is open.

        `lenient`: while the store does not answer, Redis's counts are returned as they are.
        """
        self._store = store
        self._lenient = lenient
        self._batches = batches
        self._settings = settings
        self._known: dict[str, tuple[Counts, Counts]] = {}
        self._listed_at = 0.0
        """When the store last said which batches it knows, seconds of the monotonic clock."""

    async def one(self, batch: str) -> Counts:
        """Return the counts of `batch`. Raises BatchNotFoundError, which lists the known ones."""
        names = await self._batches.names()
        counts = await self._batches.counts(batch) if batch in names else Counts()
        found = (await self._correct({batch: counts}))[batch]
        if batch not in names and not found.fed:
            self._known.pop(batch, None)  # else `all` would list a name that somebody made up
            await self._batches.require(batch)
        return found

    async def all(self) -> dict[str, Counts]:
        """Return the counts of every batch that Redis or the store knows, sorted by name."""
        counts = await self._batches.all()
        return dict(sorted((await self._correct(counts, others=True)).items()))

    async def rates(self, names: Collection[str]) -> dict[str, float]:
        """Return the jobs a second of the batches `names` over the last RATE_S seconds.

        It is measured in the store, so without it there are none.
        """
        if not names:
            return {}
        try:
            async with self._opened() as store:
                return {} if store is None else {n: await store.rate(n, RATE_S) for n in names}
        except StoreError:
            return {}

    async def _correct(
        self, found: dict[str, Counts], *, others: bool = False
    ) -> dict[str, Counts]:
        """Return `found` corrected; with `others`, also the batches that Redis has lost."""
        asked = {name: counts for name, counts in found.items() if self._needs_store(name, counts)}
        gone = others and not self._known.keys() <= found.keys()
        late = time.monotonic() - self._listed_at > LISTED_S
        if asked or (others and not found) or (gone and late):
            try:
                await self._ask_store(asked, found if others else None)
            except StoreError:
                if not self._lenient:
                    raise
        return found | {
            name: better
            for name, (counts, better) in self._known.items()
            if found.get(name, counts) == counts
        }

    async def _ask_store(
        self, asked: dict[str, Counts], found: Mapping[str, Counts] | None
    ) -> None:
        """Correct `asked`, and with `found` also the batches that the store knows beside those."""
        async with self._opened() as store:
            if store is not None and found is not None:
                stored = await store.all_known()
                self._listed_at = time.monotonic()
                for name in self._known.keys() - found.keys() - stored.keys():
                    del self._known[name]  # it was pruned
                asked |= {n: Counts() for n in stored if n not in found}
            for name, counts in asked.items():
                self._known[name] = counts, await corrected(counts, name, store)

    def _opened(self) -> AbstractAsyncContextManager[ResultStore | None]:
        if self._store is not None:
            return nullcontext(self._store)
        return store_to_read(self._settings, self._batches.redis)

    def _needs_store(self, name: str, counts: Counts) -> bool:
        unfinished = counts.fed and counts.total is None
        may_be_over = not counts.feeding and (counts.drained or unfinished)
        return name != SINGLES and may_be_over and self._known.get(name, (None,))[0] != counts
