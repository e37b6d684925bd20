"""The table of `status` on a terminal of 80 columns."""

from __future__ import annotations

import msgspec
import pytest
from rich.console import Console

from nightmill.cli.table import draw
from nightmill.queue.live_workers import LiveWorker
from nightmill.queue.stops import Stops
from nightmill.records.counts import Counts
from nightmill.reports.view import View
from nightmill.store import ResultStore
from tests.producer.store.samples import numbered

COUNTS = Counts(
    total=12_345,
    queued=10_000,
    in_flight=345,
    succeeded=1_990,
    failed=10,
    refused=7,
    stop_reasons={"end_turn": 1_885, "max_tokens": 105},
    nanodollars=5_470_000_000,
    metered_ms=60_000,
    used_ms=26_100,
    input_tokens=365_900,
    output_tokens=145_600,
)
WORKER = LiveWorker(name="w", at=0)


def shown(counts: Counts, *workers: LiveWorker) -> list[str]:
    """Return the lines of `status` for one batch at 10.5 jobs a second."""
    stops = Stops(workers=workers)
    view = View(
        counts={"reviews-2026": counts}, only=None, stops=stops, rates={"reviews-2026": 10.5}
    )
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(draw(view))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_80_columns_have_done_rate_eta_cost_and_refusals_in_one_row() -> None:
    """Nothing of it is wrapped or cut; what matters less is a second table."""
    lines = shown(COUNTS, WORKER)
    assert max(map(len, lines)) <= 80
    heading, row = lines[1:3]
    names = ["batch", "state", "done", "rate", "ETA", "cost", "(429)"]
    assert (lines[0].split(), heading.split()) == (["refused"], names)
    assert row.split() == [
        *("reviews-2026", "running", "2,000", "of", "12,345", "10.5/s", "16m", "25s"),
        *("$5.47", "of", "~$33.76", "7"),
    ]
    text = "\n".join(lines)
    for cell in ("10,000", "345", "365.9k / 145.6k", "43.5%", "1 worker running"):
        assert cell in text
    assert "reviews-2026: 105 cut at max_tokens; see: nightmill errors reviews-2026" in text


def test_a_share_of_the_limit_that_was_measured_for_seconds_is_not_shown() -> None:
    """A figure of a short run misleads."""
    assert "n/a (under 30 s)" in "\n".join(shown(msgspec.structs.replace(COUNTS, metered_ms=9_000)))


@pytest.mark.parametrize("number", [1, 40])
async def test_the_rate_is_that_of_the_last_minute(
    tmp_path: object, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long calls end seldom: a sample of one second shows 0 of them."""
    now = 1_000_000
    monkeypatch.setattr("nightmill.store.store.now_ms", lambda: now)
    rows = [numbered(n, finished_at=now - 20_000) for n in range(1, number + 1)]
    async with ResultStore.open(f"{tmp_path}/results.db") as store:
        await store.record([*rows, numbered(99, finished_at=now - 90_000)])
        assert await store.rate("night", 60) == number / 20
        assert await store.ended_before("night", now - 60_000) == 1
