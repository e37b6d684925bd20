"""The simulator as a server: routes, listening, and a graceful stop."""

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from nightmill_worker.simulator.admin import ADMIN_ROUTES, stats
from nightmill_worker.simulator.config import SimulatorConfig, change_config
from nightmill_worker.simulator.endpoint import Endpoint
from nightmill_worker.simulator.ledger import Ledger
from nightmill_worker.simulator.replies import error_reply
from nightmill_worker.simulator.request import MAX_BODY_BYTES

MESSAGES_PATH = "/v1/messages"
# Thousands of connections may be opened at the same moment.
BACKLOG = 4096
# Longer than a pause of a rehearsal: closing an idle connection would look like a fault.
KEEPALIVE_S = 3600.0
# Seconds that a stop waits for calls in flight (for aiohttp, 0 means for ever).
STOP_S = 0.05
NO_ID = {"request-id": "req_none"}


class Simulator:
    """A running endpoint: `async with Simulator(config) as sim: ... sim.url`.

    Port 0 takes a free port. Raises `OSError` when the port is in use.
    """

    def __init__(
        self, config: SimulatorConfig | None = None, *, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        """Prepare an endpoint; it starts to listen in `__aenter__`."""
        self.host, self.port = host, port
        self._waiting: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []
        self._endpoint = Endpoint(
            config or SimulatorConfig(),
            clock=time.monotonic,
            wall=time.time,
            changed=self._wake,
        )

    @property
    def url(self) -> str:
        """The base URL to give a client, without `/v1`."""
        return f"http://{self.host}:{self.port}"

    @property
    def config(self) -> SimulatorConfig:
        """The config in force."""
        return self._endpoint.config

    @property
    def ledger(self) -> Ledger:
        """The counts, per prompt and in total."""
        return self._endpoint.ledger

    @property
    def in_flight(self) -> int:
        """How many admitted calls have not been answered yet."""
        return self._endpoint.limiter.in_flight

    def stats(self) -> dict[str, object]:
        """Return what `GET /admin/stats` answers."""
        return stats(self._endpoint)

    def configure(self, **changes: object) -> None:
        """Change settings while it runs; raises `ConfigError`, which names the field."""
        self._endpoint.configure(change_config(self.config, changes))

    def reset(self) -> None:
        """Set all counts to zero."""
        self._endpoint.reset()

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait until `true()` returns True; it is called whenever a call is admitted or ends."""
        if not true():
            future = asyncio.get_running_loop().create_future()
            self._waiting.append((true, future))
            await future

    def _wake(self) -> None:
        if self._waiting:
            for true, future in self._waiting:
                if not future.done() and true():
                    future.set_result(None)
            self._waiting = [entry for entry in self._waiting if not entry[1].done()]

    async def __aenter__(self) -> Self:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = web.Server(
            self._handle,
            request_factory=_make_request,
            # As at the real endpoint, a call ends when its client closes the connection.
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
        )
        self._listener = await loop.create_server(
            self._server, self.host, self.port, backlog=BACKLOG
        )
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop listening, cut the calls in flight, close every connection."""
        self._listener.close()
        self._server.pre_shutdown()
        await self._server.shutdown(STOP_S)
        await self._listener.wait_closed()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Route one request by plain comparison, as this runs thousands of times a second."""
        path, method = request.raw_path.partition("?")[0], request.method
        if path == MESSAGES_PATH:
            if method == "POST":
                return await self._endpoint.handle(request)
            return _not_allowed("POST")
        routes = ADMIN_ROUTES.get(path)
        if routes is None:
            return error_reply(404, "not_found_error", f"Not found: {path}", NO_ID)
        if method not in routes:
            return _not_allowed(", ".join(routes))
        return await routes[method](self._endpoint, request)


async def serve(
    config: SimulatorConfig,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    ready: Callable[[int], None] | None = None,
) -> None:
    """Serve until cancelled; calls `ready` with the port once it listens."""
    async with Simulator(config, host=host, port=port) as simulator:
        if ready is not None:
            ready(simulator.port)
        await asyncio.get_running_loop().create_future()


def _not_allowed(allowed: str) -> web.Response:
    headers = NO_ID | {"allow": allowed}
    return error_reply(405, "invalid_request_error", "Method Not Allowed", headers)


def _make_request(
    message: RawRequestMessage,
    payload: StreamReader,
    protocol: RequestHandler,
    writer: AbstractStreamWriter,
    task: "asyncio.Task[None]",
) -> web.BaseRequest:
    """Build a request whose body may have MAX_BODY_BYTES (aiohttp's default is 1 MiB)."""
    loop = asyncio.get_running_loop()
    return web.BaseRequest(
        message, payload, protocol, writer, task, loop, client_max_size=MAX_BODY_BYTES
    )
