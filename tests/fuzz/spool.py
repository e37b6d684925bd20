"""A spool file of a worker that is gone: good lines between odd ones."""

from __future__ import annotations

import json
import random
import zlib
from pathlib import Path
from typing import Any

from nightmill.queue import keys
from nightmill.records.result import Result
from nightmill.records.state import JobState
from nightmill.store.rows import to_row
from nightmill_worker.completion.spool import Spooled, _line
from nightmill_worker.queue.records import Finish
from tests.fuzz import odd

BATCH = "spooled"


def write_spool(folder: Path, rng: random.Random, lines: int) -> list[str]:
    """Write `lines` good and as many odd lines to a file of `folder`; return the good ids."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = [f"{BATCH}:{number}" for number in range(lines)]
    good = [_line(_spooled(job_id)) for job_id in ids]
    every = good + [_odd_line(rng, number) for number in range(lines)]
    rng.shuffle(every)
    (folder / "gone.jsonl").write_bytes(b"".join(every))
    return ids


def _spooled(job_id: str) -> Spooled:
    row = Result(
        job_id=job_id,
        status=JobState.SUCCEEDED,
        batch=BATCH,
        custom_id=job_id.partition(":")[2],
        model="m",
        finished_at=1_700_000_000_000,
    )
    finish = Finish(
        id=job_id,
        token="gone:1:1:1",  # noqa: S106 - of a lease
        queue=keys.batch_queue(BATCH, "m"),
        status="succeeded",
        again=0,
        input=1,
        output=1,
        cost=0,
        fault="",
        kept=b"",
    )
    return Spooled(row=to_row(row), finish=finish)


def _odd_line(rng: random.Random, number: int) -> bytes:
    line = _line(_spooled(f"odd-line:{number}"))
    if rng.random() < 0.25:
        return odd.damaged(rng, line).removesuffix(b"\n") + b"\n"  # the next line stays whole
    valid = json.loads(line.partition(b" ")[2])
    where = rng.random()
    changed: Any = valid
    if where < 0.6:
        valid["row"][rng.choice(list(valid["row"]))] = odd.value(rng)
    elif where < 0.75:
        valid["finish"][rng.choice(list(valid["finish"]))] = odd.value(rng)
    else:
        changed = odd.changed(rng, valid)
    body = odd.encoded(rng, changed)
    return b"%08x %b\n" % (zlib.crc32(body), body)
