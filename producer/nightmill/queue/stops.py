"""What is stopped or held: accounts and lanes, and the batches whose jobs wait for that.

A batch is stopped when no running worker can call any of its queued jobs: for each of their models,
the account or the lane is stopped. An account that no worker uses any more stops nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from nightmill.queue import keys
from nightmill.queue.connection import redis_errors
from nightmill.queue.live_workers import LiveWorker, live
from nightmill.records.counts import text

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.records.counts import Counts


RESUME: Final = "run `nightmill resume`"
"""How the reasons of stopped accounts and lanes name the command that tries them again."""


class HeldLane(msgspec.Struct, frozen=True, kw_only=True):
    """A lane whose jobs wait, or are tried one at a time."""

    account: str
    model: str
    state: Literal["held", "stopped"]
    reason: str
    only: frozenset[str] | None = None
    """Jobs that stopped it, when there was no other job: the next other one is its trial."""

    def stops(self, batch: str, jobs: int) -> bool:
        """Tell whether none of the `jobs` that `batch` has in this lane can be called."""
        if self.state != "stopped":
            return False
        own = sum(name.startswith(f"{batch}:") for name in self.only or ())
        return self.only is None or jobs <= own

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"lane {self.model} is {self.state}: {self.reason}"


class Stops(msgspec.Struct, frozen=True, kw_only=True):
    """All that is stopped or held at one moment."""

    accounts: dict[str, str] = {}
    """Stopped account -> why."""
    lanes: tuple[HeldLane, ...] = ()
    known: frozenset[str] = frozenset()
    """All accounts that jobs were ever claimed with."""
    workers: tuple[LiveWorker, ...] = ()
    """The workers that run now."""
    models: dict[str, dict[str, int]] = {}
    """Batch -> the models of its queued jobs -> how many there are."""

    def usable(self, batch: str, also: Collection[str] = ()) -> frozenset[str]:
        """Return the accounts that the jobs of `batch` may be called with.

        These are those of the running workers and `also`; without any, all that are known.
        """
        workers = self.serving(batch)
        if any(worker.account is None for worker in workers):
            return self.known
        return frozenset(also).union(w.account for w in workers if w.account) or self.known

    def serving(self, batch: str) -> tuple[LiveWorker, ...]:
        """Return the workers that run now and claim jobs of `batch`."""
        return tuple(worker for worker in self.workers if worker.serves(batch))

    def no_worker(self, batch: str, counts: Counts) -> bool:
        """Tell whether a worker has work in `batch`, but none that runs would do it.

        Jobs of a batch that ended get their rows from workers, too.
        """
        left = counts.waiting or counts.in_flight
        return bool(left) and not counts.held and not self.serving(batch)

    def reason(self, batch: str, also: Collection[str] = ()) -> str:
        """Return why none of the queued jobs of `batch` can be called, "" when one can."""
        reason, accounts = "", sorted(self.usable(batch, also))
        models = self.models.get(batch) or {"": 0}  # those of single jobs are not known here
        lanes = [lane for lane in self.lanes if lane.stops(batch, models.get(lane.model, 0))]
        stopped = {(lane.account, lane.model): str(lane) for lane in lanes}
        for model in models:
            for account in accounts:
                found = self.accounts.get(account) or stopped.get((account, model))
                if found is None:
                    return ""
                reason = reason or found
        return reason

    def held(self, batch: str, also: Collection[str] = ()) -> tuple[HeldLane, ...]:
        """Return the held and stopped lanes that queued jobs of `batch` wait for."""
        accounts, models = self.usable(batch, also), self.models.get(batch, {})
        return tuple(
            lane
            for lane in self.lanes
            if lane.account in accounts and (lane.model in models or batch == keys.SINGLES)
        )

    def shown(self, batch: str, counts: Counts, also: Collection[str] = ()) -> list[str]:
        """Return one line for each thing that holds `batch` up, for its progress."""
        if not counts.waiting:
            return []
        if reason := self.reason(batch, also):
            return [f"stopped: {reason}"]
        return [str(lane) for lane in self.held(batch, also)]


class _Hold(msgspec.Struct):
    """The part of a lane's JSON that is read here; account.lua describes it."""

    state: Literal["held", "stopped", "passed"]
    reason: str
    fresh: float = 1
    jobs: dict[str, object] | list[object] = {}


_hold = msgspec.json.Decoder(_Hold)


async def read_stops(redis: Redis, batches: Sequence[str]) -> Stops:
    """Return what is stopped, with the queued models of `batches`.

    Raises QueueUnavailableError.
    """
    with redis_errors():
        async with redis.pipeline(transaction=False) as pipe:
            pipe.execute_command("TIME")
            pipe.execute_command("SMEMBERS", keys.LANES)
            pipe.execute_command("HGETALL", keys.WORKERS)
            for batch in batches:
                pipe.execute_command("SMEMBERS", keys.QUEUES_OF + batch)
            (seconds, _), lanes, workers, *queues_of = await pipe.execute()
        names = sorted({lane.partition(b":")[0] for lane in lanes})
        pairs = zip(batches, queues_of, strict=True)
        queues = [(batch, queue) for batch, found in pairs for queue in found]
        async with redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.execute_command("HMGET", keys.ACCOUNT.encode() + name, "state", "reason")
                pipe.execute_command("HGETALL", keys.HELD.encode() + name)
            for _, queue in queues:
                pipe.execute_command("ZCARD", queue)
            found = await pipe.execute()
    of_accounts, sizes = found[: 2 * len(names)], found[2 * len(names) :]
    states = zip(names, of_accounts[::2], strict=True)
    holds = zip(names, of_accounts[1::2], strict=True)
    return Stops(
        accounts={
            text(name): text(reason or b"")
            for name, (state, reason) in states
            if state == b"stopped"
        },
        lanes=tuple(lane for name, held in holds for lane in _lanes(name, held)),
        known=frozenset(map(text, names)),
        workers=live(workers, int(seconds)),
        models=_models(queues, sizes),
    )


def _lanes(account: bytes, holds: dict[bytes, bytes]) -> Iterator[HeldLane]:
    for model, raw in sorted(holds.items()):
        try:
            hold = _hold.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        if hold.state != "passed":
            yield HeldLane(
                account=text(account),
                model=text(model),
                state=hold.state,
                reason=hold.reason,
                only=None if hold.fresh else frozenset(map(str, hold.jobs)),
            )


def _models(queues: Sequence[tuple[str, bytes]], sizes: Sequence[int]) -> dict[str, dict[str, int]]:
    models: dict[str, dict[str, int]] = {}
    for (batch, queue), size in zip(queues, sizes, strict=True):
        if size:
            model = text(queue).removeprefix(keys.batch_queue(batch, ""))
            models.setdefault(batch, {})[model] = size
    return {batch: dict(sorted(of.items())) for batch, of in models.items()}
