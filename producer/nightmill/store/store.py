"""ResultStore: one row per job, terminal once per (job_id, run)."""

from __future__ import annotations

from contextlib import aclosing, asynccontextmanager
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Self

from nightmill.errors import StoreUnavailableError
from nightmill.records.id_set import IdSet
from nightmill.records.job import now_ms
from nightmill.records.state import TERMINAL, JobState
from nightmill.records.stop_reasons import tallied
from nightmill.store import batches, endings, report_rows, statements, turns
from nightmill.store.bounds import batch_key
from nightmill.store.connection import ANSWER_S
from nightmill.store.database import database
from nightmill.store.migrate import prepare
from nightmill.store.reduced import reduced

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Collection,
        Iterable,
        Sequence,
    )
    from pathlib import Path

    from nightmill.records.place import Place
    from nightmill.records.result import ErrorInfo, Result
    from nightmill.records.turn import Turn
    from nightmill.store.batches import ReadPage, StoredBatch
    from nightmill.store.connection import Database
    from nightmill.store.endings import Failed
    from nightmill.store.spending import Spent
    from nightmill.store.statements import Stored


SLOWEST_BYTES_S: Final = 1 << 20
"""A commit has ANSWER_S, and a second more for each so many bytes of its rows."""


class ResultStore:
    """Results in SQLite or PostgreSQL, for any number of processes at once.

    The batch "" means the single jobs. Every method raises StoreUnavailableError when the store is
    away, full, locked or read-only; so does every error that is unknown, once the store is open.
    StoreError means that the database refuses a row for a value in it.
    """

    def __init__(self, database: Database) -> None:
        """Use `database`, whose schema is ready: `connect` and `open` prepare it."""
        self._database = database

    def __repr__(self) -> str:
        """Name the store, without its password."""
        return f"<ResultStore {self._database.where}>"

    @classmethod
    async def connect(cls, where: str | Path) -> Self:
        """Return the store at `where`, which the first use makes; the caller closes it.

        `where` is a SQLite file's path, or a sqlite:// or postgresql:// URL. Raises
        StoreUnavailableError, StoreMissingError when a driver is not installed, and StoreError for
        what cannot work: no database, no permission, or one that a newer nightmill made.
        """
        store = database(where)
        try:
            await prepare(store)
        except BaseException:
            await store.close()
            raise
        store.opened = True
        return cls(store)

    @classmethod
    @asynccontextmanager
    async def open(cls, where: str | Path) -> AsyncIterator[Self]:
        """Connect to the store at `where`, and close it after the block; see `connect`."""
        store = await cls.connect(where)
        try:
            yield store
        finally:
            await store.close()

    @property
    def where(self) -> str:
        """Its URL, without the password; of a SQLite file with the whole path."""
        return self._database.where

    @property
    def database(self) -> Database:
        """The database, for other records than results: see access_keys.py."""
        return self._database

    async def identity(self) -> str:
        """Return the identity that the store got when it was made."""
        return await self._database.run(batches.identity, within_s=ANSWER_S)

    async def close(self) -> None:
        """Close every connection, after the work that has started."""
        await self._database.close()

    async def probe(self) -> None:
        """Begin a write, and change nothing. Raises when the store takes no rows now."""
        await self._database.run(statements.probe, write=True, within_s=ANSWER_S)

    async def record(self, group: Sequence[Result]) -> int:
        """Commit `group` in one transaction and return how many of its rows were stored.

        A row whose run, or a later one, is stored already is left out and not counted. A higher
        run replaces the row and keeps the attempts of the earlier runs in front of its own.
        """
        if not group:
            return 0
        work = partial(statements.record, group=group)
        within_s = ANSWER_S + _size(group) / SLOWEST_BYTES_S
        return await self._database.run(work, write=True, within_s=within_s)

    async def record_all(
        self, group: Sequence[Result], on_reduced: Callable[[Result, str], None] | None = None
    ) -> int:
        """Commit `group`, whatever its rows hold, and return how many of them were stored.

        A group that is refused is split until the bad row is alone. That row is stored reduced,
        after `on_reduced` was called with it and the reason. Raises StoreUnavailableError.
        """
        try:
            return await self.record(group)
        except StoreUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 - one row's value must not cost the others
            if len(group) > 1:
                half = len(group) // 2
                stored = await self.record_all(group[:half], on_reduced)
                return stored + await self.record_all(group[half:], on_reduced)
            problem = f"{type(error).__name__}: {error}"
        if on_reduced is not None:
            on_reduced(group[0], problem)
        return await self.record([reduced(group[0], problem)])

    async def record_turns(self, group: Sequence[Turn]) -> None:
        """Commit paid answers from which their jobs go on. A turn comes before its job's row."""
        await self._database.run(partial(turns.add, turns=group), write=True, within_s=ANSWER_S)

    async def turns(self, ids: Sequence[str]) -> dict[str, list[Turn]]:
        """Return job_id -> its turns in their order, for those of `ids` that have some."""
        return await self._database.run(partial(turns.read, ids=ids), within_s=ANSWER_S)

    async def abandon(self, group: Sequence[Turn]) -> None:
        """Delete turns from which their job does not go on; what they used stays spent."""
        work = partial(turns.abandon, turns=group)
        await self._database.run(work, write=True, within_s=ANSWER_S)

    async def started(self, ids: Sequence[str]) -> tuple[dict[str, int], set[str]]:
        """Return job_id -> run of its row, and those of `ids` that have turns."""
        if not ids:
            return {}, set()
        return await self._database.glance(partial(statements.started, ids=ids))

    async def lookup(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Return job_id -> what is stored, for those of `ids` that have a row."""
        if not ids:
            return {}
        return await self._database.glance(partial(statements.lookup, ids=ids))

    async def get(self, job_id: str) -> Result | None:
        """Return the result of `job_id`, None while it has no row."""
        return await self._database.run(partial(statements.get, job_id=job_id), within_s=ANSWER_S)

    async def stream_of(self, ids: Iterable[str]) -> AsyncIterator[Result]:
        """Yield the results of those job ids that have a row, in the order of `ids`."""
        each = iter(ids)
        while some := list(islice(each, statements.PAGE_ROWS)):
            for result in await self._database.run(partial(statements.among, ids=some)):
                yield result

    async def stream(
        self,
        batch: str,
        *,
        statuses: Collection[JobState] | None = None,
        ordered: bool = False,
        stop_reason: str | None = None,
    ) -> AsyncIterator[Result]:
        """Yield the results of `batch`; a page of them is in memory at a time.

        They come in the order of the source when `ordered`, else as they finished, and with only
        those `statuses` and that `stop_reason` unless it is None. Each page is a transaction: rows
        that are stored meanwhile may or may not be among them.
        """
        chosen = self.pages(batch, statuses=statuses, ordered=ordered, stop_reason=stop_reason)
        async with aclosing(chosen) as pages:
            async for page in pages:
                for result in page:
                    yield result

    async def pages(
        self,
        batch: str,
        *,
        after: Place | None = None,
        statuses: Collection[JobState] | None = None,
        ordered: bool = False,
        stop_reason: str | None = None,
    ) -> AsyncGenerator[list[Result], None]:
        """Yield what `stream` yields in lists, from behind the place `after` on."""
        while True:
            work = partial(
                statements.page, statuses=statuses, ordered=ordered, stop_reason=stop_reason
            )
            page, after = await self._database.run(partial(work, batch=batch, after=after))
            yield page
            if after is None:
                return

    async def counts(self, batch: str) -> dict[JobState, int]:
        """Return each terminal state's number of rows in `batch`, zeros included."""
        return (await self.counts_of([batch]))[batch]

    async def counts_of(self, batches: Sequence[str]) -> dict[str, dict[JobState, int]]:
        """Return batch -> what `counts` returns, in one query."""
        found = await self._database.run(partial(statements.counts, batches=batches))
        nothing = dict.fromkeys(sorted(TERMINAL), 0)
        return {name: found.get(batch_key(name)) or {**nothing} for name in batches}

    async def stops(self, batch: str) -> list[tuple[JobState, str | None, int, str]]:
        """Return how the rows of `batch` ended: status, stop reason, their number, one job's id."""
        return await self._database.run(partial(endings.stops, batch=batch))

    async def stop_reasons(self, batch: str) -> dict[str, int]:
        """Return stop reason -> number of rows of `batch`; see records.stop_reasons."""
        return tallied(each[:3] for each in await self.stops(batch))

    async def rate(self, batch: str, within_s: float) -> float:
        """Return how many jobs of `batch` ended a second, in the last `within_s` seconds or less.

        A batch that began later is measured from its first row of that time.
        """
        now = now_ms()
        since = now - int(within_s * 1000)
        number, first = await self._database.run(
            partial(statements.ended_since, batch=batch, since_ms=since)
        )
        return number / max(1.0, (now - max(since, first)) / 1000)

    async def ended_before(self, batch: str, at_ms: int) -> int:
        """Return the number of rows of `batch` that ended before `at_ms`, epoch ms."""
        rows = sum((await self.counts(batch)).values())
        since = partial(statements.ended_since, batch=batch, since_ms=at_ms)
        return rows - (await self._database.run(since))[0]

    async def state(self, batch: str) -> str:
        """Return a text that changes when a row of `batch` is stored, replaced or deleted."""
        return await self._database.run(partial(statements.state, batch=batch))

    async def spent(self, batch: str) -> Spent:
        """Return the tokens and the US dollars of `batch`, summed over its rows."""
        return await self._database.run(partial(statements.spent, batch=batch))

    async def batches(self) -> dict[str, dict[JobState, int]]:
        """Return every batch's counts, as `counts` gives them, sorted by name."""
        return await self._database.run(statements.counts)

    async def known(self, batch: str) -> StoredBatch | None:
        """Return what the store knows of `batch` as a whole, None when it was never fed."""
        found = await self._database.run(partial(batches.get, batch=batch), within_s=ANSWER_S)
        return next(iter(found.values()), None)

    async def all_known(self) -> dict[str, StoredBatch]:
        """Return what the store knows of every batch, by name."""
        return await self._database.run(partial(batches.get, batch=None))

    async def note(self, batch: str, known: StoredBatch) -> None:
        """Keep what is known of `batch` as a whole: Redis may lose it."""
        work = partial(batches.note, batch=batch, known=known)
        await self._database.run(work, write=True, within_s=ANSWER_S)

    async def forget(self, batch: str) -> None:
        """Forget `batch` as a whole; its rows stay."""
        await self._database.run(partial(batches.forget, batch=batch), write=True)

    async def ids(self, batch: str) -> IdSet:
        """Return the set of the job ids that have a row in `batch`."""
        return await self._set_of(batches.ids, batch)

    async def requests(self, batch: str) -> IdSet:
        """Return the set of the job ids of `batch` with the hashes of their requests."""
        return await self._set_of(batches.requests, batch)

    async def _set_of(self, read: ReadPage, batch: str) -> IdSet:
        found, after = IdSet(), None
        while True:
            some, after = await self._database.run(partial(read, batch=batch, after=after))
            found.add(some)
            if after is None:
                return found

    def errors(self, batch: str) -> AsyncGenerator[list[Failed], None]:
        """Yield pages of the errors of `batch`; where very many differ, an error comes again."""
        return endings.error_pages(self._database, batch)

    async def newest_failures(self, batch: str, number: int) -> list[tuple[int, str, ErrorInfo]]:
        """Return the newest failures of `batch`: end (epoch ms), job_id, error; see `endings`."""
        work = partial(endings.newest_failures, batch=batch, number=number)
        return await self._database.run(work, within_s=ANSWER_S)

    async def period(self, batch: str) -> tuple[int, int] | None:
        """Return when the first and the last row of `batch` ended, epoch ms; None without rows."""
        return await self._database.run(partial(report_rows.period, batch=batch))

    async def report_rows(self, batch: str) -> AsyncGenerator[Sequence[Sequence[Any]], None]:
        """Yield the small columns of all rows of `batch`, in pages; see report_rows.ReportRow."""
        after: tuple[int, str] | None = None
        while rows := await self._database.run(partial(report_rows.page, batch=batch, after=after)):
            yield rows
            after = rows[-1][0], rows[-1][1]

    async def lost(self, batch: str) -> tuple[int, float]:
        """Return how many calls of `batch` ended with their worker, and an estimate of their cost.

        A lost call is estimated at the cost of its job's row, US dollars.
        """
        return await self._database.run(partial(endings.lost, batch=batch))

    async def prune(self, batch: str | None = None, *, before_ms: int | None = None) -> int:
        """Delete the rows of `batch` (None: of all) that ended before `before_ms`; count them.

        `before_ms` is in epoch ms, None deletes all of them. The batch must not run: a job without
        its row is called and paid for again.
        """
        deleted = 0
        work = partial(statements.prune, batch=batch, before_ms=before_ms)
        while some := await self._database.run(work, write=True):
            deleted += some
        return deleted


def _size(group: Sequence[Result]) -> int:
    """Return about how many bytes the rows of `group` have: their messages and requests."""
    return sum(
        len(b"" if row.message is None else row.message.raw) + len(row.params or b"")
        for row in group
    )
