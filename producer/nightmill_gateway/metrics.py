"""What a gateway process counts for Prometheus. See docs/metrics.md."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from nightmill_gateway.answers.reply import OTHER, route_of, status_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.typedefs import Middleware

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class GatewayCounters:
    """Counts requests and waiting clients."""

    def __init__(self) -> None:
        """Make the counters."""
        registry = CollectorRegistry()
        self._requests = Counter(
            "nightmill_gateway_requests",
            "Requests that ended, by route.",
            ("method", "route", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "nightmill_gateway_request_duration_seconds",
            "Time from a request's headers to the end of its answer.",
            ("route",),
            registry=registry,
            buckets=SECONDS,
        )
        self._waiting = Gauge(
            "nightmill_gateway_waiting_clients",
            "Clients that wait for the end of a job.",
            registry=registry,
            multiprocess_mode="livesum",
        )

    def waits(self, change: int) -> None:
        """Count a client that begins (1) or ends (-1) to wait."""
        self._waiting.inc(change)

    @property
    def middleware(self) -> Middleware:
        """Return the middleware that counts requests; it must be the outermost one."""

        @web.middleware
        async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
            began = time.monotonic()
            try:
                return await handler(request)
            finally:
                route = route_of(request)
                method = request.method if request.method in METHODS else OTHER
                self._requests.labels(method, route, str(status_of(request))).inc()
                self._seconds.labels(route).observe(time.monotonic() - began)

        return counted
