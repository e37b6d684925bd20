"""One worker against the scripts: its calls are answered one by one, as a test says."""

from __future__ import annotations

from typing import Any

import msgspec

from nightmill.queue import keys
from tests.worker.queue.desk import ACCOUNT, GATES, MODEL, Desk, released, settlement

WAF, PERMISSION, CREDIT, SPEND = "403 text", "403 permission_error", "400 text", "429 text"
"""Kinds of refusals."""
HELD = keys.HELD + ACCOUNT
LINE = keys.ACCOUNT + ACCOUNT
Job = dict[str, Any]


class Fleet(Desk):
    """A worker whose calls are answered one by one, on a clock that never stands still."""

    def later(self) -> None:
        """Wait until Redis's clock has moved: claims and answers of one ms cannot be ordered."""
        now = self.now_ms()
        while self.now_ms() <= now:
            pass

    def fill(self, count: int, *, model: str = MODEL, first: int = 0) -> None:
        """Enqueue jobs of batch "b"."""
        for number in range(first, first + count):
            self.enqueue(f"b:{model}{number}", model=model)

    def take(self, want: int = 99) -> list[Job]:
        """Claim jobs; those that were refused before are due again, whatever they wait."""
        self.later()
        self.make_due()
        return list(self.claim(want).values())

    def make_due(self) -> None:
        """Make every job that no worker holds due now, behind those that are due."""
        now = self.now_ms()
        for queue in self.redis.execute_command("SMEMBERS", keys.QUEUES_OF + "b"):
            for job_id in self.redis.execute_command("ZRANGEBYSCORE", queue, now, "+inf"):
                if not self.redis.exists(keys.IN_PROGRESS.encode() + job_id):
                    self.redis.zadd(queue, {job_id: now - 1}, xx=True)

    def succeed(self, *jobs: Job) -> None:
        """Answer with messages."""
        self.later()
        self.send("settle", [settlement(job) for job in jobs])

    def refuse(self, *jobs: Job, kind: str = WAF) -> None:
        """Answer with refusals of one kind, and give the jobs back."""
        own = kind not in {CREDIT, SPEND}
        self.answer("suspect", *jobs, kind=kind, own=own, reason=f"refused: {kind}")

    def answer(self, outcome: str, *jobs: Job, **more: object) -> None:
        """Answer with any outcome, and give the jobs back."""
        self.later()
        items = [settlement(job, outcome=outcome, job=job["id"], **more) for job in jobs]
        self.send("settle", items)
        self.send("release", [released(job) for job in jobs])

    def hold(self, model: str = MODEL) -> dict[str, Any]:
        """Return what is known of a lane."""
        found: dict[str, Any] = msgspec.json.decode(self.field(HELD, model) or b"{}")
        return found

    def state(self, model: str = MODEL) -> str:
        """Return a lane's state, "" for none."""
        return str(self.hold(model).get("state", ""))

    @property
    def stopped(self) -> bool:
        """Whether the account is stopped."""
        return self.field(LINE, "state") == b"stopped"

    def judged(self) -> list[str]:
        """Claim; return the jobs that fail without another call, and give the others back."""
        jobs = self.take()
        self.answer("unsent", *(job for job in jobs if job["verdict"] == "run"))
        return [job["id"] for job in jobs if job["verdict"] == "refused"]

    def end_pause(self) -> None:
        """Let the pause after a 429 pass, and fill the buckets."""
        self.set_hot(pause_until=0, level=dict.fromkeys(GATES, 1e6))

    def stop_lane(self, model: str, kind: str = PERMISSION) -> None:
        """Refuse every job of a model until its lane is stopped."""
        while self.state(model) != "stopped":
            jobs = self.take(1)
            assert {job["model"] for job in jobs} <= {model}
            self.refuse(*jobs, kind=kind)

    def resume(self) -> None:
        """Do as `nightmill resume` does."""
        self._resume(args=[ACCOUNT])


def ids(jobs: list[Job]) -> set[str]:
    """Return the ids of jobs."""
    return {job["id"] for job in jobs}
