"""Files of processes that end at any moment: a scrape is answered all the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nightmill.metrics.processes import ProcessesCollector

WRITE = """
from prometheus_client import CollectorRegistry, Counter, Gauge
registry = CollectorRegistry()
Counter("a", "a", registry=registry).inc(3)
Gauge("b", "b", registry=registry, multiprocess_mode="livesum").set(2)
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with the files of one process."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    subprocess.run([sys.executable, "-c", WRITE], check=True)
    return tmp_path


def values(folder: Path) -> dict[str, float]:
    """Return what a scrape shows."""
    return {
        sample.name: sample.value
        for metric in ProcessesCollector(str(folder)).collect()
        for sample in metric.samples
    }


def test_a_file_that_has_no_content_yet_is_left_out(written: Path) -> None:
    """A process was killed, or is, between making its file and giving it its first page."""
    for name in ("counter_7.db", "histogram_7.db", "gauge_livesum_7.db"):
        (written / name).touch()
    assert values(written) == {"a_total": 3, "b": 2}


def test_a_file_that_is_all_zeros_counts_nothing(written: Path) -> None:
    """It has its first page, and no entry yet."""
    (written / "counter_7.db").write_bytes(bytes(1 << 16))
    assert values(written) == {"a_total": 3, "b": 2}


def test_a_gauge_that_is_removed_meanwhile_is_left_out(
    written: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process ended between the list of files and the reading."""
    found = [*written.glob("*.db"), written / "gauge_livesum_9.db"]
    monkeypatch.setattr(Path, "glob", lambda *_: iter(found))
    assert values(written) == {"a_total": 3, "b": 2}
