"""The limits; the test passes the time."""

import pytest

from nightmill_worker.simulator.config import SimulatorConfig
from nightmill_worker.simulator.limiter import Admission, Limiter, Refusal
from nightmill_worker.simulator.ratelimit import (
    ratelimit_headers,
    refusal_message,
    retry_after,
)


def admit(limiter: Limiter, now: float, input_tokens: int = 1, max_tokens: int = 1) -> Admission:
    """Admit a call; fail if it is refused."""
    admitted = limiter.admit(now, input_tokens, max_tokens)
    assert isinstance(admitted, Admission), admitted
    return admitted


def refuse(limiter: Limiter, now: float, input_tokens: int = 1, max_tokens: int = 1) -> Refusal:
    """Ask to admit a call; fail if it is admitted."""
    refused = limiter.admit(now, input_tokens, max_tokens)
    assert isinstance(refused, Refusal), refused
    return refused


def test_the_default_burst_is_a_minute_of_requests() -> None:
    """60 requests are admitted at once, then one for each unit that is refilled."""
    limiter = Limiter(SimulatorConfig(rpm=60), 0.0)
    for _ in range(60):
        admit(limiter, 0.0)
    refusal = refuse(limiter, 0.0)
    assert refusal.dimension == "requests"
    assert refusal.retry_after_s == pytest.approx(1.0)
    admit(limiter, 1.0)
    refuse(limiter, 1.5)


def test_burst_sizes_every_bucket_by_the_same_share() -> None:
    """600 RPM with a burst of 10 leaves each token bucket 1 s of its refill."""
    limiter = Limiter(SimulatorConfig(rpm=600, burst=10, itpm=60_000), 0.0)
    assert limiter.buckets["requests"].capacity == 10
    assert limiter.buckets["input_tokens"].capacity == 1000


def test_admission_is_all_or_nothing() -> None:
    """A call that is refused for its tokens is not charged a request."""
    limiter = Limiter(SimulatorConfig(rpm=60, itpm=100), 0.0)
    assert refuse(limiter, 0.0, input_tokens=101).dimension == "input_tokens"
    assert limiter.buckets["requests"].remaining(0.0) == 60
    assert limiter.in_flight == 0


def test_input_is_estimated_at_admission_and_corrected_afterwards() -> None:
    """After the call has ended, the bucket is charged its real usage."""
    limiter = Limiter(SimulatorConfig(itpm=1000), 0.0)
    admission = admit(limiter, 0.0, input_tokens=400)
    assert limiter.buckets["input_tokens"].remaining(0.0) == 600
    limiter.settle(0.0, admission, input_tokens=300, output_tokens=0)
    assert limiter.buckets["input_tokens"].remaining(0.0) == 700


def test_output_is_charged_as_it_is_generated() -> None:
    """By default max_tokens is not charged, and the bucket may be overdrawn."""
    limiter = Limiter(SimulatorConfig(otpm=1000), 0.0)
    admission = admit(limiter, 0.0, max_tokens=50_000)
    bucket = limiter.buckets["output_tokens"]
    assert bucket.remaining(0.0) == 1000
    limiter.generate(0.0, admission, 600)
    limiter.settle(0.0, admission, input_tokens=1, output_tokens=1100)
    assert bucket.remaining(0.0) == -100
    assert refuse(limiter, 0.0).dimension == "output_tokens"


def test_output_can_be_reserved_and_refunded() -> None:
    """With otpm_reserve, max_tokens is charged at admission and the rest refunded at the end."""
    limiter = Limiter(SimulatorConfig(otpm=1000, otpm_reserve=True), 0.0)
    admission = admit(limiter, 0.0, max_tokens=800)
    assert refuse(limiter, 0.0, max_tokens=800).dimension == "output_tokens"
    limiter.generate(0.0, admission, 50)
    limiter.settle(0.0, admission, input_tokens=1, output_tokens=100)
    assert limiter.buckets["output_tokens"].remaining(0.0) == 900


