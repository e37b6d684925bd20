"""A long answer of lines, sent a page at a time."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, TypeVar

from aiohttp import web

from nightmill_gateway.answers.reply import write_end

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping

    T = TypeVar("T")

WRITE_S: Final = 60.0
"""Longest wait for a client to take the next page, seconds."""


async def download(
    request: web.Request,
    headers: Mapping[str, str],
    pages: AsyncGenerator[Iterable[T], None],
    line: Callable[[T], bytes],
) -> web.StreamResponse:
    """Send all lines. Raises ConnectionError when the client takes nothing, or has left.

    An answer that fails is cut off: an end of any kind would make its lines look whole.
    """
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    try:
        async with aclosing(pages):
            async for page in pages:
                async with asyncio.timeout(WRITE_S):
                    await response.write(b"".join(map(line, page)))
    except Exception as error:
        if request.transport is not None:
            request.transport.abort()
        if isinstance(error, TimeoutError):  # of the client, and no defect of the gateway
            raise ConnectionError from None
        raise
    await write_end(request, response)
    return response
