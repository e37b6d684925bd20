"""The committer: commit results in groups, and only then take their jobs out of Redis.

While the store is away, results are held in memory (claims stop, so there are no more of them than
calls were in flight), on this machine's disk, and marked in Redis: a restart does not call them
again. When it is back, what processes that are gone left on the disk goes first.
"""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.errors import StoreError, StoreUnavailableError
from nightmill.pricing.cost import load
from nightmill.store.rows import from_row, to_row
from nightmill_worker.completion.batcher import Batcher
from nightmill_worker.completion.spool import Spooled
from nightmill_worker.events import (
    FinishRefused,
    JobsFinished,
    ModelUnpriced,
    SpoolDamaged,
    SpoolFailed,
    StoreAway,
    StoreBack,
)
from nightmill_worker.queue.scripts import Finish, Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from nightmill.records.result import Result
    from nightmill.store import ResultStore
    from nightmill_worker.completion.spool import Orphan, Spool
    from nightmill_worker.events import Emit
    from nightmill_worker.queue.scripts import Scripts

LINGER: Final = 0.15
"""Share of a call's time that rows wait for each other: a commit costs much the same for a hundred
rows as for one. A process that dies loses as many more calls as ended within that time."""
LINGER_S: Final = (0.05, 0.2)
"""Shortest and longest wait of a row, seconds."""
ROWS: Final = 500
BACKOFF_S: Final = (0.1, 5.0)


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """A job's end: its row (None when the row is stored already) and its finish."""

    row: Result | None
    finish: Finish


