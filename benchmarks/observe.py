"""What metrics, logs and history cost a job: the same run with all of them off, and on."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING, Final

from benchmarks.measure import Workload, measure
from benchmarks.table import Table
from nightmill.metrics.serving import FOLDER

if TYPE_CHECKING:
    from benchmarks.endpoint import Endpoint

OFF: Final = "NIGHTMILLS_OFF"
"""Set for a worker of the benchmarks that keeps no history and logs only errors."""
PAIRS: Final = 3
BAR: Final = 0.05


async def run_observe(endpoint: Endpoint, *, quick: bool) -> Table:
    """Run pairs in turns: off, on."""
    work = Workload(processes=1, slots=1000, latency_s=1, jobs=5_000 if quick else 15_000)
    rows = []
    for number in range(1 if quick else PAIRS):
        off = await _cpu_us(work, endpoint, {OFF: "1"})
        with tempfile.TemporaryDirectory(prefix="nightmill-metrics-") as folder:
            on = await _cpu_us(work, endpoint, {FOLDER: folder})
        more = f"{100 * (on / off - 1):+.1f} %"
        rows.append((str(number + 1), f"{off:.0f}", f"{on:.0f}", more, f"{100 * BAR:.0f} %"))
    return Table(
        title="observe",
        what="CPU of the worker for each job, 1,000 calls in flight: metrics, logs (info) and "
        "history off, then on.",
        heads=("pair", "off us/job", "on us/job", "more", "bar"),
        rows=tuple(rows),
    )


async def _cpu_us(work: Workload, endpoint: Endpoint, variables: dict[str, str]) -> float:
    os.environ.update(variables)
    try:
        return (await measure(work, "nightmill", endpoint)).cpu_us
    finally:
        for name in variables:
            del os.environ[name]
