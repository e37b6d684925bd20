"""A process that records groups and says so: writer.py STORE BATCH GROUPS ROWS_A_GROUP."""

from __future__ import annotations

import asyncio
import sys

from nightmill.store import ResultStore
from tests.producer.store.samples import numbered


async def main(where: str, batch: str, groups: int, rows: int) -> None:
    """Record `groups` groups of `rows` new rows; print each group's number once committed."""
    async with ResultStore.open(where) as store:
        for group in range(groups):
            first = group * rows + 1
            taken = await store.record(
                [numbered(seq, batch=batch) for seq in range(first, first + rows)]
            )
            if taken != rows:
                raise SystemExit(f"{taken} of {rows} rows taken")
            print(group, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
