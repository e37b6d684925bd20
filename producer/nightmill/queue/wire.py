"""The wire format: arq's job and result dicts as JSON. docs/wire.md describes it. No I/O.

JSON, never pickle: `load` refuses a pickle, because loading one runs code. A plain arq producer
passes `dump` and `load` as its job_serializer and job_deserializer.
"""

from __future__ import annotations

import asyncio
import uuid
from functools import cache
from importlib.resources import files
from typing import Final

import msgspec

from nightmill.errors import JobFailedError, PayloadError
from nightmill.queue import keys
from nightmill.records import stop_reasons
from nightmill.records.bounds import MAX_NAME_BYTES, DateMs, excess
from nightmill.records.job import REHEARSAL, Job, now_ms
from nightmill.records.state import BATCH_TRANSITIONS, BatchState

FUNCTION = "generate"

_ERROR_TAG = "$error"
_CANCELLED = "cancelled"
_SURELY_SHORT: Final = MAX_NAME_BYTES // 4
"""Names of so many characters together need no closer look: a character has 4 bytes at most."""


class Envelope(msgspec.Struct, frozen=True):
    """arq's job dict. docs/wire.md says what each key may hold."""

    k: msgspec.Raw
    """Keyword arguments: a Job."""
    et: DateMs
    """When it was enqueued, epoch ms."""
    f: str = FUNCTION
    """Name of the function."""
    a: tuple[msgspec.Raw, ...] = ()
    """Arguments: none, or the request instead of `k.params`."""
    t: int | None = None
    """arq's number of the try; not used."""


class _Outgoing(msgspec.Struct, frozen=True, kw_only=True):
    """The same dict for encoding, keys in arq's order. Claims recognise the first three keys."""

    t: None
    f: str
    p: str | msgspec.UnsetType
    """The key of the gateway whose budget pays."""
    a: tuple[()]
    k: Job
    et: int


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """arq's result dict (serialize_result in arq/jobs.py). Times are epoch ms."""

    t: int
    """Attempts that counted."""
    f: str = FUNCTION
    """Name of the function."""
    a: tuple[()] = ()
    """Arguments; not kept."""
    k: dict[str, object] = msgspec.field(default_factory=dict)
    """Keyword arguments; not kept."""
    et: int
    """When the job was enqueued."""
    s: bool
    """Whether the job succeeded."""
    r: object
    """The Message, a marker or an error: see docs/wire.md."""
    st: int
    """When its first call started."""
    ft: int
    """When the job ended."""
    q: str
    """Its queue."""
    id: str
    """Its job id."""


def _encode_error(value: object) -> dict[str, str]:
    if isinstance(value, asyncio.CancelledError):
        return failure(str(value), cancelled=True)
    if isinstance(value, Exception):
        return failure(f"{type(value).__name__}: {value}")
    message = f"cannot be JSON: {type(value).__name__}"
    raise NotImplementedError(message)


_SHARED: Final = {
    "counts": ("size",),
    "reconcile": ("size",),
    "enqueue": ("add_count",),
    "replace": ("add_count", "request"),
    "cancellation": ("add_count",),
    "move": ("flag",),
}
"""Scripts of lua/ -> the files that they use."""
ALLOW_OOM: Final = "#!lua flags=allow-oom\n"
"""First line of a script that also writes to a full Redis."""
_ALSO_WHEN_FULL: Final = ("feeder", "move", "cancellation", "reconcile", "store", "resume")
"""Scripts that hold a lock, note a few bytes or give memory back: a full Redis must take them."""

_encoder = msgspec.json.Encoder(enc_hook=_encode_error)
_envelope_decoder = msgspec.json.Decoder(Envelope)
_job_decoder = msgspec.json.Decoder(Job)


def encode_job(job: Job, enqueued_at: int, payer: str | None = None) -> bytes:
    """Return the payload of `job`; `enqueued_at` is epoch ms, `payer` a key with a budget."""
    paid_by = payer or msgspec.UNSET
    return _encoder.encode(_Outgoing(t=None, f=FUNCTION, p=paid_by, a=(), k=job, et=enqueued_at))