class Committer:
    """Group commit, then finish. Holds what a store that is away cannot take yet.

    `away` says that the store does not take rows now, or that rows in the spools of this machine
    wait to be stored first, also those of other processes: nothing may be claimed.
    """

    def __init__(
        self,
        store: ResultStore,
        scripts: Scripts,
        spool: Spool,
        emit: Emit,
        done: Callable[[Iterable[Finish]], None],
    ) -> None:
        """Take the store, the scripts, the spool, where events go, and whom to tell of the end."""
        self._store = store
        self._scripts = scripts
        self._spool = spool
        self._emit = emit
        self._done = done
        self._batcher: Batcher[Ending] = Batcher(self._commit, linger_s=LINGER_S[0], limit=ROWS)
        self._committing: list[Ending] = []
        self._held: list[Ending] = []
        self._unspooled: list[Ending] = []
        self._unmarked: list[Ending] = []
        self._spooling = asyncio.Lock()
        self._spool_works = True
        self._away_since: float | None = None
        self._unpriced: set[str] = set()
        self._leaving = asyncio.Event()
        self.away = spool.is_used()  # a file there says that the store was away just now
        if self.away:
            self._leaving.set()
        self.refused_rows = 0

    def put(self, endings: Sequence[Ending]) -> None:
        """Take the ends of jobs; their rows are committed with those of others, soon."""
        for ending in endings:
            row = ending.row
            if row is not None and row.cost is None and row.model not in self._unpriced:
                self._unpriced.add(row.model or "")
                self._emit(ModelUnpriced(model=row.model or ""))
        self._batcher.put_all(endings)

    def pace(self, call_s: float) -> None:
        """Let rows wait for each other for as long as suits calls of `call_s` seconds."""
        self._batcher.linger_s = min(max(LINGER_S[0], LINGER * call_s), LINGER_S[1])

    async def run(self) -> None:
        """Commit until `close`, then what is left; what cannot be stored stays in the spool."""
        await asyncio.to_thread(load)
        coming_back = asyncio.create_task(self._come_back())
        try:
            await self._batcher.run()
        finally:
            coming_back.cancel()
            await asyncio.gather(coming_back, return_exceptions=True)
        if self.away:
            await self._return()
        self._spool.close()

    def close(self) -> None:
        """Make `run` return once nothing is left."""
        self._batcher.close()

    async def leave_behind(self) -> None:
        """Put on the disk, and mark, what the store has not taken yet: this process ends now.

        For a store that neither takes rows nor refuses them, a locked file say.
        """
        await self._hold([*self._committing, *self._batcher.waiting])
        await self._mark()

    async def _commit(self, endings: list[Ending]) -> None:
        self._committing = endings
        await self._commit_or_hold(endings)
        self._committing = []

    async def _commit_or_hold(self, endings: list[Ending]) -> None:
        if not self.away:
            try:
                await self._store_and_finish(endings)
            except StoreUnavailableError as error:
                self._leave(error)
            else:
                return
        await self._hold(endings)

    async def _store_and_finish(self, endings: Sequence[Ending]) -> None:
        rows = [ending.row for ending in endings if ending.row is not None]
        self.refused_rows += len(rows) - await self._store.record(rows)
        late = await self._scripts.finish([ending.finish for ending in endings])
        self._done(ending.finish for ending in endings)
        for job_id in late:
            self._emit(FinishRefused(job_id=job_id))
        ended = {e.finish.id: e.finish.status for e in endings if e.finish.id not in late}
        if ended:
            self._emit(JobsFinished(jobs=ended))

    def _leave(self, error: StoreUnavailableError) -> None:
        self.away = True
        self._leaving.set()
        if self._away_since is None:
            self._away_since = time.monotonic()
            self._emit(StoreAway(problem=str(error)))

    async def _hold(self, endings: Sequence[Ending]) -> None:
        """Keep `endings`, in memory and on the disk, until the store is back."""
        self._held += endings
        self._unspooled += endings
        await self._write_spool()

    async def _write_spool(self) -> None:
        """Write what is not on the disk yet; a disk that refuses is tried again with the store.

        Nothing is marked as answered that would not survive this process.
        """
        async with self._spooling:
            items = list(self._unspooled)
            if not items:
                return
            try:
                await asyncio.to_thread(self._spool.append, _spooled(items))
            except OSError as error:
                if self._spool_works:
                    self._spool_works = False
                    self._emit(SpoolFailed(problem=str(error), held=len(self._held)))
                return
            self._spool_works = True
            del self._unspooled[: len(items)]
            self._unmarked += items

    async def _mark(self) -> None:
        """Tell Redis which jobs are answered: their leases outlive a restart of this process."""
        items, self._unmarked = self._unmarked, []
        await self._scripts.renew([_answered(item.finish) for item in items])

    async def _come_back(self) -> None:
        """Try the store, now and then, while it is away."""
        while True:
            await self._leaving.wait()
            for wait in _waits():
                await asyncio.sleep(wait)
                if await self._return():
                    break

    async def _return(self) -> bool:
        """Store what was left behind, then what is held; tells whether that was all."""
        await self._write_spool()
        await self._mark()
        try:
            await self._store.probe()  # with nothing to store, nothing else would tell
            for orphan in self._spool.orphans():
                await self._drain(orphan)
            while self._held:
                group = self._held[:ROWS]
                await self._store_and_finish(group)
                del self._held[: len(group)]
        except StoreUnavailableError as error:
            self._leave(error)
            return False
        async with self._spooling:
            await asyncio.to_thread(self._spool.clear)
            if self._held:  # they came meanwhile
                return False
            self._arrive()
        return True

    async def _drain(self, orphan: Orphan) -> None:
        """Store and finish what a process that is gone had answers for."""
        with orphan:
            items = iter(orphan)
            while group := list(islice(items, ROWS)):
                try:
                    await self._store_and_finish([_ending(item) for item in group])
                except StoreUnavailableError:
                    raise
                except StoreError:  # refused for what it is; not again at every start
                    orphan.refuse(group)
        if orphan.damaged:
            self._emit(SpoolDamaged(file=str(orphan.aside), lines=orphan.damaged))

    def _arrive(self) -> None:
        """Note that everything is stored."""
        self.away = False
        self._leaving.clear()
        self._unspooled.clear()
        self._unmarked.clear()
        if self._away_since is not None:
            self._emit(StoreBack(after_s=time.monotonic() - self._away_since))
            self._away_since = None


def _waits() -> Iterator[float]:
    wait, longest = BACKOFF_S
    yield 0
    while True:
        yield wait
        wait = min(wait * 2, longest)


def _spooled(endings: Sequence[Ending]) -> list[Spooled]:
    return [Spooled(row=to_row(e.row), finish=e.finish) for e in endings if e.row is not None]


def _ending(item: Spooled) -> Ending:
    return Ending(row=from_row(item.row), finish=item.finish)


def _answered(finish: Finish) -> Lease:
    return Lease(id=finish.id, token=finish.token, queue=finish.queue, model="", answered=True)
