"""Unexpected exceptions before a call: the defect of one job, or of the whole deployment? Pure.

A job under which nightmill itself raises is given back. When the same exception meets three
different jobs with no job passing between, the deployment is broken: the worker claims nothing but
one job now and then, so that a million jobs do not fail for it. A job fails for such an exception
only when it meets it again and again while other jobs pass.
"""

from __future__ import annotations

import traceback
from typing import Final

import msgspec

TRIALS: Final = 3
"""So many jobs show that a deployment is broken; so many tries show that a job is."""
BACKOFF_S: Final = (1.0, 60.0)
"""First and longest wait of a job, doubled with each try, seconds."""
HOLD_S: Final = (5.0, 300.0)
"""First and longest wait of a broken worker before it tries one job, doubled each time, seconds."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of the job: it fails, or is due again after `wait_ms`."""

    fail: bool
    wait_ms: int


class Defects:
    """The unexpected exceptions of one worker process. `problem` is set while it is broken."""

    def __init__(self, max_attempts: int) -> None:
        """Take after how many tries a job fails that has no others to be compared with."""
        self._max_attempts = max_attempts
        self._jobs: dict[str, set[str]] = {}
        self._passed = False
        self._holds = 0
        self.problem = ""
        self.retry_at = 0.0

    def passed(self) -> None:
        """Note that a job got through to its call: the deployment works."""
        self._passed = True
        if self._jobs:
            self._jobs.clear()
            self.problem, self._holds = "", 0

    def found(self, job_id: str, error: BaseException, earlier: int, now: float) -> Verdict:
        """Note that `error` met a job that met such errors `earlier` times; decide about the job.

        `now` is a monotonic clock, seconds.
        """
        jobs = self._jobs.setdefault(signature(error), set())
        jobs.add(job_id)
        if len(jobs) >= TRIALS:
            first, longest = HOLD_S
            self.problem = signature(error)
            self.retry_at = now + min(longest, first * 2.0 ** min(self._holds, 30))
            self._holds += 1
        alone = earlier + 1 >= max(TRIALS, self._max_attempts)
        fail = not self.problem and (alone or (self._passed and earlier + 1 >= TRIALS))
        first, longest = BACKOFF_S
        wait_s = min(longest, first * 2.0 ** min(earlier, 30))
        return Verdict(fail=fail, wait_ms=round(wait_s * 1000))

    def claimable(self, free: int, running: int, now: float) -> int:
        """Return how many of `free` slots may be claimed: one job as a trial while broken."""
        if not self.problem:
            return free
        return 1 if now >= self.retry_at and not running else 0


def signature(error: BaseException) -> str:
    """Name an exception by its type and place, the same for every job that meets it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"
