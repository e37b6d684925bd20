"""Recognises a source that was fed whole before and has all its rows: it need not be read again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightmill.enqueue.estimate import Estimating, to_text
from nightmill.queue import keys
from nightmill.records.id_set import IdSet
from nightmill.records.job import is_rehearsal, request_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill.sources import Line
    from nightmill.store import ResultStore
    from nightmill.store.batches import StoredBatch


class FedWhole:
    """What one pass over a source feeds, beside what the store knows of earlier passes."""

    def __init__(self, batch: str, content: str | None) -> None:
        """Take the source's content_of; None: it has none, and is always read."""
        self._batch = batch
        self._rehearsal = is_rehearsal(batch)
        self.content = content
        self.requests = IdSet()
        """The job ids of the lines, with the hashes of their requests."""
        self._estimating = Estimating()

    @property
    def facts(self) -> tuple[str | None, str | None, str]:
        """`content`, `requests` and `estimate` of a StoredBatch."""
        requests = None if self.content is None else str(self.requests)
        return self.content, requests, to_text(self._estimating.sums())

    def begin(self) -> None:
        """Begin a pass."""
        self.requests = IdSet()
        self._estimating = Estimating()

    def add(self, lines: Sequence[Line]) -> None:
        """Add lines that are fed."""
        self._estimating.add(lines)
        if self.content is not None:
            self.requests.add(
                f"{keys.job_id(self._batch, line.custom_id)} "
                f"{request_hash(line.body, line.api, rehearsal=self._rehearsal)}"
                for line in lines
            )

    async def stored(self, store: ResultStore | None) -> StoredBatch | None:
        """Return what is known of the batch if the rows in `store` are exactly those of the source.

        They answer the same requests. Only rows that ended are there, so call it while no job of
        the batch is in Redis.
        """
        if store is None or self.content is None:
            return None
        known = await store.known(self._batch)
        if known is None or known.content != self.content or not known.requests:
            return None
        same = str(await store.requests(self._batch)) == known.requests
        return known if same else None
