"""Attachments: reads the files that a request refers to and puts their data into its body.

Roots say what may be read, `locate` finds and measures the files, `load` reads and checks them and
builds the body to send. An error is a value: Fail when it would repeat, Retry when it may pass.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from nightmill.errors import StoreUnavailableError
from nightmill.params import (
    IMAGE_TYPES,
    MARK,
    PDF,
    Reference,
    media_type_of,
    other_type_of,
    references,
)
from nightmill.store.message_batches import MessageBatches
from nightmill_worker.attachments.readers import Readers
from nightmill_worker.attachments.roots import FileRefusedError, FileUnavailableError, Found, Roots
from nightmill_worker.events import MediaTypeCorrected
from nightmill_worker.messages.outcome import Fail, Retry

if TYPE_CHECKING:
    from nightmill.records.stored_body import StoredBody
    from nightmill.settings import Settings
    from nightmill.store import ResultStore
    from nightmill_worker.events import Emit

T = TypeVar("T")

MAX_IMAGE: Final = 5 << 20
"""Bytes of an image's file.

Some endpoints count its base64 instead. They refuse the request, which costs nothing.
"""
MAX_REQUEST: Final = 32 << 20
"""Bytes of the whole request with its files encoded."""
WHILE_LOADING: Final = 3
"""Memory of a load, times the encoded size: the file, its base64 and the request together."""

TEXT: Final = "text/plain"
FIX_SIZE: Final = "attach less, or send it by the endpoint's own URL or file sources"
_decode = msgspec.json.Decoder(dict[str, object]).decode
_encode = msgspec.json.Encoder().encode


class Attachments:
    """Loads the attachments of one process's calls, within a memory budget."""

    def __init__(
        self, settings: Settings, emit: Emit | None = None, store: ResultStore | None = None
    ) -> None:
        """Take the roots and the memory budget. Without roots every attachment is refused.

        `store` has the requests that are too large for Redis.
        """
        self._emit = emit
        self._reported: set[tuple[str, str]] = set()
        self._roots = Roots.of(settings)
        self._budget = Budget(settings.attach_memory_bytes)
        self._readers = Readers()
        self._store = store

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
            corrections: list[MediaTypeCorrected] = []
            whole = await self._aside(lambda: load(body, found, corrections.append))
            self._report(corrections)
            held -= self._budget.give(held - held // WHILE_LOADING)
            yield whole
        finally:
            self._budget.give(held)

    @asynccontextmanager
    async def stored(self, at: StoredBody) -> AsyncIterator[bytes | None]:
        """Yield a request that is in the store; None when it was deleted.

        Its memory counts against the budget until the block ends. Raises what the store raises.
        """
        if self._store is None:
            raise StoreUnavailableError("the results store is not open here")
        held = await self._budget.take(min(at.bytes, MAX_REQUEST) * WHILE_LOADING)
        try:
            found = await MessageBatches(self._store).bodies(at.batch, [at.seq])
            yield found[at.seq].body if at.seq in found else None
        finally:
            self._budget.give(held)

    def _report(self, corrections: list[MediaTypeCorrected]) -> None:
        """Emit each kind of correction once: a whole batch may have the same wrong type."""
        for correction in corrections:
            kind = (correction.named, correction.actual)
            if self._emit is not None and kind not in self._reported:
                self._reported.add(kind)
                self._emit(correction)

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


def load(body: bytes, found: list[Found], corrected: Callable[[MediaTypeCorrected], None]) -> bytes:
    """Return `body` with the data of its files. `found` are the files in the order of `body`.

    A file is sent as what its first bytes say; `corrected` is called when the request names another
    type. Raises FileRefusedError and FileUnavailableError.
    """
    request = _decode(body)
    pieces: list[tuple[bytes, bytes]] = []
    for item, file in zip(references(request), found, strict=True):
        data = file.read()
        media_type = _true_type(item, data)
        encoded = item.encoded or media_type == PDF
        if media_type != item.media_type:
            item.source["media_type"] = media_type
            item.source["type"] = "base64" if encoded else "text"
            corrected(MediaTypeCorrected(named=item.media_type, actual=media_type, file=item.file))
        if media_type == TEXT:
            data = data.removeprefix(codecs.BOM_UTF8)  # a model would read it as a character
        mark = uuid.uuid4().hex
        item.source["data"] = mark
        quoted = base64.b64encode(data) if encoded else _encode(data.decode())[1:-1]
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


def _true_type(item: Reference, data: bytes) -> str:
    """Return the media type to send. Raises FileRefusedError for data that its block cannot have.

    An image may be any image and a text may be a PDF, whatever type the request names.
    """
    expected = item.media_type
    if not data:
        raise _refused(item, "is empty")
    actual = media_type_of(data)
    if expected == TEXT and not data.startswith(b"%PDF-"):
        actual = None  # a text may be about PDFs
    if actual and (expected in IMAGE_TYPES) == (actual in IMAGE_TYPES):
        return actual
    if expected != TEXT:
        what = actual or other_type_of(data)
        raise _refused(item, f"is not {expected}" + (f" but {what}" if what else ""))
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise _refused(item, f"is not UTF-8 (byte {error.start:,})") from None
    return TEXT


def _refused(item: Reference, problem: str) -> FileRefusedError:
    message = f"{item.path}: {item.file} {problem}"
    return FileRefusedError("attachment_refused", message, "correct the file, or its media_type")


def _require_size(size: int) -> None:
    if size > MAX_REQUEST:
        message = f"with its attachments the request is {size:,} bytes; allowed: {MAX_REQUEST:,}"
        raise FileRefusedError("attachment_too_large", message, FIX_SIZE)
