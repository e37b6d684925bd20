"""Reading what a client sends: within a size, and within a time between two pieces."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp.web_protocol import RequestPayloadError

from nightmill_gateway.answers.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

JSON_BYTES: Final = 32 << 20
"""Longest body of a request, as the API has it, bytes. A create of a batch has its own limit."""
IDLE_S: Final = 30.0
"""Longest time without a byte of the body, seconds."""
PIECE_BYTES: Final = 1 << 18


async def pieces(request: web.Request, most: int) -> AsyncIterator[bytes]:
    """Yield the body as it arrives. Raises ApiError when it is over `most` bytes, or stops."""
    if request.content_length is not None and request.content_length > most:
        raise too_large(most)
    size = 0
    while True:
        try:
            async with asyncio.timeout(IDLE_S):
                piece = await request.content.read(PIECE_BYTES)
        except TimeoutError:
            raise ApiError(408, f"no byte of the body for {IDLE_S:g} s: send it again") from None
        except RequestPayloadError:
            problem = "the body cannot be read: check content-encoding and transfer-encoding"
            raise ApiError(400, problem) from None
        if not piece:
            return
        size += len(piece)
        if size > most:
            raise too_large(most)
        yield piece


async def read_body(request: web.Request, most: int = JSON_BYTES) -> bytes:
    """Return the whole body."""
    return b"".join([piece async for piece in pieces(request, most)])


def too_large(most: int) -> ApiError:
    """Return the error of a body over `most` bytes."""
    return ApiError(413, f"the body is over {most:,} bytes, which is the most: send less at once")
