"""Turns requests into jobs that are ready to send: id, queue, payload, script arguments. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import IntEnum
from itertools import groupby, islice
from operator import attrgetter
from typing import TYPE_CHECKING

import msgspec

from nightmill.enqueue.tracing import traceparent
from nightmill.errors import BatchEndedError, InvalidParamsError, SettingsError
from nightmill.params import (
    BESIDE,
    Defaults,
    Preflight,
    api_in,
    api_of,
    check,
    decode,
    is_provider,
    refused,
)
from nightmill.queue import keys, wire
from nightmill.queue.webhooks import require_url
from nightmill.records.acceptance import acceptance, to_text
from nightmill.records.api import NO_API, Api
from nightmill.records.bounds import require_name
from nightmill.records.counts import ENDED
from nightmill.records.job import Job, is_rehearsal, now_ms, rehearsal_of
from nightmill.records.message import NULL
from nightmill.records.stop_reasons import counted_as
from nightmill.records.stored_body import LARGEST
from nightmill.settings import Settings
from nightmill.sources import named_beside, request_of, row_of

if TYPE_CHECKING:
    from nightmill.records.acceptance import Accepted
    from nightmill.sources import Line, Template
    from nightmill.store import Stored

CHUNK = 500
"""Jobs of one script call: more would hold up Redis for other clients."""


def defaults_of(settings: Settings) -> Defaults:
    """Return the model and max_tokens of requests that name none, the size limit, the preflight.

    Where Redis is shared and BASE_URL is not set here, the endpoint is not known: workers elsewhere
    may have another one.
    """
    known = settings.redis_url is None or "base_url" in settings.model_fields_set
    preflight = Preflight(
        version=settings.anthropic_version,
        provider=known and not settings.rehearsal and is_provider(settings.endpoint),
    )
    return Defaults(
        model=settings.model,
        max_tokens=settings.max_tokens,
        max_payload_bytes=settings.max_payload_bytes,
        preflight=preflight if settings.preflight else None,
    )


def defaults_of_queued(settings: Settings) -> Defaults:
    """Return the same for requests that are queued: another producer may allow larger ones."""
    return msgspec.structs.replace(defaults_of(settings), max_payload_bytes=LARGEST)


def defaults_with(defaults: Defaults, version: str | None, betas: object) -> Defaults:
    """Return `defaults` for requests that are to have this API version and these betas."""
    api = api_of(version, betas)
    return msgspec.structs.replace(defaults, api=api.or_else(defaults.api)) if api else defaults


class Taken(IntEnum):
    """What enqueue.lua did with a job, as it answers it."""

    ALREADY_QUEUED = 0
    ENQUEUED = 1
    ALREADY_FINISHED = 2


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to one enqueue.

    `taken` says whether the job is new; `warnings` are notes on the request, for a person.
    """

    job_id: str
    taken: Taken
    warnings: tuple[str, ...] = ()
    differs: bool = False
    """Whether the job is queued or in flight with another request, which it keeps."""

    @property
    def new(self) -> bool:
        """Whether this call put the job in the queue; False: it is queued or finished already."""
        return self.taken is Taken.ENQUEUED


class Ready(msgspec.Struct, frozen=True):
    """A validated and encoded job, ready to send; `batch` is "" for a single job."""

    job_id: str
    queue: str
    batch: str
    payload: bytes
    warnings: tuple[str, ...] = ()
    again: bool = False
    """Enqueue it even if Redis has a result of its id: the store has been looked up instead."""
    leaves: str = ""
    """The state in which its earlier run ended; "" for a first run."""
    leaves_stop: str = ""
    """The name that the answer of its earlier run is counted under, see records.stop_reasons."""


def prepare(  # noqa: PLR0913 - a job has this many facets, each optional and by keyword
    params: Mapping[str, object] | bytes,
    defaults: Defaults,
    at: int,
    *,
    job_id: str | None = None,
    batch: str | None = None,
    custom_id: str | None = None,
    seq: int | None = None,
    expires: datetime | None = None,
    on_complete: str | None = None,
    api: Api = NO_API,
    accept: Accepted | None = None,
    payer: str | None = None,
) -> Ready:
    """Validate a request and encode its job, enqueued `at` (epoch ms).

    `job_id` defaults to `<batch>:<custom_id>` in a batch and to a UUIDv7 otherwise; `expires` is
    a deadline by Redis's clock. `api` is for a request that names no version, and adds its betas.
    Raises InvalidParamsError and InvalidAcceptanceError, naming the field.
    """
    check_batch_name(batch)
    if on_complete is not None:
        _check_on_complete(on_complete, batch)
    request, own_id, own_api = _unpacked(params)
    api = own_api.or_else(api).or_else(defaults.api)
    custom_id = own_id if custom_id is None else custom_id  # type: ignore[assignment]
    if custom_id is not None and not isinstance(custom_id, str):
        raise refused("custom_id", custom_id, "a string")
    require_name("custom_id", custom_id)
    require_name("job_id", job_id)
    checked = check(request, defaults, api)
    job = Job(
        params=msgspec.Raw(checked.body),
        custom_id=custom_id,
        batch=batch,
        seq=seq,
        expires_at=None if expires is None else int(expires.timestamp() * 1000),
        on_complete=on_complete,
        anthropic_version=api.anthropic_version,
        anthropic_beta=api.anthropic_beta,
        accept=_accepting(accept) if accept else NULL,
        traceparent=traceparent(),
    )
    if job_id is None:
        named = batch is not None and custom_id is not None
        job_id = keys.job_id(batch, custom_id) if named else wire.new_job_id()  # type: ignore[arg-type]
    return Ready(
        job_id,
        keys.queue_of(batch, checked.model),
        batch or keys.SINGLES,
        wire.encode_job(job, at, payer),
        checked.warnings,
    )


