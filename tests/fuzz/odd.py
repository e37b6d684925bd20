"""Odd values, and valid JSON with odd values in it."""

from __future__ import annotations

import json
import random
import string
from typing import Any, Final

NUMBERS: Final = (
    *(0, -1, 1, 2**31, 2**32, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 2**64, 10**17, 10**30),
    *(0.5, -0.0, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")),
)
TEXTS: Final = (
    *("", " ", "\0", "a\0b", "\ud800", "half \udfff pair", "\ufeff", "\U0010ffff", "\x85\u2028"),
    *("null", "NaN", "0", "-1", "1e999", "true", "good", "generate", "day:1", ":", "::", "*", "%s"),
    *("'; DROP TABLE results; --", "{{ text }}", "../../x", "\x1b[31m", "x" * 600, "é" * 300),
)


def text(rng: random.Random) -> str:
    """Return an odd text."""
    if rng.random() < 0.7:
        return rng.choice(TEXTS)
    letters = string.printable + "é☃\0\ud83d\U0001f600"
    return "".join(rng.choices(letters, k=rng.choice((1, 5, 80, 3000))))


def value(rng: random.Random, depth: int = 3) -> Any:  # noqa: ANN401 - any JSON
    """Return an odd JSON value."""
    kind = rng.random()
    if kind < 0.3:
        return rng.choice(NUMBERS)
    if kind < 0.6:
        return text(rng)
    if kind < 0.75 or not depth:
        return rng.choice((None, True, False, [], {}, [[]], [None], {"": None}))
    if kind < 0.8:
        return nested(rng.choice((20, 300)))
    if kind < 0.9:
        return [value(rng, depth - 1) for _ in range(rng.randint(1, 4))]
    return {text(rng): value(rng, depth - 1) for _ in range(rng.randint(1, 4))}


def nested(depth: int) -> Any:  # noqa: ANN401 - any JSON
    """Return arrays inside arrays."""
    found: Any = []
    for _ in range(depth):
        found = [found]
    return found


def changed(rng: random.Random, valid: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a copy of a JSON value with one to three odd changes at random places."""
    copy = json.loads(json.dumps(valid))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        holder = _holder(rng, copy)
        if holder is None:
            return value(rng)
        key = rng.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
        action = rng.random()
        if action < 0.75:
            holder[key] = value(rng)
        elif action < 0.9:
            del holder[key]
        elif isinstance(holder, dict):
            holder[text(rng)] = value(rng)
        else:
            holder.insert(key, value(rng))
    return copy


def _holder(rng: random.Random, root: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a random object or array inside `root` that is not empty; None when there is none."""
    found, todo = [], [root]
    while todo:
        each = todo.pop()
        if isinstance(each, dict | list) and each:
            found.append(each)
            todo += each.values() if isinstance(each, dict) else each
    return rng.choice(found) if found else None


def encoded(rng: random.Random, item: Any) -> bytes:  # noqa: ANN401 - any JSON
    """Return a value as JSON, escaped or as UTF-8; lone surrogates stay, as escapes or as bytes."""
    ascii_only = rng.random() < 0.5
    return json.dumps(item, ensure_ascii=ascii_only).encode(errors="surrogatepass")


def damaged(rng: random.Random, data: bytes) -> bytes:
    """Return bytes with a part cut out, doubled, replaced or inserted."""
    at, length = rng.randint(0, len(data)), rng.choice((1, 1, 2, 10, 1000))
    noise = bytes(rng.choices(b'\0\xff\xc3\x80{}[]",:\\\r\n0e', k=length))
    match rng.randint(0, 4):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + data[at + length :]
        case 2:
            return data[:at] + data[at : at + length] * 2 + data[at + length :]
        case 3:
            return data[:at] + noise + data[at + length :]
        case _:
            return data[:at] + noise + data[at:]
