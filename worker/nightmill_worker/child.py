"""A child process of a worker that answers messages: what isolation and checks have in common.

A message is its length (LENGTH bytes, big-endian) and its data, in both directions.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Final

from nightmill.setting_sources import PREFIX

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Mapping, Sequence

LENGTH: Final = 4
"""Bytes of a message's length."""
ENDED: Final = (OSError, asyncio.IncompleteReadError)
"""What the pipes of a child raise that has ended."""
STOP_S: Final = 2.0
"""Time that a child has to end after it closed its output, seconds."""


class Child:
    """One child process, started when it is needed."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self.process: Process | None = None
        """The process that was started last; None before the first one, and after `close`."""

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.returncode is None

    async def started(self, command: Sequence[str], variables: Mapping[str, str]) -> Process:
        """Return its process, which is started with `command` unless it runs.

        Of the settings in the environment, it gets only those in `variables`.
        """
        if self.process is None or not self.runs:
            inherited = {k: v for k, v in os.environ.items() if not k.upper().startswith(PREFIX)}
            self.process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env={**inherited, **variables},
                start_new_session=True,
            )
        return self.process

    async def ended(self, process: Process | None) -> int | None:
        """Return the exit code of a process whose pipe broke; end one that only closed its output.

        None: it had not ended after STOP_S. A signal before that would hide how it ended.
        """
        code = None
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                code = await process.wait() if process is not None else None
        await self.close()
        return code

    async def close(self) -> None:
        """End the process, whatever it does."""
        process, self.process = self.process, None
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def framed(data: bytes) -> bytes:
    """Return a message: its length, and its data."""
    return len(data).to_bytes(LENGTH) + data


async def give(process: Process, data: bytes) -> None:
    """Send a message. Raises one of ENDED."""
    assert process.stdin is not None  # noqa: S101 - both are pipes, as started above
    process.stdin.write(framed(data))
    await process.stdin.drain()


async def take(process: Process) -> bytes:
    """Return the next message of a process. Raises one of ENDED."""
    assert process.stdout is not None  # noqa: S101
    size = int.from_bytes(await process.stdout.readexactly(LENGTH))
    return await process.stdout.readexactly(size)


def how_ended(code: int) -> str:
    """Return how a process ended, as text for a person."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
