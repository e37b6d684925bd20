"""Odd wire payloads, the ids of their jobs and the queues that they stand in."""

from __future__ import annotations

import pickle
import random
from dataclasses import dataclass
from typing import Any, Final

from nightmill.queue import keys
from tests.fuzz import odd
from tests.rig import hello

MODEL: Final = "payload-model"
BATCH: Final = "odd"
TOO_LARGE: Final = 1_500_000


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A payload as it is put into Redis."""

    id: bytes
    queue: bytes
    payload: bytes


def planted(rng: random.Random, number: int) -> Planted:
    """Return an odd payload, or an odd id, or an odd queue."""
    payload, job_id, queue = _valid(number), f"odd-{number}".encode(), keys.QUEUE.encode()
    what = rng.random()
    if what < 0.1:
        job_id = _odd_name(rng) + f"-{number}".encode()
    elif what < 0.2:
        queue = b"%b:%b:%b" % (queue, _odd_name(rng).replace(b":", b""), _odd_name(rng))
    else:
        payload = _odd_payload(rng, number)
        if rng.random() < 0.5:
            queue = keys.batch_queue(BATCH, MODEL).encode()
    return Planted(id=job_id, queue=queue, payload=payload)


def _odd_name(rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return bytes(rng.choices(range(1, 256), k=rng.choice((1, 8, 700))))
    return odd.text(rng).encode(errors="surrogatepass") or b"-"


def _valid(number: int) -> bytes:
    return odd.encoded(random.Random(number), envelope(number))


def envelope(number: int) -> dict[str, Any]:
    """Return a valid payload as docs/wire.md describes it."""
    params = {"model": MODEL, **hello(f"payload {number}"), "temperature": 0.5, "metadata": {}}
    job = {"params": params, "custom_id": f"{number}", "batch": BATCH, "seq": number, "run": 0}
    job["expires_at"] = 4_000_000_000_000
    return {"t": None, "f": "generate", "a": [], "k": job, "et": 1_700_000_000_000}


def _odd_payload(rng: random.Random, number: int) -> bytes:
    valid = envelope(number)
    match rng.randint(0, 9):
        case 0:
            return odd.damaged(rng, _valid(number))
        case 1:
            return pickle.dumps(valid, protocol=rng.randint(0, 5))
        case 2:
            return b"[" * rng.choice((50, 5_000, 200_000))
        case 3:
            valid["k"]["params"]["messages"][0]["content"] = "a" * TOO_LARGE
            return odd.encoded(rng, valid)
        case 4:
            return odd.encoded(rng, odd.value(rng))
        case _:
            return odd.encoded(rng, _with_odd_fields(rng, valid))


def _with_odd_fields(rng: random.Random, valid: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON
    """Change the envelope, the job, or anything."""
    where = rng.random()
    if where < 0.4:
        valid["k"][rng.choice(list(valid["k"]))] = odd.value(rng)
    elif where < 0.6:
        valid[rng.choice(list(valid))] = odd.value(rng)
    else:
        return odd.changed(rng, valid)
    return valid
