"""Checks that a store of one's own does what nightmill needs: docs/plug-points.md."""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from nightmill.errors import NightmillError
from nightmill.records.message import Message
from nightmill.records.message_batch import MessageBatch, StoredRequest, new_id
from nightmill.records.result import Result
from nightmill.records.state import JobState
from nightmill.store import ResultStore, StoredBatch
from nightmill.store.message_batches import MessageBatches

AT: Final = 1_700_000_000_000
ROWS: Final = 1_200
"""More than a page."""
WRITERS: Final = 8
HARD: Final = "\N{SNOWMAN} \N{GRINNING FACE} \\ ' \" % :name ? \t\n" + "x" * 100_000
"""A text that a driver may spoil."""


async def check_store(url: str) -> None:
    """Check the store at `url`, which must be empty; it has rows afterwards.

    Raises AssertionError that names the first check that fails, and what the store raises.
    """
    for check in (_rows, _runs, _texts, _pages, _writers, _batches, _requests, _refusals):
        async with ResultStore.open(url) as store:
            try:
                await check(store)
            except AssertionError as error:
                name = check.__name__.removeprefix("_")
                raise AssertionError(f"{name}: {error}") from error
    async with ResultStore.open(url) as first, ResultStore.open(url) as second:
        assert await first.identity() == await second.identity(), "the identity must stay"
        assert await second.get("rows:1") is not None, "rows must be there after a new start"


def row(job_id: str, batch: str, **changed: object) -> Result:
    """Return a row."""
    base = Result(
        job_id=job_id,
        status=JobState.SUCCEEDED,
        batch=batch,
        custom_id=job_id.partition(":")[2],
        seq=1,
        model="m",
        params=msgspec.Raw(b'{"model":"m"}'),
        message=Message(b'{"content":[]}'),
        request_hash="0" * 16,
        enqueued_at=AT,
        finished_at=AT,
        cost=0.5,
    )
    return msgspec.structs.replace(base, **changed)


async def _rows(store: ResultStore) -> None:
    """A row comes back as it was stored, once."""
    given = row("rows:1", "rows")
    assert await store.record([given]) == 1, "a new row is counted"
    assert await store.record([given]) == 0, "the same row again is not"
    found = await store.get("rows:1")
    assert found is not None, "it must come back"
    assert found.params == given.params, "it must come back as it was"
    assert (await store.counts("rows"))[JobState.SUCCEEDED] == 1, "counts"
    assert (await store.spent("rows")).cost == given.cost, "what was spent"
    assert await store.get("rows:2") is None, "no row"


async def _runs(store: ResultStore) -> None:
    """A higher run replaces the row, a lower one does not."""
    await store.record([row("runs:1", "runs", run=1)])
    await store.record([row("runs:1", "runs", run=2, status=JobState.FAILED)])
    assert await store.record([row("runs:1", "runs")]) == 0, "a lower run must be left out"
    found = await store.get("runs:1")
    assert found is not None, "the row must stay"
    assert (found.run, found.status) == (2, JobState.FAILED), "the higher run must win"


async def _texts(store: ResultStore) -> None:
    """Any text comes back unchanged."""
    raw = msgspec.json.encode({"text": HARD})
    await store.record([row("texts:1", "texts", message=Message(raw), params=msgspec.Raw(raw))])
    found = await store.get("texts:1")
    assert found is not None, "the row must be there"
    assert bytes(found.params or b"") == raw, "params"
    assert found.message is not None, "message"
    assert bytes(found.message) == raw, "message"


async def _pages(store: ResultStore) -> None:
    """A batch of several pages is read in its order, and pruned."""
    rows = [row(f"pages:{n}", "pages", seq=n, finished_at=AT + n % 7) for n in range(1, ROWS + 1)]
    assert await store.record(rows) == ROWS, "all rows of a commit"
    read = [each.seq async for each in store.stream("pages", ordered=True)]
    assert read == list(range(1, ROWS + 1)), "the order of the source"
    assert len([each async for each in store.stream("pages")]) == ROWS, "the order of their ends"
    assert len(await store.lookup([each.job_id for each in rows])) == ROWS, "look-up"
    assert await store.prune("pages") == ROWS, "prune"
    assert sum((await store.counts("pages")).values()) == 0, "nothing must be left"


async def _writers(store: ResultStore) -> None:
    """Writers at once store each row once."""
    rows = [row(f"writers:{n}", "writers", seq=n) for n in range(200)]
    stored = await asyncio.gather(*(store.record(rows) for _ in range(WRITERS)))
    assert sum(stored) == len(rows), "each row must be counted by one writer"
    assert (await store.counts("writers"))[JobState.SUCCEEDED] == len(rows), "counts"


async def _batches(store: ResultStore) -> None:
    """What is known of a batch stays."""
    known = StoredBatch(state="fed", total=7)
    await store.note("known", known)
    assert await store.known("known") == known, "what is noted"
    await store.forget("known")
    assert await store.known("known") is None, "what is forgotten"


async def _requests(store: ResultStore) -> None:
    """A Message Batch is there with one commit, and its requests are copied into rows."""
    batches, name = MessageBatches(store), new_id(AT)
    requests = [
        StoredRequest(seq=n, custom_id=f"c{n}", model="m", body=b'{"n":%d}' % n)
        for n in range(1, ROWS + 1)
    ]
    await batches.stage(name, requests)
    assert await batches.get("t", name) is None, "staged requests are no batch"
    new = MessageBatch(batch=name, tenant="t", total=ROWS, created_at=AT, expires_at=AT)
    await batches.add(new, named_since=name)
    assert await batches.get("t", name) == new, "the batch"
    pages = [page async for page in batches.requests(name)]
    assert [each for page in pages for each in page] == requests, "its requests, in order"
    await batches.drop(name)
    assert not [page async for page in batches.requests(name)], "they must be removed"


async def _refusals(store: ResultStore) -> None:
    """A value that cannot be stored is refused, and keeps no other row from being stored."""
    bad = row("refused:1", "refused", custom_id="\0 \ud800")
    try:
        await store.record_all([row("refused:2", "refused"), bad])
    except NightmillError as error:
        raise AssertionError(f"a bad value must be stored reduced: {error}") from None
    assert await store.get("refused:2") is not None, "the good row must be stored"
    assert sum((await store.counts("refused")).values()) == 2, "the bad one, reduced"
