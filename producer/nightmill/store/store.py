"""ResultStore: one row per job, terminal once per (job_id, run)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Self

from nightmill.records.state import TERMINAL, JobState
from nightmill.store import statements
from nightmill.store.database import database
from nightmill.store.migrate import prepare

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Sequence
    from pathlib import Path

    from nightmill.records.result import ErrorInfo, Result
    from nightmill.store.database import Database
    from nightmill.store.statements import Spent, Stored


class ResultStore:
    """Results in SQLite or PostgreSQL, for any number of processes at once.

    A batch named "" means the single jobs. Every method raises StoreUnavailableError when the
    store is away, full, locked or read-only, and StoreError for what else the database refuses.
    """

    def __init__(self, database: Database) -> None:
        """Use `database`, whose schema is ready; `connect` and `open` see to that."""
        self._database = database

    def __repr__(self) -> str:
        """Name the store, without its password."""
        return f"<ResultStore {self._database.where}>"

    @classmethod
    async def connect(cls, where: str | Path) -> Self:
        """Return the store at `where`, made on first use; the caller closes it.

        `where` is a SQLite file's path, or a sqlite:// or postgresql:// URL. Raises StoreError
        also when a newer nightmill made it, StoreMissingError when a driver is not installed.
        """
        store = database(where)
        try:
            await prepare(store)
        except BaseException:
            await store.close()
            raise
        return cls(store)

    @classmethod
    @asynccontextmanager
    async def open(cls, where: str | Path) -> AsyncIterator[Self]:
        """Connect to the store at `where` for the length of a block; see `connect`."""
        store = await cls.connect(where)
        try:
            yield store
        finally:
            await store.close()

    async def close(self) -> None:
        """Close every connection, after the work that is under way."""
        await self._database.close()

    async def probe(self) -> None:
        """Return if the store takes writes now: it begins one, and changes nothing."""
        await self._database.run(lambda _: None, write=True)

    async def record(self, group: Sequence[Result]) -> int:
        """Commit `group` in one transaction and return how many of its rows were taken.

        A row whose run, or a later one, is stored already is refused and not counted; a higher
        run replaces the row and keeps the attempts of the earlier ones in front of its own.
        """
        if not group:
            return 0
        return await self._database.run(partial(statements.record, group=group), write=True)

    async def lookup(self, ids: Sequence[str]) -> dict[str, Stored]:
        """Return job_id -> what is stored, for those of `ids` that are."""
        if not ids:
            return {}
        return await self._database.glance(partial(statements.lookup, ids=ids))

    async def get(self, job_id: str) -> Result | None:
        """Return the result of `job_id`, None while it has none."""
        return await self._database.run(partial(statements.get, job_id=job_id))

    async def stream(
        self,
        batch: str,
        *,
        statuses: Collection[JobState] | None = None,
        ordered: bool = False,
    ) -> AsyncIterator[Result]:
        """Yield the results of `batch`, a page in memory at a time, no transaction in between.

        They come in the order of the source when `ordered`, else as they finished; only those of
        `statuses` when given. Rows stored meanwhile may or may not be seen.
        """
        last: Result | None = None
        while True:
            page = await self._database.run(
                partial(
                    statements.page, batch=batch, after=last, statuses=statuses, ordered=ordered
                )
            )
            for result in page:
                yield result
            if len(page) < statements.PAGE_ROWS:
                return
            last = page[-1]

    async def counts(self, batch: str) -> dict[JobState, int]:
        """Return each terminal state's number of rows in `batch`, zeros included."""
        found = await self._database.run(partial(statements.counts, batch=batch))
        return found.get(batch) or dict.fromkeys(sorted(TERMINAL), 0)

    async def spent(self, batch: str) -> Spent:
        """Return the tokens and the US dollars of `batch`, summed over its rows."""
        return await self._database.run(partial(statements.spent, batch=batch))

    async def batches(self) -> dict[str, dict[JobState, int]]:
        """Return every batch's counts, as `counts` gives them, sorted by name."""
        return await self._database.run(statements.counts)

    async def errors(self, batch: str) -> list[tuple[ErrorInfo, int, str]]:
        """Return the different errors of `batch`, how often each, and a job it happened to."""
        return await self._database.run(partial(statements.errors, batch=batch))

    async def lost(self, batch: str) -> tuple[int, float]:
        """Return how many calls of `batch` ended with their worker, and about what they cost.

        Dollars: a lost call counts as much as the call that its job's row was stored for.
        """
        return await self._database.run(partial(statements.lost, batch=batch))

    async def prune(self, batch: str | None = None, *, before_ms: int | None = None) -> int:
        """Delete the rows of `batch` (None: of all) that ended before `before_ms`; count them.

        Not for a batch that still runs: a job without its row is paid for again.
        """
        deleted = 0
        work = partial(statements.prune, batch=batch, before_ms=before_ms)
        while some := await self._database.run(work, write=True):
            deleted += some
        return deleted
