"""How long a run takes that was killed half-way, with all its processes, and started again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import aiohttp

from benchmarks.endpoint import Endpoint
from benchmarks.queues import until
from benchmarks.table import Table, times

JOBS: Final = {True: 200, False: 600}
SLOTS: Final = 40
CALL_S: Final = 1.0


async def run_crash(endpoint: Endpoint, *, quick: bool) -> Table:
    """Kill everything when half is answered; measure the same command, and a bare loop."""
    jobs = JOBS[quick]
    await endpoint.prepare(CALL_S)
    with tempfile.TemporaryDirectory(prefix="nm-crash-") as name:
        folder = Path(name)
        lines = (json.dumps({"prompt": f"number {n}", "max_tokens": 20}) for n in range(jobs))
        (folder / "night.jsonl").write_text("\n".join(lines))
        first = await _run(folder, endpoint.url)
        await until(lambda: _answered(endpoint, jobs // 2))
        _kill_all(folder)
        await first.wait()
        before = await endpoint.stats()
        began = time.perf_counter()
        code = await (await _run(folder, endpoint.url)).wait()
        took_s = time.perf_counter() - began
        calls = (await endpoint.stats()).totals.calls
        rows = len((folder / "night.results.jsonl").read_text().splitlines())
    if code or rows != jobs:
        raise RuntimeError(f"exit code {code}, {rows} of {jobs} results")
    left = calls - before.totals.calls
    bare_s = await _bare(endpoint.url, left)
    return Table(
        title="crash",
        what=f"kill -9 of supervisor, worker and server when {jobs // 2} of {jobs} calls of "
        f"{CALL_S:g} s were answered, {SLOTS} slots; then the same command. The bare loop makes "
        "the calls that were left. Calls beyond one a job were in flight, or not stored, at the "
        "kill.",
        heads=("second command s", "bare loop s", "x bare", "calls left", "calls beyond one a job"),
        rows=(
            (f"{took_s:.1f}", f"{bare_s:.1f}", times(took_s, bare_s), f"{left}", f"{calls - jobs}"),
        ),
    )


async def _answered(endpoint: Endpoint, calls: int) -> bool:
    return (await endpoint.stats()).totals.answered >= calls


async def _run(folder: Path, url: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "nightmill", "run", "night.jsonl"),
        cwd=folder,
        env=os.environ
        | {
            "NIGHTMILL_BASE_URL": url,
            "NIGHTMILL_API_KEY": "k",
            "NIGHTMILL_MAX_IN_FLIGHT": str(SLOTS),
        },
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def _bare(url: str, calls: int) -> float:
    """Return the seconds that a loop with as many slots takes for `calls`."""
    slots = asyncio.Semaphore(SLOTS)
    body = {"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"x-api-key": "k", "anthropic-version": "2023-06-01"}
    async with aiohttp.ClientSession(headers=headers, raise_for_status=True) as http:

        async def call() -> None:
            async with slots, http.post(f"{url}/v1/messages", json=body) as reply:
                await reply.read()

        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(calls)))
        return time.perf_counter() - began


def _kill_all(folder: Path) -> None:
    """Kill every process that works in `folder`, until there is none."""
    while pids := list(_pids(folder)):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _pids(folder: Path) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            known = (path / "cmdline").read_bytes() + str((path / "cwd").readlink()).encode()
            if str(folder).encode() in known and (path / "cmdline").read_bytes():
                yield int(path.name)
