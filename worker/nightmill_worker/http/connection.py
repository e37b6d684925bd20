"""One HTTP/1.1 connection: it sends one request at a time and takes the answer to it.

httptools (llhttp) parses. Answers that break the standard are read where their meaning is clear,
since each is paid for.
"""

from __future__ import annotations

import asyncio
import select
from typing import TYPE_CHECKING, Any, Final, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from nightmill_worker.http.errors import HttpError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WAITING_BYTES: Final = 256 << 10
"""Bytes of a body that wait to be read; above that nothing more is read from the network."""
HEAD_BYTES: Final = 256 << 10
"""Bytes in a row that are no body: all headers of an answer, its interim answers, its trailers."""
PIECE: Final = 256 << 10
"""Bytes of a request's body that are sent at once: encrypting more would hold up other calls."""
LOOKS: Final = 16
"""Rounds of the event loop in which an answer that has arrived is read before more is sent."""
SWITCHING: Final = 101
FIRST_REFUSAL: Final = 300
"""Statuses from here on: the server does not do what it was asked for."""


class Answer:
    """The answer to one request, while it comes in."""

    __slots__ = ("_chunks", "_connection", "ended", "error", "headers", "status", "waiting")

    def __init__(self, connection: Connection) -> None:
        """Start before its first byte."""
        self._connection = connection
        self._chunks: list[bytes] = []
        self.status = 0
        """The HTTP status; 0 until all headers have come."""
        self.headers: dict[str, str] = {}
        """Their names are in lower case. Of two with the same name, the first counts."""
        self.waiting = 0
        """Bytes of the body that have come and were not read."""
        self.ended = False
        """Whether all of it has come."""
        self.error: HttpError | None = None
        """Why no more of it comes."""

    def add(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        self._chunks.append(chunk)
        self.waiting += len(chunk)

    def refuses(self) -> bool:
        """Return whether the rest of the request would be sent in vain."""
        return self.ended or self.error is not None or self.status >= FIRST_REFUSAL

    async def read(self) -> bytes:
        """Return what has come of the body, and wait until something has; b"" is its end.

        Raises HttpError when the rest does not come.
        """
        while not self._chunks:
            if self.error is not None:
                raise self.error
            if self.ended:
                return b""
            await self._connection.change()
        found = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self.waiting = 0
        self._connection.go_on()
        return found


class Connection(asyncio.Protocol):
    """A connection to the endpoint, or to a proxy."""

    def __init__(self, lost: Callable[[Connection], None] | None = None) -> None:
        """Take what is called when it has ended."""
        self._loop = asyncio.get_running_loop()
        self._lost = lost
        self.transport: asyncio.Transport | None = None
        """None before it is open and after it has ended."""
        self._parser = HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True,
            lenient_chunked_length=True,
            lenient_optional_lf_after_cr=True,
            lenient_optional_cr_before_lf=True,
            lenient_optional_crlf_after_chunk=True,
            lenient_spaces_after_chunk_size=True,
        )
        self._answer: Answer | None = None
        self._fields: list[tuple[bytes, bytes]] = []
        self._without_body = 0
        self._sent = True
        self._reading = self._writing = True
        self._waiter: asyncio.Future[None] | None = None
        self.reusable = False
        """Whether the next request may be sent: the last answer is whole, and nothing follows."""

    async def request(self, head: bytes, body: bytes) -> Answer:
        """Send a request and return its answer when all headers have come.

        Raises HttpError when there is none. A refusal may come before all of the body is sent;
        then the rest is not sent.
        """
        transport = self.transport
        if transport is None or transport.is_closing():
            raise HttpError("connection_dropped", "the connection was closed")
        self._answer = answer = Answer(self)
        self._fields = []
        self._without_body = 0
        self.reusable = False
        self._sent = len(body) <= PIECE
        if not body:  # an empty piece stays in the buffer of asyncio's transports since 3.12
            transport.write(head)
        elif self._sent:
            transport.writelines((head, body))
        else:
            transport.write(head)
            await self._send(transport, body, answer)
        while not answer.status:
            if answer.error is not None:
                raise answer.error
            await self.change()
        return answer

    async def _send(self, transport: asyncio.Transport, body: bytes, answer: Answer) -> None:
        """Send a large body piece by piece, until a refusal or the whole of an answer comes.

        A server that refuses a body closes the connection soon. Writing then fails and what waits
        to be read is lost with it, so that is read first.
        """
        for start in range(0, len(body), PIECE):
            for _ in range(LOOKS):
                if answer.refuses() or not (self._reading and self.has_unread()):
                    break
                await asyncio.sleep(0)  # the loop reads it now
            if answer.refuses() or transport.is_closing():
                return
            transport.write(body[start : start + PIECE])
            await asyncio.sleep(0)
            while not (self._writing or answer.refuses()):
                await self.change()
        self._sent = not answer.refuses()

    async def change(self) -> None:
        """Wait until anything has come, or may be sent, or the connection has ended."""
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def go_on(self) -> None:
        """Read from the network again: what had come was taken."""
        if not self._reading and self.transport is not None and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()

    def is_clean(self) -> bool:
        """Return whether the next bytes to come answer the next request, and none before it."""
        transport = self.transport
        return (
            self.reusable
            and self._reading
            and transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    def has_unread(self) -> bool:
        """Return whether bytes, or the end of an open connection, wait to be read."""
        if self.transport is None or self.transport.is_closing():
            return False
        socket: Any = self.transport.get_extra_info("socket")
        descriptor = -1 if socket is None else socket.fileno()
        if descriptor < 0:
            return False
        if not hasattr(select, "poll"):  # Windows
            return bool(select.select([descriptor], [], [], 0)[0])
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

    def end(self, error: HttpError | None = None) -> None:
        """Close the connection now. An answer that is not whole ends with `error`."""
        self.reusable = False
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.error = error or HttpError("connection_dropped", "the connection was closed")
            self._wake()
        if self.transport is not None:
            self.transport.abort()

    # asyncio calls these.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport.

        What waits behind a reader that has stopped must not be in the buffer of TLS, where uvloop
        loses it when the server closes: it stays in the socket.
        """
        self.transport = cast("asyncio.Transport", transport)
        if hasattr(transport, "set_read_buffer_limits"):
            transport.set_read_buffer_limits(high=1, low=0)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the answer: some bodies have no other end than that of the connection."""
        self.transport = None
        self.reusable = False
        if self._lost is not None:
            self._lost(self)
        answer = self._answer
        if answer is None:
            return
        self._answer = None
        reason = f"the connection ended: {exc or 'the server closed it'}"
        if not answer.status:
            answer.error = HttpError("connection_dropped", reason)
        elif exc is None and _ends_with_connection(answer.headers):
            answer.ended = True
        else:
            answer.error = HttpError("truncated_response", reason)
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Parse what has come. Bytes that no request asked for end the connection."""
        answer = self._answer
        if answer is None:
            self.end()
            return
        before = answer.waiting
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:  # 101, or 2xx to CONNECT: no body of HTTP follows
            answer.ended = True
            self._answer = None
            self.reusable = False
        except HttpParserError as error:
            self.end(HttpError("invalid_response", str(error)))
        if answer.ended or answer.error:
            self._wake()
            return
        if answer.waiting > before:
            self._without_body = 0
            if answer.waiting > WAITING_BYTES and self._reading and self.transport is not None:
                self._reading = False
                self.transport.pause_reading()
        else:
            self._without_body += len(data)
            if self._without_body > HEAD_BYTES:
                why = f"the answer has more than {HEAD_BYTES:,} bytes of headers"
                self.end(HttpError("invalid_response", why))
                return
        if answer.status:
            self._wake()

    def pause_writing(self) -> None:
        """Send nothing more for now."""
        self._writing = False

    def resume_writing(self) -> None:
        """Send again."""
        self._writing = True
        self._wake()

    # httptools calls these.

    def on_message_begin(self) -> None:
        """Note bytes that follow a whole answer: they are of no request."""
        if self._answer is None:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header; trailers are not kept."""
        if self._answer is not None and not self._answer.status:
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the status. Interim answers (100, 103) are followed by the answer itself."""
        answer, status = self._answer, self._parser.get_status_code()
        fields, self._fields = self._fields, []
        if answer is None or (100 <= status < 200 and status != SWITCHING):  # noqa: PLR2004 - 1xx
            return
        headers = answer.headers
        for raw_name, raw_value in fields:
            name = raw_name.decode("latin-1").strip().lower()
            value = _text(raw_value).strip(" \t")
            if headers.setdefault(name, value) is not value and name == "transfer-encoding":
                headers[name] += f", {value}"  # two headers are one list: gzip, then chunked
        answer.status = status

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        if self._answer is not None:
            self._answer.add(body)

    def on_message_complete(self) -> None:
        """End the answer, except an interim one."""
        answer = self._answer
        if answer is not None and answer.status:
            answer.ended = True
            self._answer = None
            unclear = "transfer-encoding" in answer.headers and "content-length" in answer.headers
            self.reusable = self._sent and not unclear and self._parser.should_keep_alive()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _ends_with_connection(headers: Mapping[str, str]) -> bool:
    """Whether the body of an answer has no other end: its length is not given."""
    coding = headers.get("transfer-encoding", "").lower()
    return "content-length" not in headers and "chunked" not in coding


def _text(value: bytes) -> str:
    """Return a header's value; one that is not UTF-8 is Latin-1, the older rule for headers."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