def test_the_cap_counts_calls_in_flight() -> None:
    """A slot is free again as soon as a call has ended."""
    limiter = Limiter(SimulatorConfig(cap=1), 0.0)
    admission = admit(limiter, 0.0)
    assert refuse(limiter, 0.0).dimension == "concurrency"
    limiter.settle(0.0, admission, 1, 1)
    admit(limiter, 0.0)
    assert limiter.max_in_flight == 1


def test_another_tenant_takes_its_share_of_the_refill() -> None:
    """The limit in the headers stays the same; the refill is smaller."""
    limiter = Limiter(SimulatorConfig(rpm=60, burst=1, other_tenant=0.6), 0.0)
    admit(limiter, 0.0)
    assert refuse(limiter, 0.0).retry_after_s == pytest.approx(2.5)


def test_a_changed_limit_holds_from_the_next_call() -> None:
    """Calls in flight are settled with the limits of their admission."""
    limiter = Limiter(SimulatorConfig(otpm=1000, otpm_reserve=True), 0.0)
    admission = admit(limiter, 0.0, max_tokens=400)
    limiter.configure(SimulatorConfig(otpm=500, rpm=1), 0.0)
    limiter.settle(0.0, admission, 1, 100)
    assert limiter.buckets["output_tokens"].remaining(0.0) == 500
    admit(limiter, 0.0)
    assert refuse(limiter, 0.0).dimension == "requests"


def test_retry_after_is_whole_seconds_rounded_up() -> None:
    """It is never zero: a client that waits that long must be admitted."""
    assert retry_after(Refusal("requests", 0.01)) == "1"
    assert retry_after(Refusal("requests", 2.0)) == "2"
    assert retry_after(Refusal("requests", 2.1)) == "3"


def test_headers_show_limit_rounded_remaining_and_when_full() -> None:
    """`reset` is when the bucket is full again; `tokens` repeats the smaller share of the two."""
    config = SimulatorConfig(rpm=60, itpm=100_000, otpm=20_000)
    limiter = Limiter(config, 0.0)
    admission = admit(limiter, 0.0, input_tokens=1400)
    limiter.generate(0.0, admission, 5600)
    shown = ratelimit_headers(config, limiter, 0.0, wall=1_700_000_000.0)
    found = {name.removeprefix("anthropic-ratelimit-"): value for name, value in shown.items()}
    assert found == {
        "requests-limit": "60",
        "requests-remaining": "59",
        "requests-reset": "2023-11-14T22:13:21Z",
        "input-tokens-limit": "100000",
        "input-tokens-remaining": "99000",
        "input-tokens-reset": "2023-11-14T22:13:21Z",
        "output-tokens-limit": "20000",
        "output-tokens-remaining": "14000",
        "output-tokens-reset": "2023-11-14T22:13:37Z",
        "tokens-limit": "20000",
        "tokens-remaining": "14000",
        "tokens-reset": "2023-11-14T22:13:37Z",
    }


def test_without_limits_there_are_no_headers() -> None:
    """A header must not describe a limit that does not exist."""
    config = SimulatorConfig()
    assert ratelimit_headers(config, Limiter(config, 0.0), 0.0, 0.0) == {}


@pytest.mark.parametrize(
    ("dimension", "message"),
    [("requests", "60 requests per minute"), ("input_tokens", "5,000 input tokens per minute")],
)
def test_a_refusal_names_its_limit_unless_switched_off(dimension: str, message: str) -> None:
    """Clients find the limit of a 429 by its message, and must also work without it."""
    refusal = Refusal(dimension, 1.0)  # type: ignore[arg-type]
    assert message in refusal_message(SimulatorConfig(rpm=60, itpm=5000), refusal)
    silent = SimulatorConfig(rpm=60, itpm=5000, name_dimension=False)
    assert "per minute" not in refusal_message(silent, refusal)
