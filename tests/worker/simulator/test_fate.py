"""Faults: their share, and that the same run meets the same ones."""

from collections import Counter

from nightmill_worker.simulator.config import Fault, SimulatorConfig
from nightmill_worker.simulator.fate import draw_fate

MIXED = SimulatorConfig(
    latency_s=2.0,
    jitter=0.5,
    faults=(Fault(status=529, share=0.05), Fault(status=500, share=0.1)),
    drop=0.1,
    sse_error=0.2,
)


def test_shares_are_met() -> None:
    """Over 4,000 calls, within two percent points."""
    fates = [draw_fate(MIXED, f"p{n}", 1, stream=True) for n in range(4000)]
    count = Counter((fate.kind, fate.status) for fate in fates)
    assert abs(count["status", 529] / 4000 - 0.05) < 0.02
    assert abs(count["status", 500] / 4000 - 0.1) < 0.02
    assert abs(count["drop", 200] / 4000 - 0.1) < 0.02
    assert abs(count["sse_error", 200] / 4000 - 0.2) < 0.02


def test_fate_depends_on_seed_prompt_and_try_only() -> None:
    """So a run is repeatable whatever order its calls come in, and a retry may fare better."""
    first = [draw_fate(MIXED, "p", nth, stream=False) for nth in range(1, 50)]
    assert first == [draw_fate(MIXED, "p", nth, stream=False) for nth in range(1, 50)]
    assert len({fate.kind for fate in first}) > 1
    reseeded = SimulatorConfig(faults=MIXED.faults, seed=1)
    assert first != [draw_fate(reseeded, "p", nth, stream=False) for nth in range(1, 50)]


def test_only_streams_end_in_an_error_event() -> None:
    """There is no such thing in a plain response."""
    config = SimulatorConfig(sse_error=1.0)
    assert draw_fate(config, "p", 1, stream=True).kind == "sse_error"
    assert draw_fate(config, "p", 1, stream=False).kind == "answer"


def test_jitter_spreads_latency_evenly_around_the_mean() -> None:
    """50 % of 2 s: from 1 to 3 s."""
    waits = [draw_fate(MIXED, f"p{n}", 1, stream=False).latency_s for n in range(1000)]
    assert 1.0 <= min(waits) < 1.05
    assert 2.95 < max(waits) <= 3.0
    assert abs(sum(waits) / 1000 - 2.0) < 0.05
