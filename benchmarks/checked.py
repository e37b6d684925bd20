"""What a schema costs: the check of an answer, from its Message to the verdict."""

from __future__ import annotations

import time
from statistics import median
from typing import Final

import msgspec

from benchmarks.table import Table
from nightmill.checked.outputs import problem_of
from nightmill.records.acceptance import Acceptance, acceptance

ANSWERS: Final = 10_000
ROUNDS: Final = 3
BAR_US: Final = 30
WORDS: Final = "the parcel came late and the box was open but all of it was there and good"
ITEM: Final = {
    "type": "object",
    "properties": {
        "label": {"enum": ["positive", "negative", "mixed"]},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
        "quote": {"type": "string", "maxLength": 200},
    },
    "required": ["label", "stars", "quote"],
    "additionalProperties": False,
}
SCHEMA: Final = {
    "type": "object",
    "properties": {"summary": {"type": "string"}, "items": {"type": "array", "items": ITEM}},
    "required": ["summary", "items"],
}


async def run_checked(*, quick: bool) -> Table:
    """Check answers of 2 kB that are JSON, fenced JSON, and JSON in prose."""
    count = ANSWERS // 10 if quick else ANSWERS
    accept = acceptance(schema=SCHEMA)
    rows = []
    for name, text in (("JSON", "{}"), ("fenced", "```json\n{}\n```"), ("prose", "So: {}\nBye.")):
        answers = [_answer(n, text) for n in range(count)]
        cpu_us = median(_checked(answers, accept) for _ in range(ROUNDS))
        size = sum(map(len, answers)) // count
        rows.append((name, f"{count:,}", f"{size:,}", f"{cpu_us:.1f}", str(BAR_US)))
    return Table(
        title="checked",
        what="The check of an answer against a schema: find the JSON, read it, validate it.",
        heads=("answers", "number", "bytes", "CPU us/answer", "bar us"),
        rows=tuple(rows),
    )


def _checked(answers: list[bytes], accept: Acceptance) -> float:
    """Return the CPU time of one check, us. Raises AssertionError for an answer that fails."""
    problems = 0
    began = time.process_time()
    for answer in answers:
        problems += problem_of(answer, accept)[1] is not None
    took = time.process_time() - began
    if problems:
        raise AssertionError(f"{problems} of {len(answers)} answers did not pass")
    return took / len(answers) * 1e6


def _answer(number: int, text: str) -> bytes:
    """Return a Message whose text is 2 kB of JSON, in `text`."""
    quote = {"label": "mixed", "stars": 1 + number % 5, "quote": f"{number} {WORDS}"}
    output = msgspec.json.encode({"summary": WORDS * 3, "items": [quote] * 14}).decode()
    block = {"type": "text", "text": text.replace("{}", output)}
    usage = {"input_tokens": 300, "output_tokens": 500}
    return msgspec.json.encode(
        {"id": f"msg_{number}", "role": "assistant", "content": [block], "usage": usage}
    )
