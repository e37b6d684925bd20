"""Finds the requests of a source that changed since their ids were stored, queued or called."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from nightmill.errors import InvalidParamsError
from nightmill.params import decode
from nightmill.queue import keys
from nightmill.records.job import REHEARSED, request_hash

if TYPE_CHECKING:
    from nightmill.enqueue.unfinished import Unfinished
    from nightmill.sources import Line
    from nightmill.store import ResultStore, Stored

Changed = Literal["rerun", "keep"]
"""What to do with a request that has changed: call the new one, or keep the old one."""

Where = Literal["stored", "queued", "in flight"]
WHERE: Final[tuple[Where, ...]] = ("stored", "queued", "in flight")


def differs(
    line: Line,
    stored: Stored | None,
    job: Unfinished | None = None,
    *,
    rehearsal: bool,
    rerun: bool = False,
) -> bool:
    """Tell whether a line's id has another request: in its job, or without one in its row.

    `job` is queued or in flight, and will replace the row. A job that cannot be read, and its row,
    count as this request's, except when changed requests are to be called (`rerun`).
    """
    if job is not None:
        return rerun if job.request is None else job.request != line.request
    if stored is None:
        return False
    if stored.request_hash is None:
        return rerun
    return stored.request_hash != request_hash(line.body, line.api, rehearsal=rehearsal)


class Old(msgspec.Struct, frozen=True, kw_only=True):
    """What a changed line's id has now: its request (None: not known), and where it is."""

    where: Where
    request: bytes | None = None
    rehearsed: bool = False


class Changes:
    """Counts changed requests, and remembers the first of them."""

    def __init__(self) -> None:
        """Start with none."""
        self.counts: Counter[Where] = Counter()
        self.first: tuple[Line, Old] | None = None

    def __len__(self) -> int:
        """Return how many were found."""
        return self.counts.total()

    def add(self, line: Line, stored: Stored | None, job: Unfinished | None) -> None:
        """Count a line that differs from `job`, or without one from `stored`."""
        if job is not None:
            old = Old(where="in flight" if job.in_flight else "queued", request=job.request)
        else:
            hashed = (stored and stored.request_hash) or ""
            old = Old(where="stored", rehearsed=hashed.startswith(REHEARSED))
        self.counts[old.where] += 1
        if self.first is None:
            self.first = line, old

    def text(self, batch: str, kept: bytes | None) -> str:
        """Return what was found, for a person; `kept` is the request of the first one's row."""
        if self.first is None:
            return ""
        line, old = self.first
        places = [f"{self.counts[each]:,} {each}" for each in WHERE if self.counts[each]]
        many = f"{len(self):,} such jobs: {', '.join(places)}" if len(self) > 1 else "one such job"
        cause = (
            "it is from a rehearsal"
            if old.rehearsed
            else cause_of(old.request or kept, line.request)
        )
        return (
            f'line {line.number}: "{line.custom_id}" is {old.where} in batch "{batch}" with '
            f"another request: {cause} ({many})"
        )


async def explain(changes: Changes, batch: str, store: ResultStore | None) -> str:
    """Return the text of `changes`, with the request that the row of the first one keeps."""
    if changes.first is None:
        return ""
    line, _ = changes.first
    row = None if store is None else await store.get(keys.job_id(batch, line.custom_id))
    kept = None if row is None or row.params is None else row.api.beside(bytes(row.params))
    return changes.text(batch, kept)


def cause_of(before: bytes | None, now: bytes) -> str:
    """Say in which fields two requests differ."""
    try:
        old, new = decode(before or b""), decode(now)
    except InvalidParamsError:
        old, new = None, None
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return "the old one is not kept, so what differs is not known"
    names = [name for name in {**new, **old} if old.get(name) != new.get(name)]
    parts = [
        f"{name} was {old[name]!r} and is {new[name]!r} now" if _short(old, new, name) else name
        for name in names
    ]
    long = [part for part in parts if part in names]
    short = [part for part in parts if part not in names]
    if long:
        short.append(f"its {' and '.join(long)} changed")
    return "; ".join(short) or "its fields are in another order"


def _short(old: dict[str, object], new: dict[str, object], name: str) -> bool:
    """Tell whether both values of a field are shown: they are a number or a name."""
    return all(isinstance(each.get(name), str | int | float) for each in (old, new)) and (
        name != "system"
    )


CHOICES: Final = (
    "--changed rerun calls the new requests: queued ones are replaced, those in flight run again "
    "when their calls have ended, stored ones are paid for again; --changed keep leaves all as it "
    "is; --batch NAME starts a new batch"
)
