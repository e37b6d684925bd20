"""A web service that enqueues: each request is a job, answered at once if it ends soon.

    python examples/service.py 8080
    curl -d 'The tide comes in twice a day.' localhost:8080/summaries

The answer is the summary, or 202 and where to ask for it. A client that repeats its request with
the same Idempotency-Key gets the same job. Ctrl-C or SIGTERM: answers under way are given first.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from aiohttp import web
from mill import mill

from nightmill import (
    InvalidParamsError,
    JobNotFoundError,
    JobState,
    NightmillError,
    Producer,
    Result,
    ResultTimeoutError,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PATIENCE_S = 5.0  # an answer that takes longer is asked for later
PRODUCER = web.AppKey("producer", Producer)


async def post_summary(request: web.Request) -> web.Response:
    """Enqueue a text; answer with its summary, or say where it will be."""
    params = {
        "messages": [{"role": "user", "content": f"Summarise:\n\n{await request.text()}"}],
        "max_tokens": 200,
    }
    key = request.headers.get("Idempotency-Key")
    job_id = f"summary-{hashlib.sha256(key.encode()).hexdigest()[:32]}" if key else None
    receipt = await request.app[PRODUCER].enqueue(params, job_id=job_id)
    return await answer(request, receipt.job_id, PATIENCE_S)


async def get_summary(request: web.Request) -> web.Response:
    """Answer with the summary of a job, or say that it is still on its way."""
    return await answer(request, request.match_info["job"], 0)


async def answer(request: web.Request, job: str, wait_s: float) -> web.Response:
    """Wait for a job's result, but not for long: 202 says where to ask again."""
    try:
        result = await request.app[PRODUCER].result(job, wait=wait_s)
    except ResultTimeoutError:
        where = {"Location": f"/summaries/{job}", "Retry-After": "2"}
        return web.json_response({"job": job, "status": "running"}, status=202, headers=where)
    return told(result)


def told(result: Result) -> web.Response:
    """Return a result as JSON; a failed job is the service's own failure, not the client's."""
    if result.status is JobState.SUCCEEDED:
        body = {"job": result.job_id, "status": result.status, "summary": result.text}
        return web.json_response(body)
    why = result.error.message if result.error else result.status
    body = {"job": result.job_id, "status": result.status, "error": why}
    return web.json_response(body, status=502)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn nightmill's errors into statuses."""
    try:
        return await handler(request)
    except JobNotFoundError as error:
        return web.json_response({"error": str(error)}, status=404)
    except InvalidParamsError as error:
        return web.json_response({"error": str(error)}, status=400)
    except NightmillError as error:  # Redis is away or full
        return web.json_response({"error": str(error)}, status=503, headers={"Retry-After": "10"})


async def connections(app: web.Application) -> AsyncIterator[None]:
    """Hold the producer for as long as the service runs; it is left after the last answer."""
    async with mill() as settings, Producer(settings=settings) as producer:
        app[PRODUCER] = producer
        yield


def make_app() -> web.Application:
    """Return the service."""
    app = web.Application(middlewares=[errors])
    app.cleanup_ctx.append(connections)
    app.router.add_post("/summaries", post_summary)
    app.router.add_get("/summaries/{job}", get_summary)
    return app


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    web.run_app(
        make_app(),
        host="127.0.0.1",
        port=port,  # 0 takes a free one
        shutdown_timeout=2 * PATIENCE_S,
        print=partial(print, flush=True),  # a pipe, too, hears at once that it runs
    )
