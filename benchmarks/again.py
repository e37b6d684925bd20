"""What a finished batch costs later: the same run again, and the commands that look at it."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.table import Table
from nightmill import load_settings
from nightmill.enqueue.prepare import defaults_of
from nightmill.queue import keys
from nightmill.records.id_set import IdSet
from nightmill.records.job import request_hash
from nightmill.records.message import Message
from nightmill.records.result import Attempt, Result, Usage
from nightmill.records.state import JobState
from nightmill.sources import Line, Source, content_of, read_source
from nightmill.store import ResultStore
from nightmill.store.batches import StoredBatch

JOBS: Final = {True: 100_000, False: 1_000_000}
GROUP: Final = 1_000
BATCH: Final = "night"
STEPS: Final = (
    ("run again, new output", ("run", "night.jsonl", "-o", "out.jsonl")),
    ("run again, same output", ("run", "night.jsonl", "-o", "out.jsonl")),
    ("status", ("status", BATCH)),
    ("errors", ("errors", BATCH)),
    ("verify", ("verify", BATCH, "--source", "night.jsonl")),
    ("verify, no source", ("verify", BATCH)),
)
TEXT: Final = "All work and no play makes a long night. " * 20
MESSAGE: Final = Message(
    msgspec.json.encode(
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-opus-4-6",
            "content": [{"type": "text", "text": TEXT}],
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 20, "output_tokens": 200},
        }
    )
)


async def run_again(*, quick: bool) -> Table:
    """Store a finished batch, then run each command on it once."""
    jobs = JOBS[quick]
    with tempfile.TemporaryDirectory(prefix="nm-again-") as name:
        folder = Path(name)
        await _store(folder, jobs)
        rows = [_measure(folder, *step) for step in STEPS]
    return Table(
        title="again",
        what=f"Commands on a finished batch of {jobs:,} jobs, about 1.2 kB of answer each, in "
        "SQLite. The embedded server starts with each command.",
        heads=("command", "s", "CPU s", "exit code"),
        rows=tuple(rows),
    )


def _measure(folder: Path, name: str, words: tuple[str, ...]) -> tuple[str, ...]:
    before, began = _cpu_s(), time.perf_counter()
    env = {**os.environ, "NIGHTMILL_API_KEY": "k", "NIGHTMILL_BASE_URL": "http://127.0.0.1:9"}
    done = subprocess.run(  # noqa: S603 - this program's own commands
        [sys.executable, "-m", "nightmill", *words],
        cwd=folder,
        env=env,
        capture_output=True,
        check=False,
    )
    wall_s, cpu_s = time.perf_counter() - began, _cpu_s() - before
    return name, f"{wall_s:.1f}", f"{cpu_s:.1f}", str(done.returncode)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def _store(folder: Path, jobs: int) -> None:
    """Write the source, and the rows that a run of it leaves."""
    path = folder / f"{BATCH}.jsonl"
    with path.open("wb") as file:
        file.writelines(_request(number) for number in range(jobs))
    (folder / ".nightmill").mkdir(mode=0o700)
    ids, requests = IdSet(), IdSet()
    source, defaults = Source(location=str(path), allow_unknown=False), defaults_of(load_settings())
    lines = read_source(source, defaults)
    async with ResultStore.open(folder / ".nightmill" / "results.db") as store:
        group: list[Result] = []
        for line in lines:
            assert isinstance(line, Line)  # noqa: S101 - the source is written above
            row = _row(line)
            ids.add([row.job_id])
            requests.add([f"{row.job_id} {row.request_hash}"])
            group.append(row)
            if len(group) == GROUP:
                await store.record(group)
                group = []
        await store.record(group)
        known = StoredBatch(
            state="fed",
            total=jobs,
            source=str(ids),
            content=content_of(source, defaults),
            requests=str(requests),
        )
        await store.note(BATCH, known)


def _request(number: int) -> bytes:
    prompt = f"Tell me of night {number}. " + "All work and no play. " * 8
    params = {"max_tokens": 300, "messages": [{"role": "user", "content": prompt}]}
    return msgspec.json.encode({"custom_id": f"line-{number}", "params": params}) + b"\n"


def _row(line: Line) -> Result:
    return Result(
        job_id=keys.job_id(BATCH, line.custom_id),
        status=JobState.SUCCEEDED,
        batch=BATCH,
        custom_id=line.custom_id,
        seq=line.number,
        model="claude-opus-4-6",
        params=msgspec.Raw(line.body),
        message=MESSAGE,
        attempts=(Attempt(n=1, started_at=line.number, outcome="succeeded", status=200),),
        attempt_count=1,
        usage=Usage(input_tokens=20, output_tokens=200),
        cost=0.0051,
        stop_reason="end_turn",
        request_hash=request_hash(line.body),
        finished_at=1_764_400_000_000 + line.number,
    )
