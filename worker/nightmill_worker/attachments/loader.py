"""Attachments: reads the files that a request refers to and puts their data into its body.

Roots say what may be read, `locate` finds and measures the files, `load` reads and checks them and
builds the body to send. An error is a value: Fail when it would repeat, Retry when it may pass.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from nightmill.params import MARK, Reference, references
from nightmill_worker.attachments.readers import Readers
from nightmill_worker.attachments.roots import FileRefusedError, FileUnavailableError, Found, Roots
from nightmill_worker.messages.outcome import Fail, Retry

if TYPE_CHECKING:
    from nightmill.settings import Settings

T = TypeVar("T")

MAX_IMAGE: Final = 5 << 20
"""Bytes of an image's file.

Some endpoints count its base64 instead. They refuse the request, which costs nothing.
"""
MAX_REQUEST: Final = 32 << 20
"""Bytes of the whole request with its files encoded."""
WHILE_LOADING: Final = 3
"""Memory of a load, times the encoded size: the file, its base64 and the request together."""

# How the files of each media type begin.
_SIGNATURES: Final = {
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "application/pdf": (b"%PDF-",),
}
FIX_SIZE: Final = "attach less, or send it by the endpoint's own URL or file sources"
_decode = msgspec.json.Decoder(dict[str, object]).decode
_encode = msgspec.json.Encoder().encode


class Attachments:
    """Loads the attachments of one process's calls, within a memory budget."""

    def __init__(self, settings: Settings) -> None:
        """Take the roots and the memory budget. Without roots every attachment is refused."""
        self._roots = Roots.of(settings)
        self._budget = Budget(settings.attach_memory_bytes)
        self._readers = Readers()

    @asynccontextmanager
    async def loaded(self, body: bytes) -> AsyncIterator[bytes | Fail | Retry]:
        """Yield the body to send for a request that refers to files, or why there is none.

        The body's memory counts against the budget until the block ends. Waits for the budget.
        """
        found = await self._aside(lambda: locate(body, self._roots))
        if not isinstance(found, list):
            yield found
            return
        size = min(_size(body, found), MAX_REQUEST)
        held = await self._budget.take(size * WHILE_LOADING)
        try:
            whole = await self._aside(lambda: load(body, found))
            held -= self._budget.give(held - held // WHILE_LOADING)
            yield whole
        finally:
            self._budget.give(held)

    async def _aside(self, work: Callable[[], T]) -> T | Fail | Retry:
        """Do `work` in a thread: a slow disk must not block the event loop."""
        try:
            return await self._readers.run(work)
        except FileRefusedError as error:
            return Fail(error=error.info)
        except FileUnavailableError as error:
            return Retry(error=error.info)
        except TimeoutError:
            message = f"not read within {self._readers.patience_s:g} s"
            return Retry(error=FileUnavailableError(message).info)
        except Exception as error:  # noqa: BLE001 - one job's files must not end a worker
            message = f"{type(error).__name__}: {error}"
            return Retry(error=FileUnavailableError(message).info)


class Budget:
    """A number of bytes that may be in use at once. Requests are served in order."""

    def __init__(self, size: int) -> None:
        """Start with `size` bytes free."""
        self._size = self._free = size
        self._turn = asyncio.Lock()
        self._given = asyncio.Event()

    def __repr__(self) -> str:
        """Name the free bytes."""
        return f"<Budget {self._free:,} of {self._size:,}>"

    async def take(self, size: int) -> int:
        """Wait for `size` bytes, at most the whole budget; return how many were taken."""
        size = min(size, self._size)
        async with self._turn:
            while self._free < size:
                self._given.clear()
                await self._given.wait()
            self._free -= size
        return size

    def give(self, size: int) -> int:
        """Give `size` bytes back, and return them."""
        self._free += size
        self._given.set()
        return size


def attached(body: bytes) -> bool:
    """Return whether a checked request may refer to files: one pass over its bytes."""
    return MARK in body


def locate(body: bytes, roots: Roots) -> list[Found]:
    """Find every file that `body` refers to. Raises FileRefusedError and FileUnavailableError."""
    found = [roots.find(item.file, _limit(item)) for item in references(_decode(body))]
    _require_size(_size(body, [file for file in found if file.size is not None]))
    return found


def load(body: bytes, found: list[Found]) -> bytes:
    """Return `body` with the data of its files. `found` are the files in the order of `body`.

    Raises FileRefusedError and FileUnavailableError.
    """
    request = _decode(body)
    pieces: list[tuple[bytes, bytes]] = []
    for item, file in zip(references(request), found, strict=True):
        data = file.read()
        _require(item, data)
        mark = uuid.uuid4().hex
        item.source["data"] = mark
        quoted = base64.b64encode(data) if item.encoded else _encode(data.decode())[1:-1]
        pieces.append((mark.encode(), quoted))
    whole = _joined(_encode(request), pieces)
    _require_size(len(whole))
    return whole


def _joined(request: bytes, pieces: list[tuple[bytes, bytes]]) -> bytes:
    """Replace each mark by its piece. Marks are in order.

    The JSON encoder does not see the large pieces, so they are copied only once.
    """
    parts = []
    for mark, piece in pieces:
        before, _, request = request.partition(mark)
        parts += [before, piece]
    return b"".join([*parts, request])


def _limit(item: Reference) -> int:
    """Return the most bytes that a file may have."""
    return MAX_IMAGE if item.media_type.startswith("image/") else MAX_REQUEST * 3 // 4


def _size(body: bytes, found: list[Found]) -> int:
    """Return about how large the encoded request gets. A file of unknown size counts its limit."""
    sizes = [file.limit if file.size is None else file.size for file in found]
    return len(body) + sum(-(-size // 3) * 4 for size in sizes)


def _require(item: Reference, data: bytes) -> None:
    """Raise FileRefusedError for data that is not of the media type that the request names."""
    expected = item.media_type
    if not data:
        raise _refused(item, "is empty")
    if expected == "text/plain":
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise _refused(item, f"is not UTF-8 (byte {error.start:,})") from None
    elif (actual := _media_type_of(data)) != expected:
        raise _refused(item, f"is not {expected}" + (f" but {actual}" if actual else ""))


def _media_type_of(data: bytes) -> str | None:
    if data.startswith(b"RIFF"):
        return "image/webp" if data[8:12] == b"WEBP" else None
    known = _SIGNATURES.items()
    return next((name for name, signatures in known if data.startswith(signatures)), None)


def _refused(item: Reference, problem: str) -> FileRefusedError:
    message = f"{item.path}: {item.file} {problem}"
    return FileRefusedError("attachment_refused", message, "correct the file, or its media_type")


def _require_size(size: int) -> None:
    if size > MAX_REQUEST:
        message = f"with its attachments the request is {size:,} bytes; allowed: {MAX_REQUEST:,}"
        raise FileRefusedError("attachment_too_large", message, FIX_SIZE)
