"""Label 3,000 reviews: a DataFrame with a typed column for each field of a pydantic class.

    python examples/label.py          # or fewer of them: python examples/label.py 50

Answers that are not such JSON are asked for again, with what is wrong. Run it again after an
interruption: a label that is stored is not paid for twice.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Literal

import pandas as pd
from local_fleet import local_fleet
from pydantic import BaseModel

from nightmill import Producer, Template


class Label(BaseModel):
    """What each review gets."""

    sentiment: Literal["positive", "negative", "mixed"]
    about: Literal["price", "taste", "delivery"]
    complaint: bool


REVIEWS = pd.DataFrame(
    {"id": f"r{n}", "text": f"Box {n} came late, but I like it."} for n in range(3_000)
)
ASK = Template(prompt="What does this review say?\n\n{{ text }}", id="id")


async def main(count: int) -> pd.DataFrame:
    """Label `count` reviews; return them with their labels."""
    reviews = REVIEWS.head(count)
    async with local_fleet() as settings, Producer(settings=settings) as producer:
        batch = producer.batch("reviews", schema=Label)
        await batch.accept(schema=Label, structured=True)
        await producer.feed(reviews, batch="reviews", template=ASK)
        await batch.wait()
        found = [row async for row in batch.results(statuses={"succeeded"})]
    labels = pd.DataFrame({"id": row.custom_id, **row.parsed.model_dump()} for row in found)
    return reviews.merge(labels, on="id", how="left")


if __name__ == "__main__":
    labelled = asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 3_000))
    print(labelled.head(10).to_string())
    print(labelled.dtypes.to_string())
