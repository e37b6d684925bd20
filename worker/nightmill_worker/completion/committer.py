"""The committer: commits results in groups, and only then takes their jobs out of Redis.

While the store is away, results are held in memory, on this machine's disk, and marked in Redis so
that a restart does not call them again. Claims stop meanwhile, so no more results are held than
calls were in flight. When the store is back, what ended processes left on the disk goes first.
A commit never waits for Redis: finishes follow in groups of their own.
"""

from __future__ import annotations

import asyncio
import time
from itertools import islice
from typing import TYPE_CHECKING, Final

from nightmill.errors import StoreUnavailableError
from nightmill.pricing.cost import LIST
from nightmill.queue.patience import waits
from nightmill_worker.completion.batcher import Batcher
from nightmill_worker.completion.observed import facts_of_row
from nightmill_worker.completion.spooled import answer_of, spooled
from nightmill_worker.events import (
    FinishRefused,
    JobFacts,
    JobsFinished,
    ModelUnpriced,
    RowReduced,
    SpoolDamaged,
    SpoolFailed,
    StoreAway,
    StoreBack,
    failed_loop,
)
from nightmill_worker.group_events import RowsCommitted
from nightmill_worker.jobs.decision import Ending
from nightmill_worker.jobs.tasks import end_tasks
from nightmill_worker.jobs.turns import Continuation
from nightmill_worker.queue.records import Finish, Lease

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Sequence
    from pathlib import Path

    from nightmill.records.result import Result
    from nightmill.store import ResultStore
    from nightmill_worker.completion.releases import Releases
    from nightmill_worker.completion.spool import Orphan, Spool
    from nightmill_worker.completion.spooled import Answer
    from nightmill_worker.events import Emit
    from nightmill_worker.queue.scripts import Scripts

LINGER: Final = 0.15
"""Share of a call's time that rows wait for each other: a commit costs much the same for a hundred
rows as for one. A process that dies loses as many more calls as ended within that time."""
LINGER_S: Final = (0.05, 0.2)
"""Shortest and longest wait of a row, seconds."""
ROWS: Final = 500
PRICES_S: Final = 0.3
"""Time from the start until the price list is read, which would delay the first calls; seconds."""
BACKOFF_S: Final = (0.1, 5.0)
"""First and longest wait between two tries of a store that is away, seconds."""


