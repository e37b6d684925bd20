"""One worker process: `python -m nightmill_worker.machine.process`, settings from the environment.

Started by a supervisor (with --supervised), it stops when the supervisor asks for it or is gone; a
SIGTERM or SIGINT is a graceful stop, however often it comes. Started otherwise, a second signal
stops it at once, and so does no more than a graceful stop the end of a pipe on standard input.
After every stop, and after a failure, a deadline ends the process whatever it waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import signal
import sys
import threading
from typing import TYPE_CHECKING, Final

import uvloop

from nightmill.errors import NightmillError, StoreUnavailableError
from nightmill.queue.connection import connect
from nightmill.settings import load_settings
from nightmill.store import ResultStore
from nightmill_worker.events import Event, Events, WorkerFailed
from nightmill_worker.fleet.worker import FleetWorker
from nightmill_worker.logs import log_events
from nightmill_worker.machine.control import SUPERVISED, Request, listen, report
from nightmill_worker.machine.deadline import FAILED, LAST_STEPS_S, Deadline
from nightmill_worker.machine.embedded import embedded_server
from nightmill_worker.machine.signals import StopSignals
from nightmill_worker.machine.supervisor import STORE_AWAY, UNUSABLE
from nightmill_worker.messages.client import MessagesClient

if TYPE_CHECKING:
    from nightmill.settings import Settings

END_S: Final = 10.0
"""Time that a process has to end after its last call, or after it failed, seconds."""
GC_THRESHOLDS: Final = (10_000, 50, 100)
SPARE_FILES: Final = 256
"""Descriptors in addition to one for each call in flight: Redis, the store, logs."""


def main(*, supervised: bool = False) -> int:
    """Run until stopped; return the exit code.

    0; FAILED when answers could not be saved; STORE_AWAY; UNUSABLE: settings or embedded server.
    """
    try:
        settings = load_settings()
        _require_saved(_run(settings, supervised=supervised))
    except NightmillError as error:
        sys.stderr.write(f"error: {error}\n")
        if supervised:
            report(error)
        return _exit_code(error)
    except Exception as error:
        if supervised:
            report(error)
        raise
    return 0


def _run(settings: Settings, *, supervised: bool) -> int:
    """Run a worker until stopped; return how many answers it could not save."""
    with contextlib.ExitStack() as servers:
        stopper = _Stopper(settings.grace_s, servers)
        listen(stopper.receive)
        if settings.redis_url is None:
            server = embedded_server(settings.data_dir, start=not supervised)
            url = servers.enter_context(server)
            settings = settings.model_copy(update={"redis_url": url})
        return uvloop.run(_work(settings, stopper, supervised=supervised))


class _UnsavedError(NightmillError):
    """Answers that are paid for are lost."""


def _require_saved(unsaved: int) -> None:
    if unsaved:
        raise _UnsavedError(
            f"{unsaved:,} answers are lost: neither the results store nor the spool took them; "
            "their jobs are called again when their leases end"
        )


def _exit_code(error: NightmillError) -> int:
    if isinstance(error, _UnsavedError):
        return FAILED
    return STORE_AWAY if isinstance(error, StoreUnavailableError) else UNUSABLE


async def _work(settings: Settings, stopper: _Stopper, *, supervised: bool) -> int:
    """Run a worker; return how many answers it could not save."""
    _raise_file_limit(settings.max_in_flight + SPARE_FILES)
    events = Events()
    events.subscribe(log_events(settings))
    events.subscribe(stopper.note_failure)
    redis = connect(settings)
    async with (
        contextlib.aclosing(redis),
        ResultStore.open(settings.store_at) as store,
        MessagesClient(settings) as client,
    ):
        worker = FleetWorker(settings, redis, store, client, events=events)
        _handle_signals(stopper, settings, supervised=supervised)
        stopper.attach(worker)
        _slow_garbage_collector()
        try:
            await worker.main()
        finally:
            stopper.note_end()
        return worker.unsaved


def _handle_signals(stopper: _Stopper, settings: Settings, *, supervised: bool) -> None:
    """Stop at SIGTERM and SIGINT.

    systemd sends SIGTERM to a supervisor and its workers at the same moment: for a worker it must
    not count as a second stop after the supervisor's own.
    """
    if not supervised:
        StopSignals(
            lambda: stopper.receive(Request.STOP),
            lambda: stopper.receive(Request.STOP_AT_ONCE),
            grace_s=settings.grace_s,
        ).install()
        return
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopper.receive, Request.STOP)


def _slow_garbage_collector() -> None:
    """Look for reference cycles seldom: a thousand calls in flight are many objects, but no cycles.

    Objects of the start are never looked at again. This saves a third of the CPU of a job
    (benchmarks `cpu`).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)


def _raise_file_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


class _Stopper:
    """Stops the worker, and sets the deadline for the end of its process."""

    def __init__(self, grace_s: float, servers: contextlib.ExitStack) -> None:
        """Take the grace period, and what to leave when the process must be ended."""
        self._grace_s = grace_s
        self._servers = servers
        self._deadline = Deadline(held=self._has_unsaved, last_steps=self._last_steps)
        self._lock = threading.Lock()
        self._requested = self._at_once = False
        self._worker: FleetWorker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def receive(self, request: Request) -> None:
        """Stop as `request` says; from any thread, also before there is a worker."""
        at_once = request is Request.STOP_AT_ONCE
        limit_s = END_S if at_once else self._grace_s + END_S
        self._deadline.set(limit_s, _REASONS[request], final=request is not Request.STOP)
        with self._lock:
            self._requested = True
            self._at_once = self._at_once or at_once
            loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # closed: the worker has ended
                loop.call_soon_threadsafe(self._apply)

    def attach(self, worker: FleetWorker) -> None:
        """Pass requests on to `worker`, also those that came before."""
        with self._lock:
            self._worker, self._loop = worker, asyncio.get_running_loop()
            requested = self._requested
        if requested:
            self._apply()

    def _apply(self) -> None:
        if self._worker is not None:
            self._worker.stop(at_once=self._at_once)

    def note_failure(self, event: Event) -> None:
        """Set the deadline when the worker fails: its tasks may not end."""
        if isinstance(event, WorkerFailed):
            self._deadline.set(END_S, "a failure", final=True)

    def note_end(self) -> None:
        """Set the deadline when the worker has ended: closing connections may not end."""
        self._deadline.set(END_S, "its worker", final=True)

    def _has_unsaved(self) -> bool:
        return self._worker is not None and self._worker.unsaved > 0

    def _last_steps(self) -> None:
        """Save the answers, if the event loop still runs, and leave the embedded server."""
        if self._worker is not None and self._loop is not None:
            saving = asyncio.run_coroutine_threadsafe(self._worker.save(), self._loop)
            with contextlib.suppress(Exception):  # also a loop that is closed or blocked
                saving.result(LAST_STEPS_S / 2)
        self._servers.close()


_REASONS: Final = {
    Request.STOP: "a stop",
    Request.STOP_AT_ONCE: "a stop at once",
    Request.GONE: "the end of its supervisor",
}


if __name__ == "__main__":
    sys.exit(main(supervised=SUPERVISED in sys.argv[1:]))
