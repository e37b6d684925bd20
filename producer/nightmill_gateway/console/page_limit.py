"""The time in which a page begins, whatever it waits for.

One answer of Redis has a limit of its own. A page needs several, and may have to wait for the
connections of other pages before it.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from nightmill_gateway.answers.errors import OVERLOADED, RETRY_AFTER_S, ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAGE_S: Final = 11.0
"""Longest wait for the begin of a page, seconds: one answer of Redis has 10 s."""
_LIMIT: Final = web.RequestKey("page_limit", asyncio.Timeout)
"""The key in a request of its limit, until its answer begins."""


@asynccontextmanager
async def page_limit(request: web.Request) -> AsyncIterator[None]:
    """Raise ApiError when the answer to a GET does not begin within PAGE_S.

    A POST has no limit: its action would break off in the middle, and a form may come slowly.
    """
    limit = asyncio.timeout(None if request.method == "POST" else PAGE_S)
    request[_LIMIT] = limit
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        what = "Redis or the results store does not answer in time: try again"
        raise ApiError(OVERLOADED, what, {"retry-after": str(RETRY_AFTER_S)}) from None
    finally:
        request.pop(_LIMIT, None)


def begins(request: web.Request) -> None:
    """Note that an answer begins: a download and a stream of events last as long as they take."""
    limit = request.pop(_LIMIT, None)
    if limit is not None:
        limit.reschedule(None)
