"""How fast jobs are enqueued: one producer process, one server, append-only file on."""

from __future__ import annotations

from statistics import median
from typing import Final

from benchmarks.processes import contenders
from benchmarks.server import server
from benchmarks.table import Table
from benchmarks.work import Work

ROUNDS: Final = 3
JOBS: Final = {
    ("nightmill enqueue_many", 300): 100_000,
    ("nightmill JSONL file", 300): 100_000,
    ("arq enqueue_job", 300): 10_000,
    ("nightmill enqueue_many", 2000): 40_000,
    ("nightmill JSONL file", 2000): 40_000,
    ("arq enqueue_job", 2000): 10_000,
}
"""Way and bytes of one request -> number of jobs."""
Speed = tuple[float, float, float]
"""Jobs a second; CPU for each job of the producer and of the server, us."""


async def run_enqueue(*, quick: bool) -> Table:
    """Enqueue prompts of two sizes in three ways."""
    runs: dict[tuple[str, int], list[Speed]] = {key: [] for key in JOBS}
    for _ in range(1 if quick else ROUNDS):
        for (contender, size), jobs in JOBS.items():
            runs[contender, size].append(await _speed(contender, size, jobs // (4 if quick else 1)))
    return Table(
        title="enqueue",
        what="One producer process on one core. nightmill validates every request, arq does not.",
        heads=("way", "B a job", "jobs/s", "CPU us/job", "server CPU us/job"),
        rows=tuple(
            (way, f"{size:,}", *(f"{median(column):,.0f}" for column in zip(*speeds, strict=True)))
            for (way, size), speeds in runs.items()
        ),
    )


async def _speed(contender: str, size: int, jobs: int) -> Speed:
    """Return how fast `jobs` prompts of `size` bytes are enqueued."""
    async with server() as db:
        work = Work(
            contender=contender,
            slots=1,
            jobs=jobs,
            size=size,
            redis_url=db.url,
            data_dir=str(db.folder),
        )
        async with contenders([work], db.folder) as producers:
            await producers.ready()
            async with db:
                producers.start()
                (spent,) = await producers.spent()
        return jobs / spent.wall_s, spent.cpu_s / jobs * 1e6, db.cpu_s / jobs * 1e6
