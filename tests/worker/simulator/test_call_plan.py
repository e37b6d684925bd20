"""Planned calls: faults have their share, and the same run gets the same faults."""

from collections import Counter

from nightmill_worker.simulator.call_plan import plan_call
from nightmill_worker.simulator.config import Fault, SimulatorConfig

MIXED = SimulatorConfig(
    latency_s=2.0,
    jitter=0.5,
    faults=(Fault(status=529, share=0.05), Fault(status=500, share=0.1)),
    drop=0.1,
    sse_error=0.2,
)


def test_each_fault_has_its_share() -> None:
    """Over 4,000 calls, each share is within two percentage points."""
    plans = [plan_call(MIXED, f"p{n}", 1, stream=True) for n in range(4000)]
    count = Counter((plan.kind, plan.status) for plan in plans)
    assert abs(count["status", 529] / 4000 - 0.05) < 0.02
    assert abs(count["status", 500] / 4000 - 0.1) < 0.02
    assert abs(count["drop", 200] / 4000 - 0.1) < 0.02
    assert abs(count["sse_error", 200] / 4000 - 0.2) < 0.02


def test_a_plan_depends_on_seed_prompt_and_try_only() -> None:
    """A run is repeatable in any order of its calls, and a retry may succeed."""
    first = [plan_call(MIXED, "p", nth, stream=False) for nth in range(1, 50)]
    assert first == [plan_call(MIXED, "p", nth, stream=False) for nth in range(1, 50)]
    assert len({plan.kind for plan in first}) > 1
    reseeded = SimulatorConfig(faults=MIXED.faults, seed=1)
    assert first != [plan_call(reseeded, "p", nth, stream=False) for nth in range(1, 50)]


def test_only_streams_end_with_an_error_event() -> None:
    """A response that is not streamed has no events."""
    config = SimulatorConfig(sse_error=1.0)
    assert plan_call(config, "p", 1, stream=True).kind == "sse_error"
    assert plan_call(config, "p", 1, stream=False).kind == "answer"


def test_jitter_spreads_latency_evenly_around_the_mean() -> None:
    """A jitter of 50 % of 2 s gives 1 to 3 s."""
    waits = [plan_call(MIXED, f"p{n}", 1, stream=False).latency_s for n in range(1000)]
    assert 1.0 <= min(waits) < 1.05
    assert 2.95 < max(waits) <= 3.0
    assert abs(sum(waits) / 1000 - 2.0) < 0.05
