"""Passes events on to the subscribers that are installed: entry points of `nightmill.events`.

Each has a thread and a queue of its own. So one that raises or hangs holds up no job, and not the
others either; what it does not take in time is left out, and counted.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from nightmill import events as public
from nightmill.records.job import now_ms
from nightmill_worker import events

if TYPE_CHECKING:
    from nightmill_worker.events import Emit, Event, Events

Subscriber = Callable[[public.Event], object]
HELD: Final = 1000
"""Events that wait for one subscriber, at most."""
LAST_S: Final = 1.0
"""Time that a subscriber has at the end for the events that wait, seconds."""
REPORT_S: Final = 60.0
"""Between two reports of a subscriber that fails, seconds."""


def published(event: Event) -> public.Event | None:
    """Return the public event of an event; None: subscribers do not get it."""
    make = _PUBLIC.get(type(event))
    return None if make is None else make(event)


def _same(kind: type[public.Event], **fixed: str) -> Callable[[Event], public.Event]:
    """Return the function that makes a `kind` of the fields of the same names."""
    names = [name for name in kind.__struct_fields__ if name not in {"at", *fixed}]

    def make(event: Event) -> public.Event:
        given: dict[str, object] = {name: getattr(event, name) for name in names}
        return kind(at=now_ms(), **fixed, **given)

    return make


_PUBLIC: Final[Mapping[type[Event], Callable[[Event], public.Event]]] = {
    events.WorkerStarted: _same(public.WorkerStarted),
    events.WorkerStopped: _same(public.WorkerStopped),
    events.JobsFinished: _same(public.JobsEnded),
    events.CallRefused: _same(public.CallRefused),
    events.CallFailed: _same(public.CallFailed),
    events.JobQuarantined: _same(public.JobQuarantined),
    events.AccountStopped: _same(public.AccountStopped),
    events.LaneStopped: _same(public.LaneStopped),
    events.RedisAway: _same(public.ServiceAway, service="redis"),
    events.RedisBack: _same(public.ServiceBack, service="redis"),
    events.StoreAway: _same(public.ServiceAway, service="store"),
    events.StoreBack: _same(public.ServiceBack, service="store"),
}


@contextmanager
def subscribed(sources: Events) -> Iterator[None]:
    """Pass the events of `sources` on for the length of the block, in a running loop.

    One that cannot be loaded is an event, too.
    """
    found: list[_Passing] = []
    for entry in entry_points(group=public.GROUP):
        try:
            found.append(_Passing(entry.name, entry.load(), _reporting(sources.emit)))
        except Exception as error:  # noqa: BLE001 - another package's fault must end no worker
            problem = f"{type(error).__name__}: {error}"
            sources.emit(events.SubscriberFailed(subscriber=entry.name, problem=problem, lost=0))
    for each in found:
        sources.subscribe(each.put)
    try:
        yield
    finally:
        until = time.monotonic() + LAST_S
        for each in found:
            each.end(until)


def _reporting(emit: Emit) -> Emit:
    """Return `emit` for other threads."""
    loop = asyncio.get_running_loop()

    def report(event: Event) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(emit, event)

    return report


class _Passing:
    """The thread and the queue of one subscriber."""

    def __init__(self, name: str, subscriber: Subscriber, report: Emit) -> None:
        """Start its thread, which does not keep the process from ending."""
        self._name, self._subscriber, self._report = name, subscriber, report
        self._waiting: queue.Queue[public.Event | None] = queue.Queue(HELD)
        self._lost = 0
        self._reported_at = -REPORT_S
        self._thread = threading.Thread(target=self._run, name=f"events-{name}", daemon=True)
        self._thread.start()

    def put(self, event: Event) -> None:
        """Let the subscriber have an event, unless too many wait for it."""
        if (found := published(event)) is None:
            return
        try:
            self._waiting.put_nowait(found)
        except queue.Full:
            self._lost += 1
            self._failed(f"it is slow: {HELD:,} events wait for it")

    def end(self, until: float) -> None:
        """Let it have the events that wait, until then (monotonic seconds)."""
        try:
            self._waiting.put_nowait(None)
        except queue.Full:
            return
        self._thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        while (event := self._waiting.get()) is not None:
            try:
                self._subscriber(event)
            except BaseException as error:  # noqa: BLE001 - also SystemExit: the next one goes on
                self._failed(f"{type(error).__name__}: {error}")

    def _failed(self, problem: str) -> None:
        """Report it, now and then: a subscriber may fail at each of a million events."""
        if time.monotonic() - self._reported_at < REPORT_S:
            return
        self._reported_at = time.monotonic()
        failed = events.SubscriberFailed(subscriber=self._name, problem=problem, lost=self._lost)
        self._report(failed)
