"""The endpoint's limits: requests, input and output tokens, and a cap on calls in flight."""

from dataclasses import dataclass
from typing import Literal

from nightmill_worker.simulator.bucket import TokenBucket
from nightmill_worker.simulator.config import MINUTE_S, SimulatorConfig

Dimension = Literal["requests", "input_tokens", "output_tokens", "concurrency"]


@dataclass(slots=True)
class Admission:
    """What an admitted call was charged."""

    input_tokens: int
    """Input tokens charged at admission, an estimate."""
    reserved: int | None
    """Output tokens charged at admission; None: they are charged as they are generated."""
    generated: int = 0
    """Output tokens generated so far."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Which limit refused a call."""

    dimension: Dimension
    retry_after_s: float
    """Seconds until the call would be admitted."""


class Limiter:
    """Admits a call in all configured buckets or in none; times are in seconds."""

    def __init__(self, config: SimulatorConfig, now: float) -> None:
        """Start with full buckets and nothing in flight."""
        self.buckets: dict[Dimension, TokenBucket] = {}
        self.in_flight = 0
        self.max_in_flight = 0
        self.configure(config, now)

    def configure(self, config: SimulatorConfig, now: float) -> None:
        """Change the limits while it runs: levels are kept, a new bucket starts full."""
        self._config = config
        limits: tuple[tuple[Dimension, int | None], ...] = (
            ("requests", config.rpm),
            ("input_tokens", config.itpm),
            ("output_tokens", config.otpm),
        )
        for dimension, limit in limits:
            self._set_limit(dimension, limit, now)

    def _set_limit(self, dimension: Dimension, limit: int | None, now: float) -> None:
        if limit is None:
            self.buckets.pop(dimension, None)
            return
        capacity = limit * self._config.burst_share
        rate = limit / MINUTE_S * (1 - self._config.other_tenant)
        if bucket := self.buckets.get(dimension):
            bucket.resize(capacity, rate, now)
        else:
            self.buckets[dimension] = TokenBucket(capacity, rate, now)

    def admit(self, now: float, input_tokens: int, max_tokens: int) -> Admission | Refusal:
        """Charge the call to every bucket, or charge none and return the limit that refused."""
        cap = self._config.cap
        if cap is not None and self.in_flight >= cap:
            return Refusal("concurrency", 1.0)
        reserved = max_tokens if self._config.otpm_reserve else None
        # Output that is charged as it is generated only needs a bucket that is not empty.
        needs: dict[Dimension, int] = {
            "requests": 1,
            "input_tokens": input_tokens,
            "output_tokens": 1 if reserved is None else reserved,
        }
        for dimension, bucket in self.buckets.items():
            if not bucket.holds(needs[dimension], now):
                return Refusal(dimension, bucket.seconds_until(needs[dimension], now))
        needs["output_tokens"] = reserved or 0
        for dimension, bucket in self.buckets.items():
            bucket.take(needs[dimension], now)
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        return Admission(input_tokens, reserved)

    def generate(self, now: float, admission: Admission, output_tokens: int) -> None:
        """Note that `output_tokens` are generated so far; charge them unless they are reserved."""
        bucket = self.buckets.get("output_tokens")
        if bucket is not None and admission.reserved is None:
            bucket.take(output_tokens - admission.generated, now)
        admission.generated = output_tokens

    def settle(
        self, now: float, admission: Admission, input_tokens: int, output_tokens: int
    ) -> None:
        """End a call: correct the estimate to the real usage and free the slot."""
        self.in_flight -= 1
        if bucket := self.buckets.get("input_tokens"):
            bucket.take(input_tokens - admission.input_tokens, now)
        self.generate(now, admission, output_tokens)
        bucket = self.buckets.get("output_tokens")
        if bucket is not None and admission.reserved is not None:
            bucket.give_back(admission.reserved - output_tokens, now)

    def restart_meters(self, now: float) -> None:
        """Start measuring utilisation and `max_in_flight` again at `now`."""
        self.max_in_flight = self.in_flight
        for bucket in self.buckets.values():
            bucket.restart_meter(now)

    def utilisation(self, now: float) -> dict[str, float | None]:
        """Return, per limit, units used over units refilled since `restart_meters`."""
        return {name: bucket.utilisation(now) for name, bucket in self.buckets.items()}
