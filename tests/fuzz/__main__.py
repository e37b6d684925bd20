"""`python -m tests.fuzz` feeds odd values to a worker; exit code 1 when an invariant breaks."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.epoch import run_epoch

SIZE = 200
"""Jobs of each kind in one epoch."""


async def run(seeds: list[str], minutes: float, size: int) -> int:
    """Run epochs until time is up, or those of `seeds`; return the exit code."""
    ends = time.monotonic() + 60 * minutes
    epochs, outcomes, odd, good, calls = 0, Counter[str](), 0, 0, 0
    while seeds or time.monotonic() < ends:
        seed = seeds.pop() if seeds else f"{random.SystemRandom().getrandbits(32)}"
        with tempfile.TemporaryDirectory(prefix="nm-") as folder:
            epoch = await run_epoch(seed, Path(folder), size)
        epochs, odd, good = epochs + 1, odd + epoch.odd, good + epoch.good
        calls, outcomes = calls + epoch.calls, outcomes + epoch.outcomes
        if epoch.problems:
            print(f"seed {seed}:", *epoch.problems, sep="\n  ")
            print(f"repeat it with: python -m tests.fuzz --size {size} --seed {seed}")
            return 1
        print(f"epoch {epochs}, seed {seed}: {odd:,} odd values, {good:,} good jobs", flush=True)
        if not minutes and not seeds:
            break
    print(f"{epochs} epochs, {odd:,} odd values, {good:,} good jobs, {calls:,} calls: no problem")
    print(
        "the odd jobs ended as:", *(f"{n:,} {name!a:.40}" for name, n in outcomes.most_common(40))
    )
    return 0


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long (10)")
    parser.add_argument("--seed", help="run only the epoch of this seed")
    parser.add_argument("--size", type=int, default=SIZE, help=f"jobs of each kind ({SIZE})")
    args = parser.parse_args()
    seeds = [args.seed] if args.seed else []
    return asyncio.run(run(seeds, 0 if seeds else args.minutes, args.size))


if __name__ == "__main__":
    sys.exit(main())
