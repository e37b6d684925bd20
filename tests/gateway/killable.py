"""A gateway, a worker, Redis and PostgreSQL as processes that are killed and started again."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import asyncpg

from tests.gateway.batches.made import JSON, PATH
from tests.integration.shell import Endpoint, Process, Shell, simulated, until
from tests.postgres import Postgres, postgres
from tests.redis_servers import Server, free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Answer = tuple[int, Any]
"""Status and JSON of an answer."""
PARTS: Final = ("redis", "postgresql", "gateway", "worker")
"""In the order in which they are started."""


class Killable:
    """The processes of a deployment, and what the tests ask them."""

    def __init__(self, folder: Path, endpoint: Endpoint, store: Postgres, fsync: str) -> None:
        """Take the endpoint and the store, which run; `fsync` is Redis' appendfsync."""
        self.endpoint = endpoint
        self._folder = folder / "redis"
        self._options = ("--appendonly", "yes", "--appendfsync", fsync)
        self._port = free_port()
        self._redis: Server | None = None
        self._store = store
        self._shell = Shell(
            folder,
            base_url=endpoint.url,
            api_key="k",
            redis_url=f"redis://127.0.0.1:{self._port}/0",
            store_url=store.url,
            max_in_flight="10",
        )
        self._running: dict[str, tuple[AbstractContextManager[Process], Process]] = {}
        self.url = ""
        """Of the gateway."""

    def start(self, part: str) -> None:
        """Start one of PARTS."""
        match part:
            case "redis":
                self._redis = Server(self._folder, *self._options, port=self._port)
                wait_until(self._redis.answers)
            case "postgresql":
                self._store.start()
            case "worker":
                self._started(part, "worker")
            case _:
                process = self._started(part, "serve", "--insecure", "--port", "0")
                assert process.stdout is not None
                self.url = process.stdout.readline().split()[6]

    def _started(self, part: str, *command: str) -> Process:
        running = self._shell.started(*command)
        process = running.__enter__()
        self._running[part] = (running, process)
        return process

    def kill(self, part: str) -> None:
        """End one of PARTS, with its child processes, as `kill -9` does."""
        match part:
            case "redis":
                assert self._redis is not None
                self._redis.kill()
            case "postgresql":
                self._store.kill()
            case _:
                running, process = self._running.pop(part)
                pids = [process.pid, *self._shell.pids(part_module(part))]
                for pid in pids:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                running.__exit__(None, None, None)

    def close(self) -> None:
        """End what runs."""
        for part in tuple(self._running):
            self.kill(part)
        if self._redis is not None:
            self._redis.kill()

    def half_accepted(self) -> int:
        """Return how many requests are in the store whose batch is not."""
        query = (
            "SELECT count(*) FROM requests r WHERE NOT EXISTS "
            "(SELECT 1 FROM message_batches b WHERE b.batch = r.batch)"
        )

        async def look() -> int:
            connection = await asyncpg.connect(self._store.url)
            try:
                return int(await connection.fetchval(query))
            finally:
                await connection.close()

        return asyncio.run(look())

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send a request; the status is 0 when nothing answers."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        try:
            connection.request(method, path, body, {**JSON, **headers})
            return answer_of(connection)
        except (OSError, http.client.HTTPException):
            return 0, None
        finally:
            connection.close()

    def asked(self, path: str) -> Any:  # noqa: ANN401 - JSON
        """Return what a GET answers, once it is answered with 200."""
        found: list[Any] = []

        def look() -> bool:
            status, data = self.ask("GET", path)
            found.append(data)
            return status == 200

        until(look)
        return found[-1]

    def send_again(self, body: bytes) -> str:
        """Repeat a create as an SDK does, until it is answered; return the batch's id."""
        made: list[str] = []

        def create() -> bool:
            status, data = self.ask("POST", PATH, body, **{"x-stainless-retry-count": "1"})
            assert status in {0, 200, 529}, data
            made.extend([data["id"]] if status == 200 else [])
            return bool(made)

        until(create)
        return made[0]


def part_module(part: str) -> str:
    """Return a word of the command lines of a part's child processes."""
    return {"worker": "nightmill_worker", "gateway": "nightmill_gateway"}[part]


def answer_of(connection: http.client.HTTPConnection) -> Answer:
    """Read the answer to what was sent; results are a list of their lines."""
    answer = connection.getresponse()
    data = answer.read()
    if answer.headers["content-type"] == "application/x-jsonl":
        return answer.status, [json.loads(line) for line in data.splitlines()]
    return answer.status, json.loads(data)


@contextmanager
def killable(folder: Path, fsync: str) -> Iterator[Killable]:
    """Start everything; end it after the block."""
    with ExitStack() as stack:
        store = stack.enter_context(postgres())
        made = Killable(folder, stack.enter_context(simulated(folder)), store, fsync)
        stack.callback(made.close)
        for part in PARTS:
            if part != "postgresql":
                made.start(part)
        yield made
