"""Isolation: a job under which two workers died runs in a process of its own, while others go on.

The worker keeps the job's lease and stores its answer; the isolation process decodes the job, reads
its files and makes the call. When that process dies, the job did it: it runs there alone.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from nightmill.errors import NightmillError
from nightmill.records.acceptance import to_text
from nightmill.records.result import ErrorInfo
from nightmill_worker.child import ENDED, Child, give, how_ended, take
from nightmill_worker.messages.outcome import Broken, Fail, Reply, Retry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nightmill.params import Defaults
    from nightmill.settings import Settings
    from nightmill_worker.jobs.claimed_job import ClaimedJob
    from nightmill_worker.jobs.decision import Decider, Decision

COMMAND: tuple[str, ...] = (sys.executable, "-m", "nightmill_worker.jobs.isolated")
DIED: Final = "process_died"
"""Error type of an attempt during which the isolation process died."""
PROCESSES: Final = 4
"""Isolation processes of one worker, at most; so many jobs run isolated at once."""
STARTS: Final = 3
"""How many processes a job is given to that end before they have it."""
PROOF: Final = 3
"""A job is poison after so many deaths of the isolation process."""


class IsolationError(NightmillError):
    """The isolation process does not start."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One job to run. `stored_run` is the run that has a row, -1 for none."""

    job_id: str
    payload: bytes
    stored_run: int
    claimed_at: int
    accept: str = ""
    turns: bytes = b"[]"


class Isolated(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it: `value` is the Reply, Broken, Fail or Retry; b"" for the other kinds.

    `unfit`: the job needs no call (invalid, expired); `stored`: its row is there already.
    `away`: the store is, which has its request; `deleted`: its request was deleted.
    """

    kind: Literal["reply", "broken", "fail", "retry", "unfit", "stored", "away", "deleted"]
    value: bytes = b""
    body: bytes = b""
    """Its request, when that was in the store."""


_isolated: Final = msgspec.msgpack.Decoder(Isolated)
_VALUES: Final = {"reply": Reply, "broken": Broken, "fail": Fail, "retry": Retry}


class Isolation:
    """The isolation processes of one worker, each started when a job needs it."""

    def __init__(  # noqa: PLR0913 - where jobs come from, and where answers go
        self,
        settings: Settings,
        decider: Decider,
        defaults: Defaults,
        *,
        put: Callable[[Decision], None],
        answered: Callable[[ClaimedJob, Reply | Broken], Awaitable[None]],
        finish: Callable[[ClaimedJob], Awaitable[None]],
    ) -> None:
        """Take where decisions go, and what finishes a job whose row is stored already."""
        self._decider = decider
        self._defaults = defaults
        self._put = put
        self._answered = answered
        self._finish = finish
        self._processes = [IsolationProcess(settings) for _ in range(PROCESSES)]

    async def run(self, claimed: ClaimedJob, stored_run: int) -> None:
        """Run one job when its turn comes, and put what is decided about it."""
        process = min(self._processes, key=lambda each: each.jobs)
        isolated = await process.run(claimed, stored_run)
        if isinstance(isolated, str):
            self._put(self._death(claimed, isolated))
            return
        claimed.read(self._defaults)  # another process has read it and lives
        if claimed.stored:
            claimed.load(isolated.body)
        else:
            claimed.go_on_from(claimed.turns)
        if isolated.kind == "stored":
            await self._finish(claimed)
        elif isolated.kind == "away":
            self._put(self._decider.postponed(claimed))
        elif isolated.kind == "deleted":
            self._put(self._decider.deleted(claimed))
        elif isolated.kind == "unfit":
            self._put(self._decider.before_call(claimed) or self._decider.postponed(claimed))
        else:
            value = msgspec.msgpack.decode(isolated.value, type=_VALUES[isolated.kind])
            if isinstance(value, Reply | Broken):
                await self._answered(claimed, value)
            else:
                self._put(self._decider.without_call(claimed, value))

    async def close(self) -> None:
        """End the processes, with the calls that they may be making."""
        for process in self._processes:
            await process.close()

    def _death(self, claimed: ClaimedJob, how: str) -> Decision:
        """Decide about a job under which its process died: another try, or poison."""
        deaths = claimed.granted.attempts.count(DIED.encode()) + 1
        poison = deaths >= PROOF
        message = f"the process that ran only this job died ({how})"
        if poison:
            message = f"the process that ran only this job died {deaths} times ({how})"
        error = ErrorInfo(
            type="poison" if poison else DIED, message=message, fix="look at its input"
        )
        return self._decider.died(claimed, error, poison=poison)


class IsolationProcess:
    """One process, which runs one job at a time: when it dies, that job did it."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings of the worker."""
        self._settings = settings
        self._turn = asyncio.Lock()
        self._child = Child()
        self._code = 0
        self.jobs = 0
        """Jobs that it runs or that wait for it."""

    async def run(self, claimed: ClaimedJob, stored_run: int) -> Isolated | str:
        """Run one job when its turn comes; return what became of it, or how the process died.

        A job that is cancelled ends the process with its call.
        """
        self.jobs += 1
        try:
            async with self._turn:
                claimed.begin()
                try:
                    isolated = await self._ask(claimed, stored_run)
                except asyncio.CancelledError:
                    await self.close()
                    raise
                claimed.end()
                return how_ended(self._code) if isolated is None else isolated
        finally:
            self.jobs -= 1

    async def close(self) -> None:
        """End the process, with the call that it may be making."""
        await self._child.close()

    async def _ask(self, claimed: ClaimedJob, stored_run: int) -> Isolated | None:
        """Return what the process answers; None when it died under the job.

        A process that ends before it has the job says nothing about the job, so another one gets
        it. Raises IsolationError when STARTS of them end so.
        """
        granted = claimed.granted
        request = Request(
            job_id=granted.id,
            payload=granted.payload,
            stored_run=stored_run,
            claimed_at=granted.claimed_at,
            accept=to_text(claimed.accept) or "",
            turns=msgspec.json.encode(claimed.turns),
        )
        data = msgspec.msgpack.encode(request)
        for _ in range(STARTS):
            process = await self._child.started(COMMAND, self._settings.to_env())
            try:
                await _give(process, data)
            except ENDED:
                await self._note_end(process)
                continue
            try:
                return _isolated.decode(await take(process))
            except ENDED:
                await self._note_end(process)
                return None
        raise IsolationError(f"the isolation process does not start: {how_ended(self._code)}")

    async def _note_end(self, process: asyncio.subprocess.Process) -> None:
        """Note how a process ended, and end one that only closed its output."""
        code = await self._child.ended(process)
        self._code = self._code if code is None else code


async def _give(process: asyncio.subprocess.Process, data: bytes) -> None:
    """Send a request, and return when the process has it. Raises one of ENDED."""
    await give(process, data)
    await take(process)
