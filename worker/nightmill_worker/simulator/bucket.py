"""A token bucket with continuous refill, whose clock is an argument."""

from dataclasses import dataclass, field

# Far below any unit counted here, far above what adding floats loses in a night.
EPSILON = 1e-6


@dataclass(slots=True)
class TokenBucket:
    """Holds up to `capacity` units and gains `rate` units a second; `stamp` is when it was read.

    The level may go below zero: what was used is charged, even when it was more than was there.
    `taken` and `offered` count units since `restart_meter`, for the utilisation.
    """

    capacity: float
    rate: float
    stamp: float
    level: float = field(default=-1.0)
    taken: float = 0.0
    offered: float = 0.0

    def __post_init__(self) -> None:
        """Start full unless a level is given."""
        if self.level < 0:
            self.level = self.capacity

    def _refill(self, now: float) -> None:
        """Bring the level up to `now`; a clock that went back changes nothing."""
        elapsed = now - self.stamp
        if elapsed > 0:
            gained = elapsed * self.rate
            self.offered += gained
            self.level = min(self.capacity, self.level + gained)
            self.stamp = now

    def remaining(self, now: float) -> float:
        """Return the units there are now, below zero when more was used than there was."""
        self._refill(now)
        return self.level

    def holds(self, amount: float, now: float) -> bool:
        """Say whether `amount` could be taken now."""
        return self.remaining(now) >= amount - EPSILON

    def take(self, amount: float, now: float) -> None:
        """Charge `amount` units, into debt if need be; a negative amount is given back."""
        self._refill(now)
        self.level = min(self.capacity, self.level - amount)
        self.taken += amount

    def give_back(self, amount: float, now: float) -> None:
        """Return units taken before and not used."""
        self.take(-amount, now)

    def seconds_until(self, amount: float, now: float) -> float:
        """Return how long until `amount` is there; until full for more than the bucket holds."""
        missing = min(amount, self.capacity) - self.remaining(now)
        return self._seconds_for(missing)

    def seconds_until_full(self, now: float) -> float:
        """Return how long until the bucket is full again, if nobody takes from it."""
        return self._seconds_for(self.capacity - self.remaining(now))

    def _seconds_for(self, missing: float) -> float:
        if missing <= EPSILON:
            return 0.0
        return missing / self.rate if self.rate > 0 else float("inf")

    def resize(self, capacity: float, rate: float, now: float) -> None:
        """Adopt another limit: what is in the bucket stays, as far as it fits."""
        self._refill(now)
        self.capacity, self.rate = capacity, rate
        self.level = min(self.level, capacity)

    def restart_meter(self, now: float) -> None:
        """Count `taken` and `offered` anew from `now`."""
        self._refill(now)
        self.taken = self.offered = 0.0

    def utilisation(self, now: float) -> float | None:
        """Return units taken over units refilled since the meter's start (None before any)."""
        self._refill(now)
        return self.taken / self.offered if self.offered > 0 else None
