"""One worker process: `python -m nightmill_worker.machine.process`, settings from the environment.

Started by a supervisor (with --supervised), it stops when the supervisor asks for it or is gone; a
SIGTERM or SIGINT is a graceful stop, however often it comes. Started otherwise, a second signal
stops it at once, and so does no more than a graceful stop the end of a pipe on standard input.
After every stop, and after a failure, a deadline ends the process whatever it waits for.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # imports make no garbage, and looking for it took a tenth of their time

import asyncio
import contextlib
import os
import resource
import signal
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Final

import uvloop

from nightmill.errors import NightmillError, StoreMismatchError, StoreUnavailableError
from nightmill.metrics.serving import counting
from nightmill.queue.connection import connect
from nightmill.safety.logger import libraries_logged, load_structlog
from nightmill.safety.redaction import Secrets
from nightmill.safety.streams import guard_streams
from nightmill.safety.visible import visible
from nightmill.settings import load_settings, settings_from_parent
from nightmill.store import ResultStore
from nightmill_worker.events import Event, Events, TelemetryMissing, WorkerFailed
from nightmill_worker.fleet.worker import FleetWorker
from nightmill_worker.logs import log_events
from nightmill_worker.machine.ahead import SUPERVISED
from nightmill_worker.machine.control import (
    STORE_AWAY,
    UNUSABLE,
    Report,
    Request,
    describe,
    listen,
    receive_settings,
    send,
)
from nightmill_worker.machine.deadline import FAILED, LAST_STEPS_S, Deadline
from nightmill_worker.machine.embedded import embedded_server
from nightmill_worker.machine.pulse import beating
from nightmill_worker.machine.signals import StopSignals
from nightmill_worker.messages.client import MessagesClient
from nightmill_worker.queue.lua_source import source
from nightmill_worker.queue.scripts import NAMES, RedisUnusableError
from nightmill_worker.subscribers import subscribed

if TYPE_CHECKING:
    from nightmill.settings import Settings
    from nightmill_worker.metrics.telemetry import Telemetry

END_S: Final = 10.0
"""Time that a process has to end after its last call, or after it failed, seconds."""
GC_THRESHOLDS: Final = (10_000, 50, 100)
REFUSED: Final = (RedisUnusableError, StoreMismatchError)
"""Errors that another start would meet again, also after a worker has run."""
SPARE_FILES: Final = 256
"""Descriptors in addition to one for each call in flight: Redis, the store, logs."""


def main(*, supervised: bool = False) -> int:
    """Run until stopped; return the exit code.

    0; STORE_AWAY or UNUSABLE (settings, embedded server) when it cannot start; FAILED when it
    raised later, or when answers are lost.
    """
    guard_streams()
    if supervised:
        _prepare()
        variables = receive_settings()
        if variables is None:
            return 0
        os.environ.update(variables)
    secrets = Secrets.of_environment()
    stopper = _Stopper(supervised=supervised)
    try:
        settings = settings_from_parent() if supervised else load_settings()
        secrets = Secrets.of(settings)
        _run(settings, stopper, supervised=supervised)
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends this process
        known = isinstance(error, NightmillError | ImportError)
        text = f"error: {error}\n" if known else "".join(traceback.format_exception(error))
        sys.stderr.write(visible(secrets.hidden(text)))
        if supervised:
            lost = isinstance(error, _AnswersLostError)
            send(Report(problem=secrets.hidden(describe(error)), lost=lost))
        started = stopper.has_worker and not isinstance(error, REFUSED)
        return FAILED if started else _start_failure(error)
    return 0


def _prepare() -> None:
    """Do what needs no settings, while those are on their way: 0.02 s."""
    load_structlog()
    for name in NAMES:
        source(name)


def _start_failure(error: Exception) -> int:
    """Return the exit code of a process that cannot start."""
    if isinstance(error, StoreUnavailableError):
        return STORE_AWAY
    return UNUSABLE if isinstance(error, NightmillError | ImportError) else FAILED


def _run(settings: Settings, stopper: _Stopper, *, supervised: bool) -> None:
    """Run a worker until it is stopped. Raises when answers are lost."""
    with contextlib.ExitStack() as servers:
        stopper.begin(settings.grace_s, servers)
        servers.enter_context(libraries_logged(settings))
        embedded = settings.redis_url is None
        if embedded:
            server = embedded_server(settings.data_dir, start=not supervised)
            url = servers.enter_context(server)
            settings = settings.model_copy(update={"redis_url": url})
        uvloop.run(_work(settings, stopper, supervised=supervised, embedded=embedded))


class _AnswersLostError(NightmillError):
    """Neither the results store nor the spool took some answers."""

    def __init__(self, answers: int) -> None:
        """Take how many answers are lost."""
        super().__init__(
            f"{answers:,} answers are lost: neither the results store nor the spool took them; "
            "their jobs are called again when their leases end"
        )


async def _work(settings: Settings, stopper: _Stopper, *, supervised: bool, embedded: bool) -> None:
    """Run a worker until it is stopped. Raises when answers are lost."""
    _raise_file_limit(settings.max_in_flight + SPARE_FILES)
    events = Events()
    events.subscribe(log_events(settings))
    events.subscribe(stopper.note_failure)
    if counting():
        from nightmill_worker.metrics.counters import Counters  # noqa: PLC0415 - off costs nothing

        events.subscribe(Counters().listen)
    telemetry = _telemetry(settings, events)
    if telemetry is not None:
        events.subscribe(telemetry.listen)
    redis = connect(settings)
    async with (
        contextlib.aclosing(redis),
        beating(settings.data_dir, "worker"),
        ResultStore.open(settings.store_at) as store,
        MessagesClient(settings) as client,
    ):
        worker = FleetWorker(settings, redis, store, client, events=events, embedded=embedded)
        _handle_signals(stopper, settings, supervised=supervised)
        stopper.attach(worker)
        _slow_garbage_collector()
        try:
            with subscribed(events):
                await worker.main()
        finally:
            if telemetry is not None:
                await telemetry.close()
            stopper.note_end()
            if worker.unsaved:
                raise _AnswersLostError(worker.unsaved)


def _telemetry(settings: Settings, events: Events) -> Telemetry | None:
    """Return what sends spans and metrics by OpenTelemetry, None when no OTEL_* asks for it."""
    if not any(name.startswith("OTEL_") for name in os.environ):
        return None
    from nightmill_worker.metrics import telemetry  # noqa: PLC0415 - off costs nothing

    if not telemetry.asked_for():
        return None
    if not telemetry.installed():
        events.emit(TelemetryMissing(fix="pip install 'nightmill[otel]', or unset OTEL_EXPORTER_*"))
        return None
    return telemetry.Telemetry.to_exporters(settings.endpoint)


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
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    gc.enable()


def _raise_file_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


class _Stopper:
    """Stops the worker, and sets the deadline for the end of its process."""

    def __init__(self, *, supervised: bool) -> None:
        """Start without a worker."""
        self._supervised = supervised
        self._grace_s = 0.0
        self._servers = contextlib.ExitStack()
        self._deadline = Deadline(held=self._has_unsaved, last_steps=self._last_steps)
        self._lock = threading.Lock()
        self._requested = self._at_once = False
        self._problem = "this process did not end in time"
        self._worker: FleetWorker | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def begin(self, grace_s: float, servers: contextlib.ExitStack) -> None:
        """Take requests from standard input from now on.

        Takes the grace period in seconds, and what to leave when the process must be ended.
        """
        self._grace_s, self._servers = grace_s, servers
        listen(self.receive)

    @property
    def has_worker(self) -> bool:
        """Whether a worker was started: settings, Redis URL and store are good."""
        return self._worker is not None

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
            self._problem = event.problem
            self._deadline.set(END_S, "a failure", final=True)

    def note_end(self) -> None:
        """Set the deadline when the worker has ended: closing connections may not end."""
        self._deadline.set(END_S, "its worker", final=True)

    def _has_unsaved(self) -> bool:
        return self._worker is not None and self._worker.unsaved > 0

    def _last_steps(self) -> None:
        """Save the answers, if the event loop still runs, report, and leave the embedded server."""
        saved = True
        if self._worker is not None and self._loop is not None:
            saving = asyncio.run_coroutine_threadsafe(self._worker.save(), self._loop)
            try:
                saving.result(LAST_STEPS_S / 2)
                saved = not self._worker.unsaved
            except Exception:  # noqa: BLE001 - also a loop that is closed or blocked
                saved = False
        if self._supervised:
            send(Report(problem=self._problem, lost=not saved))
        self._servers.close()


_REASONS: Final = {
    Request.STOP: "a stop",
    Request.STOP_AT_ONCE: "a stop at once",
    Request.GONE: "the end of its supervisor",
}


if __name__ == "__main__":
    code = main(supervised=SUPERVISED in sys.argv[1:])
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)  # all is closed; to free every module takes as long as a short call
