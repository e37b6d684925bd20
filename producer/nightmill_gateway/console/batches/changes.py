"""What a person may do with batches: each action as one function of a batch's name."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nightmill.enqueue.known import note
from nightmill.errors import InvalidLimitError, NightmillError
from nightmill.maintenance.cancellation import Cancellation
from nightmill.maintenance.requeue import Selection, requeue
from nightmill.records.limits import Change, parse_seconds
from nightmill.records.state import BatchState, JobState
from nightmill.reports.limits import describe
from nightmill.reports.progress import counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from aiohttp import web

    from nightmill.maintenance.requeue import Requeued
    from nightmill_gateway.console.forms import Form
    from nightmill_gateway.services import Services

    T = TypeVar("T")
    Work = Callable[[str], Awaitable[str]]

ACTIONS: Final = {
    "pause": "Workers claim no more jobs. Calls in flight finish.",
    "resume": "Workers claim its jobs again.",
    "retry": "Its jobs are called again with their stored requests, and paid for again.",
    "adjust": "The new limits hold from the next claim on. An empty field stays as it is.",
    "cancel": "Calls in flight finish. Jobs that were not called are recorded as cancelled.",
}
"""Name of an action -> what it does, for the page that asks for confirmation."""
RETRIED: Final = {
    "failed": "failed jobs",
    "cancelled": "cancelled jobs",
    "expired": "expired jobs",
}
"""What can be retried -> its name on the page."""
RETRIES: Final = 2
"""Batches whose jobs one gateway enqueues again at the same time."""
LOOK_S: Final = 0.2
SOON_S: Final = 2.0
"""How long a page waits for a retry, which goes on afterwards, seconds."""


class Changes:
    """The actions, and what goes on behind them after the page was answered."""

    def __init__(self, services: Services) -> None:
        """Take connections that are open while this is used."""
        self._services = services
        self._behind = set[asyncio.Task[Any]]()
        self._places = asyncio.Semaphore(RETRIES)

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Run for the life of an application."""
        yield
        for task in self._behind:
            task.cancel()
        await asyncio.gather(*self._behind, return_exceptions=True)

    def behind(self, work: Coroutine[None, None, T]) -> asyncio.Task[T]:
        """Let `work` go on after its page was answered."""
        task = asyncio.create_task(work)
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)
        return task

    def work(self, action: str, form: Form, who: str) -> Work:
        """Return what `action` does with a batch. Raises InvalidLimitError for a bad field."""
        match action:
            case "adjust":
                return self._adjust(change_of(form))
            case "retry":
                return self._retry(selection_of(form))
            case "pause":
                return self._pause(who)
            case "resume":
                return self._resume
            case _:
                return self._cancel

    def _pause(self, who: str) -> Work:
        async def pause(batch: str) -> str:
            await self._services.batches.pause(batch, f"by {who} in the console")
            return "paused"

        return pause

    async def _resume(self, batch: str) -> str:
        await self._services.batches.resume(batch)
        counts = await self._services.batches.counts(batch)
        return "has nothing left to run" if counts.drained else "goes on"

    async def _cancel(self, batch: str) -> str:
        """Cancel at once; the rows of its jobs are written behind the page, as workers do it."""
        services = self._services
        await services.batches.cancel(batch)
        counts = await services.batches.counts(batch)
        if counts.flag == BatchState.CANCELLED:
            await note(services.store, batch, "cancelled")  # Redis may lose the flag
            self.behind(self._write_rows(batch))
        waiting, calls = counted(counts.waiting, "job"), counted(counts.in_flight, "call")
        return f"{counts.flag or counts.state}: {waiting} not called, {calls} in flight may finish"

    async def _write_rows(self, batch: str) -> None:
        cancellation = Cancellation(
            self._services.redis, self._services.store, self._services.settings
        )
        with suppress(NightmillError):  # workers write the rows, too
            while (await self._services.batches.counts(batch)).waiting:
                await cancellation.run(batch)
                await asyncio.sleep(LOOK_S)

    def _adjust(self, change: Change) -> Work:
        services = self._services

        async def adjust(batch: str) -> str:
            limits = await services.batches.limit(batch, change, settings=services.settings)
            return describe(limits)

        return adjust

    def _retry(self, which: Selection) -> Work:
        services = self._services

        async def retry(batch: str) -> str:
            async with self._places:
                done = await requeue(
                    batch, services.store, services.producer, services.batches, which=which
                )
            return retried(done)

        return retry


def retried(done: Requeued) -> str:
    """Return what came of a retry."""
    parts = [f"{counted(done.new, 'job')} queued again"]
    if done.queued_already:
        parts.append(f"{done.queued_already:,} were queued already")
    if done.without_request:
        parts.append(f"{done.without_request:,} have no stored request")
    if done.invalid:
        parts.append(f"{done.invalid:,} would be invalid requests ({done.problem})")
    return ", ".join(parts)


def selection_of(form: Form) -> Selection:
    """Return which jobs a form asks to call again."""
    which = form["jobs"] if form["jobs"] in RETRIED else "failed"
    return Selection(statuses=frozenset({JobState(which)}), error=form["error"] or None)


def change_of(form: Form) -> Change:
    """Return the limits in a form. Raises InvalidLimitError that names the field."""
    change = Change(
        weight=_whole(form, "weight"),
        concurrency=_whole(form, "concurrency"),
        expires_s=parse_seconds(form["expires"].strip()) if form["expires"].strip() else None,
        budget_usd=_decimal(form, "budget_usd"),
        budget_tokens=_whole(form, "budget_tokens"),
    )
    if not change:
        raise InvalidLimitError("nothing to adjust: fill in a field")
    change.require()
    return change


def _whole(form: Form, name: str) -> int | None:
    text = form[name].strip().replace(",", "")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) < 20):  # noqa: PLR2004 - an int64
        raise InvalidLimitError(f"{name}: given {text!r:.40}; allowed: a whole number")
    return int(text)


def _decimal(form: Form, name: str) -> float | None:
    text = form[name].strip().replace(",", "").removeprefix("$")
    try:
        return float(text) if text else None
    except ValueError:
        raise InvalidLimitError(f"{name}: given {text!r:.40}; allowed: dollars") from None


def problem_of(found: dict[str, NightmillError | str]) -> str:
    """Return the first error of several batches, "" without one."""
    errors = [error for error in found.values() if isinstance(error, NightmillError)]
    return str(errors[0]) if errors else ""
