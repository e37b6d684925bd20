"""A fleet of workers on a virtual clock: it claims, calls, settles and dies, event by event."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

import msgspec

from nightmill_worker.limiter.records import Caps
from tests.scenarios.lane import Job, Lane, Reservation, Settled
from tests.scenarios.server import Answer, Kind, Server

GOVERNOR_S = 0.1
CLAIM_GAP_S = 0.01
LOOK_S = 0.25
SETTLE_S = 0.005
LARGEST_CLAIM = 200
LEASE_S = 30.0
SNOOZE_S = 1.0
REPORT_S = 1.0
FIRST_BYTE_S = 0.5
FIRST_STREAMS = 4
BYTES_A_TOKEN = 1 / 0.3


class Worker(msgspec.Struct, kw_only=True):
    """One worker process: `held` are its calls in flight, `done` its answers to settle."""

    name: int
    slots: int
    alive: bool = True
    asking: float = -1.0
    held: set[str] = set()
    done: list[tuple[str, Reservation, Answer]] = []
    calls: int = 0
    told_at: float = -REPORT_S
    first_streams: int = FIRST_STREAMS


class Fleet:
    """Workers that share one lane, and call one server.

    `jobs` is how many jobs are queued; None means that the queue is never empty. Two fleets on one
    server stand for two lanes: two Redis servers with the same credential, or two models.
    """

    def __init__(  # noqa: PLR0913 - the parts of a scenario
        self,
        server: Server,
        rng: random.Random,
        *,
        kinds: tuple[Kind, ...],
        workers: int = 4,
        slots: int = 5000,
        jobs: int | None = None,
        caps: Caps | None = None,
        redis_s: float = 0.001,
        max_rate: float | None = None,
    ) -> None:
        """Take a server. `max_rate` is what the workers' CPUs can do, calls a second."""
        self.server, self.rng = server, rng
        self.lane = Lane(caps or Caps())
        self.kinds = {kind.batch: kind for kind in kinds}
        self.jobs = [
            Job(batch=k.batch, size=int(k.input_tokens * BYTES_A_TOKEN), max_tokens=k.max_tokens)
            for k in kinds
        ]
        self.claims = self.granted = 0
        self.stopped = False
        self.rests_until = 0.0
        self.workers = [Worker(name=n, slots=slots) for n in range(workers)]
        self.left = jobs
        self.redis_s, self.max_rate = redis_s, max_rate
        self.redis_back = self.skew = self.busy_until = 0.0
        self.now, self.turn = 0.0, 0
        self.events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self.due: list[float] = []
        self.ended: list[float] = []
        self.first_call = 0.0
        for worker in self.workers:
            self.at(0.002 * worker.name, self.ask, worker)
        self.at(GOVERNOR_S, self.govern)
        self.at(LEASE_S / 3, self.renew)

    def at(self, when: float, act: Callable[..., None], *args: object) -> None:
        """Have `act` called at `when`."""
        self.turn += 1
        heapq.heappush(self.events, (when, self.turn, act, args))

    def run(self, until: float) -> None:
        """Play until `until`, or until all jobs have ended."""
        while self.events and self.events[0][0] <= until:
            self.play()
            if self.left == 0 and not self.due and not any(w.held for w in self.workers):
                return
        self.now = until

    def play(self) -> None:
        """Let the next event happen."""
        self.now, _, act, args = heapq.heappop(self.events)
        act(*args)

    @property
    def clock(self) -> float:
        """Redis TIME: virtual time and the jumps of the clock."""
        return self.now + self.skew

    def govern(self) -> None:
        """Run the law unless Redis is away."""
        if self.now >= self.redis_back:
            self.lane.govern(self.clock, self.rng.random())
        self.at(self.now + GOVERNOR_S, self.govern)

    def renew(self) -> None:
        """Prolong the slots of workers that live."""
        if self.now >= self.redis_back:
            for worker in self.workers:
                self.lane.slots.update(dict.fromkeys(worker.held, self.clock + LEASE_S))
        self.at(self.now + LEASE_S / 3, self.renew)

    def ask(self, worker: Worker) -> None:
        """Claim once, and ask again later."""
        worker.asking = -1.0
        if not worker.alive:
            return
        if self.now < self.redis_back:
            self.wake(worker, LOOK_S)
            return
        want = min(worker.slots - len(worker.held), LARGEST_CLAIM, self.waiting())
        want = 0 if self.stopped or self.now < self.rests_until else want
        granted, wait = self.claim(want) if want else ([], LOOK_S)
        for slot, reservation in granted:
            self.take()
            worker.held.add(slot)
            worker.calls += 1
            away = self.redis_s + self.rng.uniform(0.002, 0.010) + self.cpu()
            self.at(self.now + away, self.arrive, worker, slot, reservation)
        leg = self.redis_s * self.rng.uniform(0.5, 1.5)
        self.wake(worker, max(CLAIM_GAP_S, min(wait, LOOK_S)) + leg)

    def claim(self, want: int) -> tuple[list[tuple[str, Reservation]], float]:
        """Grant up to `want` calls as claim.lua does, with the batches in a new order each time."""
        lane, now = self.lane, self.clock
        lane.open(now)
        self.claims += 1
        turn = self.claims % len(self.jobs)
        queues = self.jobs[turn:] + self.jobs[:turn]
        granted: list[tuple[str, Reservation]] = []
        wait, bound = 1.0, ""
        for place, job in enumerate(queues):
            share = want - len(granted) if place + 1 == len(queues) else -(-want // len(queues))
            for _ in range(share):
                guess = lane.guess(job)
                closed, left = lane.closed(guess, now)
                if closed:
                    wait, bound = min(wait, left), closed
                    break
                self.granted += 1
                slot = str(self.granted)
                granted.append((slot, lane.take(job, guess, slot, now, now + LEASE_S)))
        if bound in lane.bound:
            lane.bound[bound] += 1
        return granted, wait

    def cpu(self) -> float:
        """Return how long a call waits for the fleet's CPUs, seconds."""
        if self.max_rate is None:
            return 0.0
        self.busy_until = max(self.busy_until, self.now) + 1 / self.max_rate
        return self.busy_until - self.now

    def waiting(self) -> int:
        """Return how many jobs are due."""
        due = sum(1 for when in self.due if when <= self.now) if self.left is not None else 0
        return LARGEST_CLAIM if self.left is None else self.left + due

    def take(self) -> None:
        """Take a job from the queue, a snoozed one first."""
        if self.due and self.due[0] <= self.now:
            heapq.heappop(self.due)
        elif self.left is not None:
            self.left -= 1

    def wake(self, worker: Worker, wait: float) -> None:
        """Have the worker ask in `wait` seconds, unless it already asks earlier."""
        when = self.now + wait
        if worker.asking >= 0 and worker.asking <= when:
            return
        worker.asking = when
        self.at(when, self.ask_if, worker, when)

    def ask_if(self, worker: Worker, when: float) -> None:
        """Ask, unless another moment was set meanwhile."""
        if worker.asking == when:
            self.ask(worker)

    def arrive(self, worker: Worker, slot: str, reservation: Reservation) -> None:
        """Let a call arrive at the server."""
        self.first_call = self.first_call or self.now
        answer = self.server.call(self.now, self.kinds[reservation.job.batch])
        if answer.status == 200:
            quarter = answer.after / 4
            for part in range(1, 5):
                when = self.now + part * quarter
                self.at(when, self.server.generate, when, answer.output / 4)
            self.at(self.now + answer.after, self.leave, worker, slot, reservation, answer)
            begins = self.first_byte(worker)
            if begins is not None and answer.headers and begins < answer.after:
                self.at(self.now + begins, self.begin, worker, slot, reservation, answer)
        else:
            worker.first_streams = max(0, worker.first_streams - 1)
            self.at(self.now + answer.after, self.back, worker, slot, reservation, answer)

    def first_byte(self, worker: Worker) -> float | None:
        """Return when the headers of an accepted call arrive; None: when its answer is whole.

        The first call that a worker gets accepted is a stream, as in messages/streaming.py.
        """
        server = self.server.now
        if not (server.streams and worker.first_streams):
            return server.streams_after
        worker.first_streams = 0
        return min(FIRST_BYTE_S, server.streams_after or FIRST_BYTE_S)

    def begin(self, worker: Worker, slot: str, reservation: Reservation, answer: Answer) -> None:
        """Let the headers of an answer arrive. A worker passes them on once in REPORT_S."""
        if worker.alive and self.now - worker.told_at >= REPORT_S and self.now >= self.redis_back:
            worker.told_at = self.now
            item = settled(slot, reservation, answer)
            begun = msgspec.structs.replace(item, outcome="begun", latency=0.0)
            self.at(self.now + SETTLE_S + self.redis_s, self.follow, begun)

    def follow(self, item: Settled) -> None:
        """Bring headers to the lane."""
        self.lane.settle(self.clock, [item])

    def leave(self, worker: Worker, slot: str, reservation: Reservation, answer: Answer) -> None:
        """End an admitted call at the server."""
        self.server.done(self.now, answer)
        self.back(worker, slot, reservation, answer)

    def back(self, worker: Worker, slot: str, reservation: Reservation, answer: Answer) -> None:
        """Bring an answer to its worker, which settles several answers together."""
        if not worker.alive:
            return
        if not worker.done:
            wait = self.rng.uniform(0.002, 0.010) + SETTLE_S + self.redis_s
            self.at(self.now + wait, self.settle, worker)
        worker.done.append((slot, reservation, answer))

    def settle(self, worker: Worker) -> None:
        """Settle the answers. Refused and failed jobs go back to the queue."""
        if not worker.alive:
            return
        if self.now < self.redis_back:
            self.at(self.redis_back + 0.05, self.settle, worker)
            return
        done, worker.done = worker.done, []
        self.lane.settle(self.clock, [settled(*each) for each in done])
        for slot, _, answer in done:
            worker.held.discard(slot)
            self.stopped |= answer.stops
            if answer.status == 200:
                self.ended.append(self.now)
            else:
                self.snooze()
        self.wake(worker, CLAIM_GAP_S)

    def snooze(self) -> None:
        """Put a job back, due in about a second."""
        wait = SNOOZE_S * self.rng.uniform(0.5, 1.5)
        if self.left is not None:
            heapq.heappush(self.due, self.now + wait)

    def kill(self, name: int) -> None:
        """End a worker as kill -9 does. Its slots are free when its leases end."""
        worker = self.workers[name]
        worker.alive = False
        if self.left is not None:
            self.left += len(worker.held)
        worker.held = set()


OUTCOMES = {200: "ok", 429: "refused"}


def settled(slot: str, reservation: Reservation, answer: Answer) -> Settled:
    """Return what a worker settles for an answer."""
    return Settled(
        slot=slot,
        reservation=reservation,
        outcome="stop" if answer.stops else OUTCOMES.get(answer.status, "failed"),
        latency=answer.after,  # measured by the worker, so jumps of Redis TIME do not matter
        input=answer.input,
        output=answer.output,
        reported=answer.headers or {},
        gate=answer.gate,
        retry_after=answer.retry_after,
    )


def together(fleets: list[Fleet], until: float) -> None:
    """Play fleets that share a server until `until`, their events in the order of time."""
    while True:
        due = [f for f in fleets if f.events and f.events[0][0] <= until]
        if not due:
            break
        min(due, key=lambda f: f.events[0][0]).play()
    for fleet in fleets:
        fleet.now = until
