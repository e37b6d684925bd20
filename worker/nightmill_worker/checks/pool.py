"""The check processes of one worker: functions of the operator run there, and large answers.

A function that raises, hangs or ends its process ends no worker. Its answer is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final

from nightmill.setting_values import read_checks
from nightmill_worker.checks.messages import Question, Verdict, encoded, loaded, verdict
from nightmill_worker.checks.process import VARIABLE
from nightmill_worker.child import ENDED, Child, give, how_ended, take

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nightmill.settings import Settings

COMMAND: Final = (sys.executable, "-m", "nightmill_worker.checks.process")
PROCESSES: Final = 4
"""Check processes of one worker, at most; each is started when it is needed."""
LOAD_S: Final = 60.0
"""Longest time for the modules of the functions to load, seconds."""
TRIES: Final = 2
"""How many processes an answer is given to: the first may have been killed by chance."""


class CheckProcesses:
    """Gives verdicts in processes apart, a few at a time."""

    def __init__(self, settings: Settings) -> None:
        """Take the setting CHECKS; no process is started yet."""
        self._targets = read_checks(settings.checks)
        self._timeout_s = settings.check_timeout_s
        number = min(PROCESSES, os.cpu_count() or 1)
        self._all = [_Process(settings.checks or "") for _ in range(number)]
        self._idle: asyncio.LifoQueue[_Process] = asyncio.LifoQueue()
        for process in self._all:
            self._idle.put_nowait(process)
        self._unloaded: dict[str, str] | None = None

    async def missing(self, name: str) -> str:
        """Return why this worker cannot run the check `name`, "" when it can."""
        if name not in self._targets:
            there = ", ".join(sorted(self._targets)) or "none"
            return f"no check {name!r} in the worker's setting CHECKS; there are: {there}"
        if self._unloaded is None:
            async with self._process() as process:
                with contextlib.suppress(*ENDED, TimeoutError):
                    self._unloaded = await process.functions()
        unloaded = "its module ends the process, or does not load"
        if self._unloaded is not None:
            unloaded = self._unloaded[name]
        return (
            f"check {name!r} of the setting CHECKS cannot be loaded: {unloaded}" if unloaded else ""
        )

    async def verdict(self, asked: Question) -> Verdict:
        """Return the verdict about one answer, when a process is free. A hung process is killed."""
        async with self._process() as process:
            how = ""
            for _ in range(TRIES):
                try:
                    await process.functions()
                    async with asyncio.timeout(self._timeout_s):
                        return await process.ask(asked)
                except TimeoutError:
                    await process.close()
                    return Verdict(fault=f"it took more than {self._timeout_s:g} s")
                except ENDED:
                    how = await process.end()
            return Verdict(fault=f"its process died {TRIES} times ({how})")

    async def close(self) -> None:
        """End the processes."""
        for process in self._all:
            await process.close()

    @contextlib.asynccontextmanager
    async def _process(self) -> AsyncIterator[_Process]:
        process = await self._idle.get()
        try:
            yield process
        except BaseException:
            await process.close()  # it may be in the midst of an answer
            raise
        finally:
            self._idle.put_nowait(process)


class _Process:
    """One check process, which answers one question at a time."""

    def __init__(self, checks: str) -> None:
        self._checks = checks
        self._child = Child()
        self._functions: dict[str, str] = {}

    async def functions(self) -> dict[str, str]:
        """Start the process unless it runs; return name -> why its function is not there.

        Raises one of ENDED, and TimeoutError.
        """
        if not self._child.runs:
            process = await self._child.started(COMMAND, {VARIABLE: self._checks})
            async with asyncio.timeout(LOAD_S):
                self._functions = loaded(await take(process)).functions
        return self._functions

    async def ask(self, asked: Question) -> Verdict:
        """Return the verdict of the process that `functions` started. Raises one of ENDED."""
        process = self._child.process
        assert process is not None  # noqa: S101 - `functions` was called before
        await give(process, encoded(asked))
        return verdict(await take(process))

    async def end(self) -> str:
        """Return how a process ended that closed its output; end it when it only did that."""
        code = await self._child.ended(self._child.process)
        return "it closed its output" if code is None else how_ended(code)

    async def close(self) -> None:
        """End the process."""
        await self._child.close()