def _accepting(accept: Accepted) -> msgspec.Raw:
    text = to_text(acceptance(**accept))
    return NULL if text is None else msgspec.Raw(text)


def _check_on_complete(url: str, batch: str | None) -> None:
    if batch is not None:
        raise refused("on_complete", url, "single jobs only", fix="use Batch.on_complete")
    try:
        require_url(url, "on_complete")
    except SettingsError as error:
        raise InvalidParamsError("", str(error)) from None


def prepare_items(
    items: Iterable[Mapping[str, object]],
    first: int,
    defaults: Defaults,
    batch: str | None,
    template: Template | None,
) -> Iterator[Ready]:
    """Prepare a chunk of many requests: bare params, `{"prompt"}` or `{"custom_id", "params"}`.

    With a `template` they are rows of any columns. `first` is the number of the chunk's first
    request, from 1. Raises InvalidParamsError that names a request's number as its line.
    """
    at = now_ms()
    for number, item in enumerate(items, first):
        try:
            if template is None:
                yield prepare(item, defaults, at, batch=batch)
            else:
                row = row_of(item, number)
                custom_id, params, warnings = template.job(row)
                api = api_in(named_beside(row))
                job = prepare(params, defaults, at, batch=batch, custom_id=custom_id, api=api)
                yield msgspec.structs.replace(job, warnings=(*warnings, *job.warnings))
        except InvalidParamsError as error:
            raise error.at_line(number) from None


def _unpacked(item: Mapping[str, object] | bytes) -> tuple[Mapping[str, object], object, Api]:
    """Return the request in any of the shapes that a source's row may have, and what is beside.

    That is its custom_id, and the API version and betas.
    """
    found = decode(item) if isinstance(item, bytes) else item
    if type(found) is not dict and not isinstance(found, Mapping):
        raise refused("", found, "an object, the request")
    custom_id, api = found.get("custom_id"), api_in(found)
    if "params" in found or "prompt" in found:
        return request_of(found), custom_id, api
    if custom_id is None and BESIDE.isdisjoint(found):
        return found, None, api
    beside = {*BESIDE, "custom_id"}
    return {key: value for key, value in found.items() if key not in beside}, custom_id, api


def ready_line(  # noqa: PLR0913 - a line, its batch and what is known of its earlier runs
    line: Line,
    batch: str,
    at: int,
    stored: Stored | None = None,
    *,
    looked_up: bool = True,
    run: int = 0,
) -> Ready:
    """Encode the job of a source's line, enqueued `at` (epoch ms); its reader has validated it.

    With `stored`, the row of its earlier run, it becomes the job's next run. `looked_up` means
    that the store was asked and has no row of this run: a result that Redis keeps does not count.
    """
    job = Job(
        params=msgspec.Raw(line.body),
        custom_id=line.custom_id,
        batch=batch,
        seq=line.number,
        run=stored.run + 1 if stored else run,
        anthropic_version=line.api.anthropic_version,
        anthropic_beta=line.api.anthropic_beta,
    )
    return Ready(
        keys.job_id(batch, line.custom_id),
        keys.batch_queue(batch, line.model),
        batch,
        wire.encode_job(job, at),
        line.warnings,
        again=looked_up,
        leaves=stored.status if stored else "",
        leaves_stop=counted_as(stored.status, stored.stop_reason) if stored else "",
    )


def check_batch_name(batch: str | None) -> None:
    """Raise InvalidParamsError unless `batch` can name a batch; None means a single job.

    A colon is refused because it separates the batch from the custom_id in a job's id.
    """
    require_name("batch", batch)
    if batch is not None and (not batch or ":" in batch or not batch.isprintable()):
        problem = f"{batch!r} cannot name a batch: use printable characters and no colon"
        raise InvalidParamsError("batch", problem)


def batch_for(batch: str | None, *, rehearsal: bool) -> str | None:
    """Return the batch that jobs of `batch` go to: in a rehearsal, that of the rehearsal.

    Raises InvalidParamsError for a name that is no batch's, and, unless this is a rehearsal, for a
    name that is kept for rehearsals.
    """
    check_batch_name(batch)
    if rehearsal:
        return rehearsal_of(batch)
    if is_rehearsal(batch):
        problem = (
            f"{batch!r} is kept for a rehearsal: rehearse with --simulate, or use another name"
        )
        raise InvalidParamsError("batch", problem)
    return batch


def script_args(jobs: Sequence[Ready], delay_ms: int = 0) -> list[str | bytes | int]:
    """Return the arguments of enqueue.lua for `jobs`, a group of `by_queue`."""
    first = jobs[0]
    args: list[str | bytes | int] = [
        first.queue,
        first.batch,
        delay_ms,
        int(first.again),
        first.leaves,
        first.leaves_stop,
    ]
    for job in jobs:
        args.append(job.job_id)
        args.append(job.payload)
    return args


def by_queue(jobs: Iterable[Ready]) -> Iterator[list[Ready]]:
    """Cut `jobs` into script calls, in order: one queue and kind and at most CHUNK jobs each."""
    for _, run in groupby(jobs, key=attrgetter("queue", "again", "leaves", "leaves_stop")):
        while chunk := list(islice(run, CHUNK)):
            yield chunk


def receipts(jobs: Sequence[Ready], codes: bytes) -> list[Receipt]:
    """Read the answer of enqueue.lua. Raises BatchEndedError when the batch takes no jobs."""
    if (flag := codes.decode()) in ENDED:
        raise BatchEndedError(jobs[0].batch, flag)
    return [
        Receipt(job_id=job.job_id, taken=Taken(code - 48), warnings=job.warnings)
        for job, code in zip(jobs, codes, strict=True)
    ]
