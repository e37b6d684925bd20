"""The results store alone: 2 kB rows a second, and the memory of a large export.

`python -m benchmarks.store [--rows N] [--export-rows N]` prints one line for each
measurement. PostgreSQL runs from the wheel that the tests use.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from benchmarks.usage import peak_rss_mb
from nightmill.export import export
from nightmill.records.message import Message
from nightmill.records.result import Attempt, Result, Usage
from nightmill.records.state import JobState
from nightmill.store import ResultStore
from tests.postgres import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nightmill.export import Format

GROUP: Final = 500
WRITERS: Final = 4
TEXT: Final = "All work and no play makes a long night. " * 40
PARAMS: Final = msgspec.Raw(b'{"messages":[{"role":"user","content":"Tell me of the night."}]}')
MESSAGE: Final = Message(
    msgspec.json.encode({"type": "message", "content": [{"type": "text", "text": TEXT}]})
)
FORMATS: Final[tuple[Format, ...]] = ("jsonl", "csv", "parquet")


def result(batch: str, seq: int) -> Result:
    """Return a result whose row is about 2 kB."""
    return Result(
        job_id=f"{batch}:line-{seq}",
        status=JobState.SUCCEEDED,
        batch=batch,
        custom_id=f"line-{seq}",
        seq=seq,
        model="claude-opus-4-6",
        params=PARAMS,
        message=MESSAGE,
        attempts=(Attempt(n=1, started_at=seq, outcome="succeeded", status=200),),
        attempt_count=1,
        usage=Usage(input_tokens=20, output_tokens=400),
        cost=0.0101,
        stop_reason="end_turn",
        finished_at=seq,
    )


def groups(batch: str, rows: int) -> Iterator[list[Result]]:
    """Yield `rows` results, GROUP of them at a time, as the committer does."""
    for first in range(1, rows + 1, GROUP):
        yield [result(batch, seq) for seq in range(first, min(first + GROUP, rows + 1))]


async def write(where: str, batch: str, rows: int) -> float:
    """Record `rows` results; return rows a second. Building the results is not counted."""
    spent = 0.0
    async with ResultStore.open(where) as store:
        for group in groups(batch, rows):
            began = time.perf_counter()
            stored = await store.record(group)
            spent += time.perf_counter() - began
            if stored != len(group):
                raise SystemExit(f"{stored} of {len(group)} rows were stored")
    return rows / spent


def write_at_once(where: str, rows: int) -> float:
    """Record `rows` results from each of WRITERS processes; return all rows a second."""
    command = [sys.executable, "-m", "benchmarks.store", "--write", where, "--rows", str(rows)]
    began = time.perf_counter()
    writers = [subprocess.Popen([*command, "--batch", f"w{n}"]) for n in range(WRITERS)]  # noqa: S603
    codes = [writer.wait() for writer in writers]
    if any(codes):
        raise SystemExit("a writer process failed; its error is above")
    return WRITERS * rows / (time.perf_counter() - began)


def export_alone(where: str, kind: Format, folder: Path) -> str:
    """Export batch `big` in a process of its own; return the line that it prints."""
    out = str(folder / f"out.{kind}")
    command = [sys.executable, "-m", "benchmarks.store", "--export", where, "--kind", kind]
    done = subprocess.run([*command, "--out", out], check=True, capture_output=True, text=True)  # noqa: S603
    Path(out).unlink()
    return done.stdout.strip()


async def export_here(where: str, kind: Format, out: str) -> None:
    """Export, then print the rows a second and the peak memory of this process."""
    began = time.perf_counter()
    async with ResultStore.open(where) as store:
        rows = await export(store, "big", out, format=kind)
    took = time.perf_counter() - began
    print(f"{rows:,} rows, {rows / took:,.0f} rows/s, peak RSS {peak_rss_mb():.0f} MB")


def measure(rows: int, export_rows: int) -> None:
    """Print every measurement."""
    with tempfile.TemporaryDirectory(prefix="nm-", dir=".") as name, postgres() as server:
        folder = Path(name).resolve()
        big = str(folder / "big.db")
        for kind, one, many in (
            ("SQLite", str(folder / "one.db"), str(folder / "many.db")),
            ("PostgreSQL", server.create("one"), server.create("many")),
        ):
            print(f"{kind}: {asyncio.run(write(one, 'one', rows)):,.0f} rows/s, one writer")
            print(f"{kind}: {write_at_once(many, rows):,.0f} rows/s, {WRITERS} processes at once")
        asyncio.run(write(big, "big", export_rows))
        for form in FORMATS:
            print(f"export {form}: {export_alone(big, form, folder)}")


def main() -> None:
    """Measure; with a hidden option, be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000, help="rows that one process writes")
    parser.add_argument("--export-rows", type=int, default=1_000_000, help="rows of the export")
    for hidden in ("--write", "--batch", "--export", "--kind", "--out"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        asyncio.run(write(args.write, args.batch, args.rows))
    elif args.export:
        asyncio.run(export_here(args.export, args.kind, args.out))
    else:
        measure(args.rows, args.export_rows)


if __name__ == "__main__":
    main()
