"""What `status --watch` costs with many batches: share of a core, and Redis commands a second.

`python -m benchmarks.watch [--batches N] [--seconds S]` prints a row. Commands are those that
the command sends, without the calls inside a script.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import pty
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from redis import Redis

from benchmarks.table import Table
from nightmill.queue import keys
from nightmill_worker.machine.embedded import embedded_server

NIGHTMILL: Final = Path(sys.executable).with_name("nightmill")
RUNNING: Final = 20
START_S: Final = 4.0


def fill(redis: Redis, batches: int) -> None:
    """Make batches that are done, and RUNNING that are not."""
    with redis.pipeline(transaction=False) as pipe:
        for number in range(batches):
            name = f"batch-{number:05}"
            left = 10 if number < RUNNING else 0
            pipe.sadd(keys.BATCHES, name)
            fields = {"created_at": number + 1, "total": 1000, "succeeded": 1000 - left}
            fields |= {"input_tokens": 1000, "output_tokens": 1000, "nanodollars": 10**9}
            pipe.hset(keys.BATCH + name, mapping={k: str(v) for k, v in fields.items()})
            if left:
                queue = keys.batch_queue(name, "m")
                pipe.sadd(keys.QUEUES_OF + name, queue)
                pipe.zadd(queue, {f"{name}:{n}": n for n in range(left)})
        pipe.execute()


def count(url: str, seconds: float) -> int:
    """Return how many commands clients send meanwhile, without the calls of scripts."""
    ended = time.monotonic() + seconds
    number = 0
    with Redis.from_url(url, socket_timeout=seconds) as redis, redis.monitor() as monitor:
        while time.monotonic() < ended:
            number += monitor.next_command()["client_type"] != "lua"
    return number


def cpu_s(pid: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def drain(terminal: int) -> None:
    """Read what is drawn, as a terminal does."""
    with suppress(OSError):
        while os.read(terminal, 65536):
            pass


def measure(url: str, folder: Path, batches: int, seconds: float) -> tuple[str, ...]:
    """Return how many batches, percent of a core, Redis commands a second."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTMILL_")}
    env |= {"NIGHTMILL_REDIS_URL": url, "TERM": "xterm-256color", "NIGHTMILL_DATA_DIR": str(folder)}
    ours, theirs = pty.openpty()
    command = [str(NIGHTMILL), "status", "--watch"]
    process = subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs)  # noqa: S603
    os.close(theirs)
    threading.Thread(target=drain, args=(ours,), daemon=True).start()
    time.sleep(START_S)
    cpu, began = cpu_s(process.pid), time.monotonic()
    commands = count(url, seconds)
    took = time.monotonic() - began
    used = cpu_s(process.pid) - cpu
    process.send_signal(signal.SIGINT)
    process.wait(10)
    return f"{batches:,}", f"{100 * used / took:.1f}", f"{commands / took:.1f}"


def watched(batches: int, seconds: float) -> Table:
    """Watch for some seconds on a terminal that nobody looks at."""
    with tempfile.TemporaryDirectory(prefix="nm-") as home, embedded_server(Path(home)) as url:
        fill(Redis.from_url(url), batches)
        row = measure(url, Path(home), batches, seconds)
    return Table(
        title="watch",
        what="`nightmill status --watch`; bars: 5 % of a core, 20 Redis commands/s.",
        heads=("batches", "% of a core", "Redis commands/s"),
        rows=(row,),
    )


async def run_watch(*, quick: bool) -> Table:
    """Return the table; a quick one takes less time."""
    return await asyncio.to_thread(watched, 1_000, 5.0 if quick else 30.0)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.watch", description=__doc__)
    parser.add_argument("--batches", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=30.0)
    args = parser.parse_args()
    print(watched(args.batches, args.seconds))


if __name__ == "__main__":
    main()
