"""Reading a source a chunk of lines at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from itertools import islice
from typing import Final, TypeVar

from nightmill.sources import Line, Rejected

T = TypeVar("T")

LINES_PER_TURN: Final = 50
"""Lines that are read before the event loop handles its sockets again."""


def chunks_of(lines: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield `size` lines at a time."""
    each = iter(lines)
    while chunk := list(islice(each, size)):
        yield chunk


async def chunks_at_hand(lines: Iterable[T], size: int) -> AsyncGenerator[list[T], None]:
    """Yield `size` lines at a time; jobs are sent to Redis while the lines are read."""
    each = iter(lines)
    while chunk := list(islice(each, min(size, LINES_PER_TURN))):
        while more := list(islice(each, min(size - len(chunk), LINES_PER_TURN))):
            chunk += more
            await asyncio.sleep(0)
        yield chunk


def good_lines(chunk: Iterable[Line | Rejected]) -> list[Line]:
    """Return the lines before the first rejected one."""
    good = []
    for line in chunk:
        if isinstance(line, Rejected):
            break
        good.append(line)
    return good
