"""A run in a terminal: endpoint, workers, progress, closing summary, exit code."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from nightmill.cli.live import Live, around
from nightmill.cli.terminal import echo
from nightmill.enqueue.changes import Changed
from nightmill.enqueue.prepare import defaults_of
from nightmill.errors import NightmillError, SourceError
from nightmill.export import export
from nightmill.export.unchanged import export_once
from nightmill.queue.connection import connect
from nightmill.records.acceptance import Accepted
from nightmill.records.counts import Counts
from nightmill.records.limits import Change
from nightmill.reports.panel import panel_of
from nightmill.reports.progress import Progress, counted
from nightmill.safety import private
from nightmill.settings import Settings
from nightmill.sources import Summary, read_checked
from nightmill.store import ResultStore
from nightmill_worker.cli import closing_said as closing
from nightmill_worker.cli.closing import advice
from nightmill_worker.cli.redis_rights import warnings
from nightmill_worker.machine.local_run import End, Ending, LocalRun
from nightmill_worker.machine.serving import serving_redis
from nightmill_worker.machine.signals import StopSignals
from nightmill_worker.machine.supervisor import Supervisor

if TYPE_CHECKING:
    from nightmill.reports.around import Around
    from nightmill_worker.simulator import SimulatorConfig

SOME_FAILED: Final = 1
UNCLEAN: Final = 1
"""Exit code of a run that ended early when a worker did not stop cleanly."""
EXIT_CODES: Final = {End.STOPPED: 3, End.INTERRUPTED: 130}
LOG: Final = "worker.log"
KIND: Final = len("trouble: Redis is away: ")
"""Characters of a trouble that tell its kind; a new kind is shown at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The options of a run; `simulator` is None unless it is a rehearsal."""

    batch: str
    out: Path
    processes: int
    changed: Changed | None
    limits: Change
    accepted: Accepted
    on_complete: str | None
    simulator: SimulatorConfig | None
    redis: Future[Settings]
    """The Redis, which starts."""


async def run_plan(settings: Settings, checked: Summary, plan: Plan) -> int:
    """Run the lines of a checked file, export the results; return the exit code."""
    async with _endpoint(settings, plan.simulator) as reached:
        ending, unclean = await _run(reached, checked, plan)
        # Messages go to stderr: stdout may be the results file.
        if ending.fed.cut_short:
            not_fed = checked.jobs - ending.fed.total
            echo(f"{ending.counts.state}: {not_fed:,} lines were not fed", err=True)
        away = await _written(reached, checked, plan, ending)
        closing.say_why(await closing.read_why(reached.store_at, plan.batch, ending.counts))
    closing.say_advice([*unclean, *advice(ending, plan.batch, clean=not unclean)])
    if away is not None:
        raise away
    return _exit_code(ending, clean=not unclean)


async def _written(
    reached: Settings, checked: Summary, plan: Plan, ending: Ending
) -> NightmillError | None:
    """Write the results and say where they are; return what went wrong, to be printed last.

    What to do next is printed first, whatever happens to the file or the store.
    """
    if ending.end is End.INTERRUPTED:
        closing.say_output(f"{plan.out} is not written: the results are kept in the store")
        return None
    try:
        written = await _export(reached, checked, plan, whole=ending.end is End.DONE)
    except NightmillError as error:
        return error
    closing.say_output(f"{counted(written, 'result')} in {plan.out}")
    return None


async def _run(reached: Settings, checked: Summary, plan: Plan) -> tuple[Ending, list[str]]:
    """Run the batch and print a summary; return how it ended, and which workers ended uncleanly."""
    defaults = defaults_of(reached)
    async with serving_redis(reached, plan.redis) as served:
        for warning in await warnings(served):
            echo(warning, err=True)
        with _log(served) as log, Live() as live:
            workers = Supervisor(reached, plan.processes, log=log)
            local = LocalRun(
                workers,
                served,
                plan.batch,
                plan.changed,
                plan.limits,
                accepted=plan.accepted,
                on_complete=plan.on_complete,
                content=checked.content,
            )
            StopSignals(
                local.interrupt,
                lambda: local.interrupt(at_once=True),
                grace_s=reached.grace_s,
                calls=lambda: local.in_flight,
            ).install()
            started = time.monotonic()
            shown = _Shown(live, plan.batch, workers)
            async with (
                contextlib.aclosing(connect(served)) as redis,
                around(live, redis, served, plan.batch) as shown.beside,
            ):
                ending = await local.run(lambda: read_checked(checked, defaults), shown.counts)
            took_s = time.monotonic() - started
    rehearsal = plan.simulator is not None
    closing.say_summary(ending, plan.batch, took_s, shown.refused, rehearsal=rehearsal)
    ends = (f"a worker did not stop cleanly ({end}): see {log.name}" for end in workers.unclean)
    return ending, list(ends)


@contextlib.asynccontextmanager
async def _endpoint(
    settings: Settings, simulator: SimulatorConfig | None
) -> AsyncIterator[Settings]:
    """Yield the settings with the endpoint to call: a simulator's, if there is one, or as given."""
    if simulator is None:
        yield settings
        return
    from nightmill_worker.simulator import Simulator  # noqa: PLC0415 - only for a rehearsal

    async with Simulator(simulator) as running:
        known = {name: getattr(settings, name) for name in settings.model_fields_set}
        credential = {"api_key": "simulated", "auth_token": None}
        yield settings.model_validate({**known, **credential, "base_url": running.url})


