"""The sink: commit results in groups, and only then take their jobs out of Redis."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.errors import StoreUnavailableError
from nightmill_worker.batcher import Batcher
from nightmill_worker.engine import Finish
from nightmill_worker.events import FinishRefused, JobFinished, StoreAway, StoreBack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nightmill.result import Result
    from nightmill.store import ResultStore
    from nightmill_worker.engine import Engine
    from nightmill_worker.events import Emit

LINGER_S: Final = 0.05
ROWS: Final = 500
BACKOFF_S: Final = (0.1, 5.0)


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """A job's end: its row (None when the row is stored already) and its finish."""

    row: Result | None
    finish: Finish


class Sink:
    """Group commit, then finish. Holds what a store that is away cannot take yet."""

    def __init__(
        self, store: ResultStore, engine: Engine, emit: Emit, done: Callable[[str], None]
    ) -> None:
        """Take the store, the engine, where events go, and whom to tell that a job is out."""
        self._store = store
        self._engine = engine
        self._emit = emit
        self._done = done
        self._batcher: Batcher[Ending] = Batcher(self._commit, linger_s=LINGER_S, limit=ROWS)
        self.away = False
        self.refused_rows = 0

    def put(self, ending: Ending) -> None:
        """Take a job's end; its row is committed within LINGER_S or ROWS rows."""
        self._batcher.put(ending)

    async def run(self) -> None:
        """Commit until `close`, then what is left."""
        await self._batcher.run()

    def close(self) -> None:
        """Make `run` return once nothing is left."""
        self._batcher.close()

    async def _commit(self, endings: list[Ending]) -> None:
        rows = [ending.row for ending in endings if ending.row is not None]
        if rows:
            self.refused_rows += len(rows) - await self._record(rows)
        late = await self._engine.finish([ending.finish for ending in endings])
        for ending in endings:
            job_id = ending.finish.id
            self._done(job_id)
            if job_id in late:
                self._emit(FinishRefused(job_id=job_id))
            else:
                calls = ending.row.attempt_count + ending.row.snooze_count if ending.row else 0
                self._emit(JobFinished(job_id=job_id, status=ending.finish.status, calls=calls))

    async def _record(self, rows: Sequence[Result]) -> int:
        """Commit rows, waiting out a store that is away; returns how many were new."""
        wait, longest = BACKOFF_S
        since = time.monotonic()
        while True:
            try:
                new = await self._store.record(rows)
            except StoreUnavailableError as error:
                if not self.away:
                    self.away = True
                    self._emit(StoreAway(problem=str(error)))
                await asyncio.sleep(wait)
                wait = min(wait * 2, longest)
            else:
                if self.away:
                    self.away = False
                    self._emit(StoreBack(after_s=time.monotonic() - since))
                return new
