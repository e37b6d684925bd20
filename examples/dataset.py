"""Generate a small dataset: prompts from Python become question-and-answer pairs.

    python examples/dataset.py

Prompts come from an iterable, so there may be a million of them. Run it again after an
interruption. A pair that is stored is not paid for twice.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from local_fleet import local_fleet

from nightmill import JobState, Producer
from nightmill.store import ResultStore

TOPICS = ("tides", "yeast", "glass", "bridges", "maps", "bees", "printing", "salt")
LEVELS = ("a child of eight", "a curious adult", "a first-year student", "an expert")
KINDS = ("one question and its answer", "a riddle and its solution", "a common error, corrected")
BATCH = "dataset"
OUT = Path("dataset.jsonl")


def requests() -> Iterator[dict[str, object]]:
    """Yield one request for each pair. Enqueueing the same custom_id twice is a no-op."""
    for topic, level, kind in product(TOPICS, LEVELS, KINDS):
        yield {
            "custom_id": f"{topic}/{level}/{kind}",
            "system": "You write training data. Answer with the pair alone.",
            "messages": [{"role": "user", "content": f"Write {kind} about {topic} for {level}."}],
            "max_tokens": 300,
        }


async def main() -> int:
    """Enqueue, wait, write the file; return how many pairs are missing."""
    async with local_fleet() as settings, Producer(settings=settings) as producer:
        receipts = await producer.enqueue_many(requests(), batch=BATCH)
        sys.stderr.write(f"{sum(receipt.new for receipt in receipts)} new\n")
        batch = producer.batch(BATCH)  # in a rehearsal, its name is dataset@rehearsal
        counts = await batch.wait()
    async with ResultStore.open(settings.store_at) as store:
        with OUT.open("w", encoding="utf-8") as file:  # noqa: ASYNC230 - nothing else runs here
            async for row in store.stream(batch.name, statuses={JobState.SUCCEEDED}):
                topic, level, kind = (row.custom_id or "").split("/")
                pair = {"topic": topic, "level": level, "kind": kind, "text": row.text}
                file.write(json.dumps(pair, ensure_ascii=False) + "\n")
    missing = counts.terminal - counts.succeeded
    sys.stderr.write(f"{counts.succeeded} pairs in {OUT}, {missing} missing\n")
    return missing


if __name__ == "__main__":
    sys.exit(min(1, asyncio.run(main())))
