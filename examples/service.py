"""A web service that enqueues: each request becomes one job.

    python examples/service.py 8080
    curl -d 'The tide comes in twice a day.' localhost:8080/summaries

The response is the summary when the job ends within PATIENCE_S, else 202 with the address to ask
again. A client that repeats its request with the same Idempotency-Key gets the same job. On Ctrl-C
or SIGTERM, the service first finishes the requests that it has.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from aiohttp import web
from local_fleet import local_fleet

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

PATIENCE_S = 5.0
"""Longest wait for a result in one request, seconds."""
PRODUCER = web.AppKey("producer", Producer)


async def post_summary(request: web.Request) -> web.Response:
    """Enqueue a text; respond with its summary, or with the address to ask again."""
    params = {
        "messages": [{"role": "user", "content": f"Summarise:\n\n{await request.text()}"}],
        "max_tokens": 200,
    }
    key = request.headers.get("Idempotency-Key")
    job_id = f"summary-{hashlib.sha256(key.encode()).hexdigest()[:32]}" if key else None
    receipt = await request.app[PRODUCER].enqueue(params, job_id=job_id)
    return await respond(request, receipt.job_id, PATIENCE_S)


async def get_summary(request: web.Request) -> web.Response:
    """Respond with the summary of a job, or 202 while the job has not ended."""
    return await respond(request, request.match_info["job"], 0)


async def respond(request: web.Request, job: str, wait_s: float) -> web.Response:
    """Wait up to `wait_s` for a job's result; without one, respond 202 and the address."""
    try:
        result = await request.app[PRODUCER].result(job, wait=wait_s)
    except ResultTimeoutError:
        headers = {"Location": f"/summaries/{job}", "Retry-After": "2"}
        return web.json_response({"job": job, "status": "running"}, status=202, headers=headers)
    return as_response(result)


def as_response(result: Result) -> web.Response:
    """Return a result as JSON. A failed job is a 502: the client's request was right."""
    if result.status is JobState.SUCCEEDED:
        body = {"job": result.job_id, "status": result.status, "summary": result.text}
        return web.json_response(body)
    reason = result.error.message if result.error else result.status
    body = {"job": result.job_id, "status": result.status, "error": reason}
    return web.json_response(body, status=502)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Map nightmill's errors to HTTP statuses."""
    try:
        return await handler(request)
    except JobNotFoundError as error:
        return web.json_response({"error": str(error)}, status=404)
    except InvalidParamsError as error:
        return web.json_response({"error": str(error)}, status=400)
    except NightmillError as error:  # Redis cannot be reached, or is full
        return web.json_response({"error": str(error)}, status=503, headers={"Retry-After": "10"})


async def connections(app: web.Application) -> AsyncIterator[None]:
    """Keep the producer open while the service runs; close it after the last response."""
    async with local_fleet() as settings, Producer(settings=settings) as producer:
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
        port=port,  # 0 takes a free port
        shutdown_timeout=2 * PATIENCE_S,
        print=partial(print, flush=True),  # unbuffered: also a pipe gets the address at once
    )