@contextlib.contextmanager
def _log(settings: Settings) -> Iterator[IO[bytes]]:
    """Yield the file of the workers' log: the terminal shows the progress."""
    path = settings.data_dir / LOG
    try:
        log = open(path, "ab", opener=private.opener)  # noqa: SIM115 - its name is the path
    except OSError as error:
        raise private.unusable(path, error) from None
    with log:
        yield log


class _Shown:
    """Turns counts into the panel."""

    def __init__(self, live: Live, batch: str, workers: Supervisor) -> None:
        self._live = live
        self._batch = batch
        self._workers = workers
        self._progress: Progress | None = None
        self._noted: set[str] = set()

        self.beside: Around | None = None

    @property
    def refused(self) -> int:
        return self._progress.refused if self._progress else 0

    def counts(self, counts: Counts, troubles: Sequence[str]) -> None:
        now = time.monotonic()
        if self._progress is None:
            self._progress = Progress(counts, now)
        self._progress.add(counts, now)
        crash = [str(self._workers.crash)] if self._workers.crash else []
        notes = [*crash, *troubles]
        kinds = {note[:KIND] for note in notes}
        news = not kinds <= self._noted
        self._noted = kinds
        panel = panel_of(self._batch, self._progress, tuple(notes))
        self._live.show(self.beside.added(panel) if self.beside else panel, now, at_once=news)


async def _export(settings: Settings, checked: Summary, plan: Plan, *, whole: bool) -> int:
    """Write the results of the source's ids; return how many were written.

    The batch may have rows of another source, or of other ids of this one. When it has none, and
    the `whole` source has rows, the source need not be read again.
    """
    async with ResultStore.open(settings.store_at) as store:
        ids = None
        rows = sum((await store.counts(plan.batch)).values())
        if not whole or rows != checked.jobs:
            lines = read_checked(checked, defaults_of(settings))
            ids = (line.custom_id for line in lines)
        try:
            if ids is None:
                return await export_once(store, plan.batch, plan.out, settings.data_dir)
            return await export(store, plan.batch, plan.out, ids=ids)
        except OSError as error:
            raise SourceError(f"{plan.out}: cannot be written: {error.strerror}") from None


def _exit_code(ending: Ending, *, clean: bool) -> int:
    """Return the exit code; `clean`: all workers stopped cleanly, so no answer is lost."""
    if ending.end in EXIT_CODES:
        return EXIT_CODES[ending.end] if clean else UNCLEAN
    counts = ending.counts
    return SOME_FAILED if counts.failed or counts.cancelled or counts.expired else 0