class Committer:
    """Commits in groups, then finishes. Holds what a store that is away cannot take yet.

    `away` says that the store does not take rows now, or that rows in the spools of this machine
    wait to be stored first, also those of other processes: nothing may be claimed.
    """

    def __init__(  # noqa: PLR0913 - where answers go, and what then happens to their jobs
        self,
        store: ResultStore,
        scripts: Scripts,
        spool: Spool,
        emit: Emit,
        *,
        done: Callable[[Iterable[Finish]], None],
        releases: Releases,
    ) -> None:
        """Take the store, the scripts, the spool, where events go, and `done` for what is over.

        `releases` take the jobs whose turns are committed.
        """
        self._store = store
        self._scripts = scripts
        self._spool = spool
        self._emit = emit
        self._done = done
        self._releases = releases
        self._rows: Batcher[Answer] = Batcher(self._commit, linger_s=LINGER_S[0], limit=ROWS)
        self._finishes: Batcher[Answer] = Batcher(self._finish, linger_s=0, limit=ROWS)
        self._committing: list[Answer] = []
        self._held: list[Answer] = []
        self._unspooled: list[Answer] = []
        self._unmarked: list[Answer] = []
        self._spooling = asyncio.Lock()
        self._drained: dict[Path, int] = {}  # file of an orphan -> items that are stored
        self._away_since: float | None = None
        self._unpriced: set[str] = set()
        self._leaving = asyncio.Event()
        self.store_problem = self.spool_problem = ""
        self.away = spool.is_used()  # a file there says that the store was away just now
        if self.away:
            self._leaving.set()
        self.refused_rows = 0

    @property
    def unsaved(self) -> int:
        """How many answers are neither in the store nor on the disk, after `save`."""
        return len(self._unspooled)

    def put(self, endings: Sequence[Answer]) -> None:
        """Take the ends of jobs, and turns; they are committed with those of others, soon."""
        for ending in endings:
            row = ending.row if isinstance(ending, Ending) else None
            if row is not None and row.cost is None and row.model not in self._unpriced:
                self._unpriced.add(row.model or "")
                self._emit(ModelUnpriced(model=row.model or ""))
        self._rows.put_all(endings)

    def pace(self, call_s: float) -> None:
        """Let rows wait for each other for as long as suits calls of `call_s` seconds."""
        self._rows.linger_s = min(max(LINGER_S[0], LINGER * call_s), LINGER_S[1])

    async def run(self) -> None:
        """Commit until `close`, then what is left; what cannot be stored stays in the spool."""
        loading = asyncio.create_task(_load_prices())
        returning = asyncio.create_task(self._return_when_back())
        finishing = asyncio.create_task(self._finishes.run())
        try:
            await self._rows.run()
            await end_tasks(returning)
            if self.away:
                await self._return()
            self._finishes.close()
            await finishing
        finally:
            await end_tasks(loading, returning, finishing)
            self._spool.close()

    def close(self) -> None:
        """Make `run` return once nothing is left."""
        self._rows.close()

    async def save(self) -> None:
        """Put on the disk what the store has not taken yet, then mark it: this process is to end.

        For a store that neither takes rows nor refuses them (a locked file, say), and for a Redis
        that is away: the marks wait for it, the disk does not.
        """
        left, self._committing = [*self._committing, *self._rows.take()], []
        await self._hold(left)
        await self._mark()

    async def _commit(self, endings: list[Answer]) -> None:
        self._committing = endings
        if not self.away:
            try:
                await self._record(endings)
            except StoreUnavailableError as error:
                self._leave(error)
        if self.away:
            await self._hold(self._committing)
        self._committing = []

    async def _record(self, endings: list[Answer]) -> None:
        """Commit the rows, whatever they hold. Raises StoreUnavailableError alone."""
        ends = [each for each in endings if isinstance(each, Ending)]
        if len(ends) < len(endings):
            turns = [each.turn for each in endings if isinstance(each, Continuation)]
            await self._store.record_turns(turns)
        rows = [ending.row for ending in ends if ending.row is not None]
        began = time.monotonic()
        refused = len(rows) - await self._store.record_all(rows, self._note_reduced)
        self.refused_rows += refused
        seconds = time.monotonic() - began
        self._emit(RowsCommitted(rows=rows, refused=refused, seconds=seconds))
        self._finishes.put_all(endings)

    def _note_reduced(self, row: Result, problem: str) -> None:
        self._emit(RowReduced(problem=problem, **facts_of_row(row)))

    async def _finish(self, endings: list[Answer]) -> None:
        finishes = [each.finish for each in endings if isinstance(each, Ending)]
        if len(finishes) < len(endings):
            going = [each.release for each in endings if isinstance(each, Continuation)]
            await self._releases.give_back(going)
        late = await self._scripts.finish(finishes)
        self._done(finishes)
        if late:
            self._note_late(endings, late)
        ended = {each.id: each.status for each in finishes if each.id not in late}
        if ended:
            self._emit(JobsFinished(jobs=ended))

    def _note_late(self, endings: Sequence[Answer], late: Container[str]) -> None:
        for each in endings:
            if isinstance(each, Ending) and each.finish.id in late:
                facts = facts_of_row(each.row) if each.row else JobFacts(job_id=each.finish.id)
                self._emit(FinishRefused(**facts))

    def _leave(self, error: StoreUnavailableError) -> None:
        self.away, self.store_problem = True, str(error)
        self._leaving.set()
        if self._away_since is None:
            self._away_since = time.monotonic()
            self._emit(StoreAway(problem=str(error)))

    async def _hold(self, endings: Sequence[Answer]) -> None:
        """Keep `endings`, in memory and on the disk, until the store is back."""
        self._held += endings
        self._unspooled += endings
        await self._write_spool()

    async def _write_spool(self) -> None:
        """Write what is not on the disk yet; a disk that refuses is tried again with the store.

        A job is marked as answered only when its answer would survive this process. A write that
        has begun is finished also when its caller is cancelled: it would be written twice.
        """
        await asyncio.shield(self._write_whole())

    async def _write_whole(self) -> None:
        async with self._spooling:
            items = list(self._unspooled)
            if not items:
                return
            try:
                await asyncio.to_thread(self._spool.append, spooled(items))
            except OSError as error:
                if not self.spool_problem:
                    self._emit(SpoolFailed(problem=str(error), held=len(self._held)))
                self.spool_problem = str(error) or type(error).__name__
                return
            self.spool_problem = ""
            del self._unspooled[: len(items)]
            self._unmarked += items

    async def _mark(self) -> None:
        """Note in Redis which jobs are answered: their leases outlive a restart of this process."""
        items, self._unmarked = self._unmarked, []
        try:
            await self._scripts.renew(list(map(_answered, items)))
        except BaseException:  # cancelled, too: without its mark a job is called again
            self._unmarked = items + self._unmarked
            raise

    async def _return_when_back(self) -> None:
        """Try the store, now and then, while it is away."""
        while True:
            await self._leaving.wait()
            pauses = waits(*BACKOFF_S)
            while not await self._returned():  # noqa: ASYNC110 - no event says that it is back
                await asyncio.sleep(next(pauses))

    async def _returned(self) -> bool:
        """Try the store once. An unexpected exception is reported and the next try comes later."""
        try:
            return await self._return()
        except Exception as error:  # noqa: BLE001 - claims stay stopped for ever without this loop
            self._emit(failed_loop("store", error, BACKOFF_S[1]))
            return False

    async def _return(self) -> bool:
        """Store what was left behind, then what is held; return whether that was all."""
        await self._write_spool()
        await self._mark()
        try:
            await self._store.probe()  # with nothing to store, nothing else would show it
            for orphan in self._spool.orphans():
                await self._drain(orphan)
            while self._held:
                group = self._held[:ROWS]
                await self._record(group)
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
        """Store and finish what a process that is gone had answers for.

        Groups that a try before has stored are not stored again: they would be counted twice.
        """
        before, read = self._drained.get(orphan.path, 0), 0
        with orphan:
            items = iter(orphan)
            while group := list(islice(items, ROWS)):
                read += len(group)
                endings: list[Answer] = []
                for item in group:
                    try:
                        endings.append(answer_of(item))
                    except Exception:  # noqa: BLE001 - its columns are another version's, or damaged
                        orphan.refuse(item)
                if read > before:
                    await self._record(endings)
                    self._drained[orphan.path] = read
        self._drained.pop(orphan.path, None)
        if orphan.damaged:
            self._emit(SpoolDamaged(file=str(orphan.aside), lines=orphan.damaged))

    def _arrive(self) -> None:
        """Note that everything is stored."""
        self.away, self.store_problem = False, ""
        self._leaving.clear()
        self._unspooled.clear()
        self._unmarked.clear()
        if self._away_since is not None:
            self._emit(StoreBack(after_s=time.monotonic() - self._away_since))
            self._away_since = None


async def _load_prices() -> None:
    """Read the price list in a thread, once the first calls are under way."""
    await asyncio.sleep(PRICES_S)
    await asyncio.to_thread(LIST.load)


def _answered(answer: Answer) -> Lease:
    job = answer.finish if isinstance(answer, Ending) else answer.release
    return Lease(id=job.id, token=job.token, queue=job.queue, lane="", answered=True)
