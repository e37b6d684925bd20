"""A token bucket with continuous refill; the caller passes the time."""

from dataclasses import dataclass, field

# Smaller than any unit counted here, larger than the rounding errors of floats that add up.
EPSILON = 1e-6


@dataclass(slots=True)
class TokenBucket:
    """Holds up to `capacity` units and gains `rate` units a second.

    The level may go below zero: usage is charged in full, even when it exceeds the level.
    """

    capacity: float
    rate: float
    """Units gained a second."""
    stamp: float
    """The time of the last refill, seconds of the caller's clock."""
    level: float = field(default=-1.0)
    """Units in the bucket now; a negative start value means full."""
    taken: float = 0.0
    """Units taken since `restart_meter`."""
    offered: float = 0.0
    """Units refilled since `restart_meter`, also those that did not fit."""

    def __post_init__(self) -> None:
        """Start full unless a level is given."""
        if self.level < 0:
            self.level = self.capacity

    def _refill(self, now: float) -> None:
        """Add the units gained until `now`; a clock that went back changes nothing."""
        elapsed = now - self.stamp
        if elapsed > 0:
            gained = elapsed * self.rate
            self.offered += gained
            self.level = min(self.capacity, self.level + gained)
            self.stamp = now

    def remaining(self, now: float) -> float:
        """Return the level at `now`; it is negative after more was used than was there."""
        self._refill(now)
        return self.level

    def holds(self, amount: float, now: float) -> bool:
        """Return whether the level at `now` covers `amount`."""
        return self.remaining(now) >= amount - EPSILON

    def take(self, amount: float, now: float) -> None:
        """Charge `amount` units, even below zero; a negative amount is given back."""
        self._refill(now)
        self.level = min(self.capacity, self.level - amount)
        self.taken += amount

    def give_back(self, amount: float, now: float) -> None:
        """Put back units that were taken and not used."""
        self.take(-amount, now)

    def seconds_until(self, amount: float, now: float) -> float:
        """Return seconds until the level covers `amount`, or until full if `amount` is larger."""
        missing = min(amount, self.capacity) - self.remaining(now)
        return self._seconds_for(missing)

    def seconds_until_full(self, now: float) -> float:
        """Return seconds until the bucket is full, if nothing more is taken."""
        return self._seconds_for(self.capacity - self.remaining(now))

    def _seconds_for(self, missing: float) -> float:
        if missing <= EPSILON:
            return 0.0
        return missing / self.rate if self.rate > 0 else float("inf")

    def resize(self, capacity: float, rate: float, now: float) -> None:
        """Change the limit; the level stays, cut to the new capacity."""
        self._refill(now)
        self.capacity, self.rate = capacity, rate
        self.level = min(self.level, capacity)

    def restart_meter(self, now: float) -> None:
        """Set `taken` and `offered` to zero at `now`."""
        self._refill(now)
        self.taken = self.offered = 0.0

    def utilisation(self, now: float) -> float | None:
        """Return units taken over units refilled since `restart_meter`; None: none refilled yet."""
        self._refill(now)
        return self.taken / self.offered if self.offered > 0 else None
