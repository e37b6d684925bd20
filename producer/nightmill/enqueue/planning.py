"""Decides what is to be done with the lines of a source: enqueued, replaced, or nothing. No I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nightmill.enqueue.changes import differs
from nightmill.enqueue.prepare import Ready, ready_line
from nightmill.enqueue.unfinished import Replacement
from nightmill.queue import keys
from nightmill.records.job import is_rehearsal, now_ms

if TYPE_CHECKING:
    from nightmill.enqueue.changes import Changed, Changes
    from nightmill.enqueue.unfinished import Unfinished
    from nightmill.sources import Line
    from nightmill.store import Stored


class Chunk(NamedTuple):
    """What is to be done with the lines that were read together."""

    lines: list[Line]
    jobs: list[Ready]
    replacements: list[tuple[Line, Replacement]]
    waiting: int
    """How many lines have their job in Redis already, with this request or as `keep` leaves it."""
    changed: int


class Planner:
    """Plans for the lines of one batch."""

    def __init__(self, batch: str, changed: Changed | None, *, looked_up: bool) -> None:
        """Take what to do with changed requests; `looked_up`: the store was asked for rows."""
        self._batch = batch
        self._rerun = changed == "rerun"
        self._rehearsal = is_rehearsal(batch)
        self._looked_up = looked_up

    def plan(
        self,
        lines: list[Line],
        found: dict[str, Stored],
        waiting: dict[str, Unfinished],
        changes: Changes,
    ) -> Chunk:
        """Decide what is to be done with `lines`; add those that changed to `changes`.

        `found` are the rows of their ids, `waiting` the jobs that have not ended: such a job
        decides before the row, which it will replace.
        """
        at, before = now_ms(), len(changes)
        jobs: list[Ready] = []
        replacements: list[tuple[Line, Replacement]] = []
        same = 0
        for line in lines:
            stored, job = self._has(line, found, waiting)
            changed = self.differs(line, stored, job)
            if changed:
                changes.add(line, stored, job)
            rerun = changed and self._rerun
            if job is not None and rerun:
                replacements.append((line, self._replacement(line, stored, job, at)))
            elif job is not None:
                same += 1
            elif stored is None or rerun:
                jobs.append(ready_line(line, self._batch, at, stored, looked_up=self._looked_up))
        return Chunk(lines, jobs, replacements, same, len(changes) - before)

    def compare(
        self,
        lines: list[Line],
        found: dict[str, Stored],
        waiting: dict[str, Unfinished],
        changes: Changes,
    ) -> None:
        """Only add those of `lines` that changed to `changes`: no job is encoded."""
        for line in lines:
            stored, job = self._has(line, found, waiting)
            if self.differs(line, stored, job):
                changes.add(line, stored, job)

    def differs(self, line: Line, stored: Stored | None, job: Unfinished | None = None) -> bool:
        """Tell whether the line's job, or without one its stored row, has another request."""
        return differs(line, stored, job, rehearsal=self._rehearsal, rerun=self._rerun)

    def _has(
        self, line: Line, found: dict[str, Stored], waiting: dict[str, Unfinished]
    ) -> tuple[Stored | None, Unfinished | None]:
        """Return the row and the unfinished job of the line's id."""
        job_id = keys.job_id(self._batch, line.custom_id)
        return found.get(job_id), waiting.get(job_id)

    def _replacement(
        self, line: Line, stored: Stored | None, job: Unfinished, at: int
    ) -> Replacement:
        """Return the new request of a job. When its row answers that one, it is not called again.

        It is a run after both: the row of the old run may be committed at any moment.
        """
        run = max(job.run, stored.run if stored else 0) + 1
        row = None if stored is None or self.differs(line, stored) else stored
        return Replacement(ready_line(line, self._batch, at, run=run), row)