def decode_job(payload: bytes, job_id: str = "") -> tuple[Job, int]:
    """Return the job and when it was enqueued (epoch ms). Never runs code.

    A plain arq producer may pass the request as the first argument instead of `params`. Raises
    PayloadError, also when an id or the batch's name is too long for a store's index: `job_id` may
    be longer than that only where it is made of the two.
    """
    try:
        envelope = _envelope_decoder.decode(payload)
        job = Job(params=envelope.a[0]) if envelope.a else _job_decoder.decode(envelope.k)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        message = f"the payload is not a nightmill job: {error}"
        raise PayloadError(message) from None
    if len(job_id) + len(job.batch or "") + len(job.custom_id or "") > _SURELY_SHORT:
        _require_names(job, job_id)
    return job, envelope.et


def _require_names(job: Job, job_id: str) -> None:
    names = (("batch", job.batch), ("custom_id", job.custom_id), ("its id", job_id))
    for field, name in names:
        problem = excess(name)
        if problem and name != keys.job_id(job.batch or "", job.custom_id or ""):
            raise PayloadError(f"the payload is not a nightmill job: {field}: {problem}")


def encode_finished(finished: Finished) -> bytes:
    """Return the value of `arq:result:<id>`."""
    return _encoder.encode(finished)


def failure(message: str, *, cancelled: bool = False) -> dict[str, str]:
    """Return an exception as JSON holds it; `load` makes an exception of it again."""
    return {_ERROR_TAG: _CANCELLED if cancelled else "failed", "message": message}


def dump(value: dict[str, object]) -> bytes:
    """Serialise arq's dict: the job_serializer for ArqRedis."""
    return _encoder.encode(value)


def load(data: bytes) -> dict[str, object]:
    """Deserialise arq's dict: the job_deserializer for ArqRedis and Job. Rebuilds exceptions.

    Raises PayloadError when the bytes are not JSON (a pickle, say).
    """
    try:
        value: dict[str, object] = msgspec.json.decode(data, type=dict)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        message = f"not JSON, so not loaded: {error}"
        raise PayloadError(message) from None
    result = value.get("r")
    if isinstance(result, dict) and _ERROR_TAG in result:
        value["r"] = _rebuild(result)
    return value


def _rebuild(error: dict[str, str]) -> BaseException:
    message = error.get("message", "")
    if error[_ERROR_TAG] == _CANCELLED:
        return asyncio.CancelledError(message)
    return JobFailedError(message)


def new_job_id() -> str:
    """Return a UUIDv7 (RFC 9562). Such ids sort by time, so new rows go to the end of an index."""
    stamp = now_ms()
    noise = uuid.uuid4().int & ((1 << 74) - 1)
    high, low = noise >> 62, noise & ((1 << 62) - 1)
    return str(uuid.UUID(int=stamp << 80 | 7 << 76 | high << 64 | 2 << 62 | low))


@cache
def lua_prelude() -> str:
    """Return Lua locals for the names in `keys`, so scripts and Python use the same keys.

    STOP begins the fields that count stop reasons, of which a batch has MOST_STOPS at most.
    """
    names = {name: value for name, value in vars(keys).items() if name.isupper()}
    names["REHEARSAL"] = REHEARSAL
    names |= {"STOP": stop_reasons.FIELD, "MOST_STOPS": stop_reasons.MOST}
    return "".join(
        f"local {name} = {value!r}\n"
        for name, value in names.items()
        if isinstance(value, str | int)
    )


@cache
def script(name: str) -> str:
    """Return lua/<name>.lua with all that it uses."""
    first = ALLOW_OOM if name in _ALSO_WHEN_FULL else ""
    return first + lua_prelude() + "".join(map(part, (*_SHARED.get(name, ()), name)))


@cache
def part(name: str) -> str:
    """Return lua/<name>.lua, without the names in `keys`; workers' scripts use some of them too."""
    text = files("nightmill.queue").joinpath("lua", f"{name}.lua").read_text()
    return _batch_moves() + text if name == "flag" else text


def _batch_moves() -> str:
    """Return the table of a batch's states as a Lua function: only a move builds it."""
    moves = ", ".join(
        f"['{before} {move}'] = '{after}'"
        for (before, move), (after, _) in BATCH_TRANSITIONS.items()
    )
    states = ", ".join(f"{state} = true" for state in BatchState)
    return f"local function batch_moves() return {{ {moves}, states = {{ {states} }} }} end\n"
