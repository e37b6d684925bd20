"""A whole mill in one process: Valkey, simulator, store, producer, and as many workers as asked."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from redis import Redis as BlockingRedis

from nightmill import Producer, Settings, load_settings
from nightmill.queue.connection import connect
from nightmill.store import ResultStore
from nightmill_worker.events import Event, Events
from nightmill_worker.fleet.worker import FleetWorker
from nightmill_worker.messages.client import MessagesClient
from nightmill_worker.simulator import Simulator, SimulatorConfig

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.records.result import Result

E = TypeVar("E", bound=Event)
LATENCY_S = 0.02


def hello(text: str = "hello") -> dict[str, object]:
    """Return a request with one user message, `text`."""
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 50}


def emptied(redis_url: str) -> str:
    """Delete the data and scripts of a Redis, and return its URL."""
    with BlockingRedis.from_url(redis_url) as client:
        client.flushall()
        client.script_flush()
    return redis_url


async def until(true: Callable[[], object], *, within: float = 60) -> None:
    """Wait until `true` returns (or resolves to) a true value.

    Raises TimeoutError after `within` seconds.
    """
    async with asyncio.timeout(within):
        while True:
            found = true()
            if await found if inspect.isawaitable(found) else found:
                return
            await asyncio.sleep(0.01)


@dataclass
class Rig:
    """What a test of running workers needs."""

    settings: Settings
    redis: Redis
    store: ResultStore
    client: MessagesClient
    producer: Producer
    sim: Simulator
    events: list[Event] = field(default_factory=list)
    """The events of all workers, in the order they were emitted."""

    def worker(self, **changed: object) -> FleetWorker:
        """Return a worker that does not run yet; `changed` are settings that differ."""
        return self._worker(changed, burst=False)

    def _worker(self, changed: dict[str, object], *, burst: bool) -> FleetWorker:
        settings = self.settings.model_copy(update=changed)
        events = Events()
        events.subscribe(self.events.append)
        return FleetWorker(
            settings, self.redis, self.store, self.client, events=events, burst=burst
        )

    async def work_off(self) -> None:
        """Run a worker until nothing is queued."""
        async with asyncio.timeout(60):
            await self._worker({}, burst=True).main()

    @asynccontextmanager
    async def working(self, **changed: object) -> AsyncIterator[FleetWorker]:
        """Run a worker for the length of a block and stop it at the end."""
        worker = self.worker(**changed)
        running = asyncio.create_task(worker.main())
        try:
            yield worker
        finally:
            worker.stop(at_once=True)
            await running

    async def row(self, job_id: str) -> Result:
        """Wait for the stored row of a job."""
        await until(lambda: self.store.get(job_id))
        found = await self.store.get(job_id)
        assert found is not None
        return found

    def events_of(self, kind: type[E]) -> list[E]:
        """Return the events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]

    def calls(self) -> int:
        """Return how many calls the endpoint received."""
        return self.sim.ledger.totals.calls


@asynccontextmanager
async def rigged(
    redis_url: str, folder: Path, config: SimulatorConfig | None = None, **settings: object
) -> AsyncIterator[Rig]:
    """Start everything but workers."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        sim = await enter(Simulator(config or SimulatorConfig(latency_s=LATENCY_S)))
        needed = {"redis_url": redis_url, "data_dir": folder, "base_url": sim.url, "api_key": "k"}
        loaded = load_settings(**{**needed, "lease_s": 2, "grace_s": 2, "outage_s": 0, **settings})
        redis = connect(loaded)
        stack.push_async_callback(redis.aclose)
        yield Rig(
            settings=loaded,
            redis=redis,
            store=await enter(ResultStore.open(loaded.store_at)),
            client=await enter(MessagesClient(loaded)),
            producer=await enter(Producer(settings=loaded)),
            sim=sim,
        )
