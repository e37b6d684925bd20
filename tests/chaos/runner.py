"""Runs rows of the table, several at once, each in its own process."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import signal
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from tests.chaos.faults import ROWS
from tests.chaos.report import Report, table


async def once(name: str, seed: int, scale: int) -> Report:
    """Run one fault with one seed. An exception counts as a missed bar, so the other rows run."""
    with tempfile.TemporaryDirectory(prefix="nm-") as folder:
        try:
            report = await ROWS[name].fault(Path(folder), random.Random(seed), scale)
        except Exception as error:  # noqa: BLE001 - the other rows go on
            report = Report(fault=name, jobs=0, missed=[repr(error)])
    report.fault += f" #{seed}"
    return report


def run(name: str, seed: int, scale: int) -> Report:
    """Run `once` in this process; every row has its own process, because rows patch clocks."""
    return asyncio.run(once(name, seed, scale))


def run_all(tasks: list[tuple[str, int, int]], parallel: int) -> list[Report]:
    """Run tasks, `parallel` at a time, and return their reports in the order of the tasks."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(parallel, mp_context=spawn, max_tasks_per_child=1) as pool:
        running = {pool.submit(run, *task): task for task in tasks}
        done = {}
        try:
            for future in as_completed(running):
                done[running[future]] = future.result()
                print(table([future.result()]).splitlines()[-1], flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [done[task] for task in tasks]


def interrupt(*_: object) -> None:
    """Treat SIGTERM as Ctrl-C: the running rows end their servers and workers, then exit."""
    for child in multiprocessing.active_children():
        if child.pid is not None:
            os.kill(child.pid, signal.SIGINT)
    raise KeyboardInterrupt
