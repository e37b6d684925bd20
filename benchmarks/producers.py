"""nightmill as a producer: enqueue from Python and from a file, and feed a checked file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec

from benchmarks.usage import Meter
from benchmarks.work import BATCH, Work, requests
from nightmill import Producer
from nightmill.cli.session import open_session
from nightmill.enqueue.feeder import Feeder
from nightmill.enqueue.prepare import CHUNK, Ready, ready_line
from nightmill.settings import Settings, load_settings
from nightmill.sources import Rejected, check_source, read_checked, read_source, source_of

SOURCE = "source.jsonl"
"""File in the data directory that `feed_file` feeds."""


def settings_of(work: Work) -> Settings:
    """Return the settings of a worker or a producer for `work`."""
    return load_settings(
        redis_url=work.redis_url,
        data_dir=work.data_dir,
        base_url=work.base_url,
        api_key="bench",
        max_in_flight=work.slots,
    )


async def enqueue_from_python(work: Work, meter: Meter) -> None:
    """Enqueue dicts into a batch with enqueue_many."""
    prompts = requests(work)
    async with Producer(settings=settings_of(work)) as producer:
        await meter.started()
        await producer.enqueue_many(
            ({"custom_id": f"line-{i}", "params": params} for i, params in enumerate(prompts)),
            batch=BATCH,
        )


async def enqueue_from_file(work: Work, meter: Meter) -> None:
    """Enqueue a JSONL file: read, check and prepare it line by line."""
    path = Path(work.data_dir) / "prompts.jsonl"
    with path.open("wb") as file:
        for i, params in enumerate(requests(work)):
            file.write(msgspec.json.encode({"custom_id": f"line-{i}", "params": params}) + b"\n")
    async with Producer(settings=settings_of(work)) as producer:
        await meter.started()
        jobs = _jobs_of(path, producer)
        while chunk := list(islice(jobs, CHUNK)):
            await producer.send(chunk)


async def feed_file(work: Work, meter: Meter) -> None:
    """Check all of SOURCE, then feed it through the window, as `nightmill enqueue` does."""
    settings = settings_of(work)
    source, ids = source_of(Path(work.data_dir) / SOURCE), Path(work.data_dir) / "ids.db"
    async with open_session(settings) as session:
        defaults = session.producer.defaults
        async with Feeder(BATCH, session.producer, session.batches, session.store) as feeder:
            await meter.started()
            checked = check_source(source, defaults, ids=ids)
            meter.checked()
            await feeder.feed(read_checked(checked, defaults))


def _jobs_of(path: Path, producer: Producer) -> Iterator[Ready]:
    for line in read_source(source_of(path), producer.defaults):
        if isinstance(line, Rejected):
            raise line.error
        yield ready_line(line, BATCH, time.time_ns() // 1_000_000)
