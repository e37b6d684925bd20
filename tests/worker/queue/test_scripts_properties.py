"""In any order of the scripts, a job has one holder, counts add up, and limits hold."""

from __future__ import annotations

import msgspec
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    invariant,
    rule,
    run_state_machine_as_test,
)

from nightmill.queue import keys, wire
from nightmill_worker.queue.records import Ask, Settlement
from tests.worker.queue.scripts_fleet import ScriptedFleet
from tests.worker.queue.scripts_model import (
    ACCOUNT,
    BATCHES,
    CAPACITY,
    DEBT,
    LANE,
    LEASE_MS,
    MODEL,
    ORDERS,
    OUTCOMES,
    PAST_MS,
    PAYLOAD,
    STATES,
    TOMORROW,
    WINDOW,
    Claim,
    ModelJob,
    Outcome,
    queue_of,
)

PICK = st.integers(0, 999)
"""Picks a claim or a job, modulo their number. What is drawn must not depend on the clock."""


class Fleet(ScriptedFleet):
    """Two workers that claim, renew, settle, release and finish, also late and twice."""

    @rule(batch=st.sampled_from(BATCHES), names=st.sets(st.integers(0, 9), min_size=1))
    def enqueue(self, batch: str, names: set[int]) -> None:
        """Enqueue jobs: only those that are neither queued nor finished are taken."""
        ids = [f"{batch}:{name}" for name in sorted(names)]
        pairs: list[str | bytes] = [part for job_id in ids for part in (job_id, PAYLOAD)]
        codes = self.scripts["enqueue"](args=[queue_of(batch), batch, 0, 0, "", "", *pairs])
        for job_id, code in zip(ids, codes.decode(), strict=True):
            known = self.jobs.get(job_id)
            over = known is not None and known.state == "over"
            assert code == ("1" if known is None else "2" if over else "0")
            self.jobs.setdefault(job_id, ModelJob(batch))

    @rule(pick=PICK)
    def requeue(self, pick: int) -> None:
        """Run a finished job again, as a job like any other."""
        over = sorted(job_id for job_id, job in self.jobs.items() if job.state == "over")
        if not over:
            return
        job_id = over[pick % len(over)]
        job = self.jobs[job_id]
        run: tuple[str | int, ...] = (0, 1, job.ended.pop())
        args = [queue_of(job.batch), job.batch, *run, "", job_id, PAYLOAD]
        assert self.scripts["enqueue"](args=args) == b"1"
        job.state = "queued"

    def claim_as(self, worker: str, want: int) -> list[Claim]:
        """Claim; return what was granted."""
        ask = Ask(
            worker=worker,
            seq=self.seqs[worker],
            account=ACCOUNT,
            want=want,
            lease_ms=LEASE_MS,
            functions={wire.FUNCTION: True},
            model=MODEL,
        )
        rows = self.scripts["claim"](args=[msgspec.json.encode(ask), ORDERS])[3:]
        return [Claim(row[0].decode(), row[1].decode(), msgspec.Raw(row[10])) for row in rows]

    @rule(worker=st.sampled_from("wv"), want=st.integers(1, 6))
    def claim(self, worker: str, want: int) -> None:
        """Claim: a job whose lease runs is not granted."""
        self.seqs[worker] += 1
        self.note(worker, self.claim_as(worker, want), want)

    def note(self, worker: str, granted: list[Claim], want: int) -> None:
        """Check a new grant against the model, and note it there."""
        assert len(granted) == len({claim.job_id for claim in granted}) <= want
        for claim in granted:
            job = self.jobs[claim.job_id]
            assert job.state != "over"
            assert job.state != "in_flight" or job.expired
            assert claim.token not in {old.token for old in self.claims}
            job.state, job.token, job.expired = "in_flight", claim.token, False
        self.claims += granted
        self.last[worker] = granted

    @rule(worker=st.sampled_from("wv"))
    def claim_repeated(self, worker: str) -> None:
        """Repeat a claim whose answer was lost: it gets the same jobs that are still its own."""
        if not self.last.get(worker):
            return
        again = {(claim.job_id, claim.token) for claim in self.claim_as(worker, 6)}
        held = {claim[:2] for claim in self.last[worker] if self.holds(claim)}
        assert again == held

    @rule(worker=st.sampled_from("wv"), want=st.integers(1, 6))
    def claim_repeated_too_late(self, worker: str, want: int) -> None:
        """Repeat a claim after its grant was forgotten: it is a new claim with new tokens."""
        self.redis.delete(keys.GRANT + worker)
        self.note(worker, self.claim_as(worker, want), want)

    def pick_claim(self, pick: int) -> tuple[Claim, bool]:
        """Pick any claim so far; return whether its token still holds the job."""
        claim = self.claims[pick % len(self.claims)]
        return claim, self.holds(claim)

    def holds(self, claim: Claim) -> bool:
        """Return whether a claim still holds its job."""
        job = self.jobs[claim.job_id]
        return job.state == "in_flight" and job.token == claim.token

    @rule(pick=PICK, state=st.sampled_from(("retrying", "snoozed")), called=st.booleans())
    def release(self, pick: int, state: str, *, called: bool) -> None:
        """Only the holder releases a job. A late release changes nothing."""
        if not self.claims:
            return
        (job_id, token, _), holds = self.pick_claim(pick)
        queue = queue_of(self.jobs[job_id].batch)
        attempt = '{"n":1,"started_at":1,"outcome":"failed"}' if called else ""
        item = {"id": job_id, "token": token, "queue": queue, "state": state, "wait_ms": 0}
        item |= {"counted": int(called), "refused": 0, "failed": 1, "attempt": attempt}
        before = self.redis.dump(keys.RECORD + job_id)
        lost, gone = self.run_script("release", items=[item])
        assert [*lost, *gone] == ([] if holds else [job_id.encode()])
        if holds:
            self.jobs[job_id].state, self.jobs[job_id].expired = state, False
        else:
            assert self.redis.dump(keys.RECORD + job_id) == before

    @rule(pick=PICK, status=st.sampled_from(("succeeded", "failed", "cancelled", "expired")))
    def finish(self, pick: int, status: str) -> None:
        """Only the holder finishes a job. Afterwards only its result is left."""
        if not self.claims:
            return
        (job_id, token, _), holds = self.pick_claim(pick)
        job = self.jobs[job_id]
        item = {"id": job_id, "token": token, "queue": queue_of(job.batch), "status": status}
        about = {"again": 0, "input": 3, "output": 4, "cost": 5, "fault": ""}
        request = msgspec.json.encode({"canary": 0, "items": [item | about]})
        late = self.scripts["finish"](args=[request, b"{}"])
        assert late == ([] if holds else [job_id.encode()])
        if holds:
            job.state, job.expired = "over", False
            job.ended.append(status)
            prefixes = (keys.PAYLOAD, keys.IN_PROGRESS, keys.RECORD, keys.ATTEMPTS)
            assert not self.redis.exists(*(prefix + job_id for prefix in prefixes))

    @rule(pick=PICK, outcome=st.sampled_from(OUTCOMES))
    def settle(self, pick: int, outcome: Outcome) -> None:
        """Account for an answer: that frees its slot."""
        if not self.claims:
            return
        claim, holds = self.pick_claim(pick)
        if not holds or not self.redis.zscore(f"{LANE}:slots", claim.token):
            return
        reservation = msgspec.json.decode(claim.reservation)
        reservation["at"] = TOMORROW  # the call counts as sent after the last refusal
        item = Settlement(
            token=claim.token,
            model=MODEL,
            outcome=outcome,
            reservation=msgspec.Raw(msgspec.json.encode(reservation)),
            latency_ms=5,
            bytes=len(PAYLOAD),
            input=1,
            output=1,
        )
        self.run_script("settle", account=ACCOUNT, items=[item])
        assert self.redis.zscore(f"{LANE}:slots", claim.token) is None

    @rule(pick=PICK)
    def renew(self, pick: int) -> None:
        """Only the holder's lease is prolonged, even after it ran out, if no claim followed."""
        if not self.claims:
            return
        (job_id, token, _), holds = self.pick_claim(pick)
        job = self.jobs[job_id]
        item = {"id": job_id, "token": token, "queue": queue_of(job.batch), "lane": MODEL}
        lost, gone = self.run_script("renew", account=ACCOUNT, lease_ms=LEASE_MS, items=[item])
        assert [*lost, *gone] == ([] if holds else [job_id.encode()])
        if holds:
            job.expired = False

    @rule(pick=PICK, fed_again=st.booleans())
    def lose(self, pick: int, *, fed_again: bool) -> None:
        """Redis loses a job in flight. Its holder puts it back, also when it was fed again."""
        if not self.claims:
            return
        (job_id, token, _), holds = self.pick_claim(pick)
        if not holds:
            return
        job, queue = self.jobs[job_id], queue_of(self.jobs[job_id].batch)
        prefixes = (keys.RECORD, keys.PAYLOAD, keys.IN_PROGRESS, keys.ATTEMPTS)
        self.redis.delete(*(prefix + job_id for prefix in prefixes))
        self.redis.zrem(queue, job_id)
        self.redis.hincrby(keys.BATCH + job.batch, "in_flight", -1)
        item = {"id": job_id, "token": token, "queue": queue, "lane": MODEL}
        lost, gone = self.run_script("renew", account=ACCOUNT, lease_ms=LEASE_MS, items=[item])
        assert [*lost, *gone] == [job_id.encode()]
        if fed_again:
            args: list[str | int | bytes] = [queue, job.batch, 0, 1, "", "", job_id, PAYLOAD]
            assert self.scripts["enqueue"](args=args) == b"1"
        calling = self.redis.zscore(f"{LANE}:slots", token) is not None
        about = {
            "calling": calling,
            "calls": 1,
            "counted": 0,
            "snoozes": 0,
            "refusals": 0,
            "outages": 0,
            "failed_at": 0,
            "attempts": [],
            "cut": "",
        }
        ask = {"account": ACCOUNT, "worker": "w", "lease_ms": LEASE_MS}
        request = msgspec.json.encode({**ask, "items": [item | about]})
        assert self.scripts["restore"](args=[request, PAYLOAD]) == []
        assert self.redis.get(keys.PAYLOAD + job_id) == PAYLOAD
        job.expired = False

    @rule(pick=PICK)
    def lease_runs_out(self, pick: int) -> None:
        """Move the end of a lease into the past, as if its worker had died."""
        held = sorted(job_id for job_id, job in self.jobs.items() if job.state == "in_flight")
        if not held:
            return
        job_id = held[pick % len(held)]
        job = self.jobs[job_id]
        job.expired = True
        self.redis.delete(keys.IN_PROGRESS + job_id)
        self.redis.zadd(queue_of(job.batch), {job_id: PAST_MS}, xx=True)
        self.redis.zadd(f"{LANE}:slots", {job.token: PAST_MS}, xx=True)

    @rule()
    def time_passes(self) -> None:
        """Fill all buckets."""
        stored = self.redis.execute_command("HGET", LANE, "hot")
        if stored is None:
            return
        hot = msgspec.json.decode(stored)
        hot["level"] = CAPACITY
        self.redis.execute_command("HSET", LANE, "hot", msgspec.json.encode(hot))

    @rule()
    def sweep(self) -> None:
        """Sweep: the jobs of nightmill's own producers stay as they are."""
        before = self.redis.dump(keys.QUEUE)
        self.redis.delete(keys.SWEEP)
        assert self.scripts["sweep"](args=[]) == [0]
        assert self.redis.dump(keys.QUEUE) == before

    @rule(batch=st.sampled_from(BATCHES[1:]), paused=st.booleans())
    def pause(self, batch: str, *, paused: bool) -> None:
        """Pause or resume a batch. Its counts stay."""
        change = ("HSET", "paused") if paused else ("HDEL",)
        self.redis.execute_command(change[0], keys.BATCH + batch, "flag", *change[1:])

    @rule(
        batch=st.sampled_from(BATCHES[1:]),
        end=st.sampled_from(("cancelled", "expired")),
        reopened=st.booleans(),
    )
    def cancel(self, batch: str, end: str, *, reopened: bool) -> None:
        """End a batch: all its jobs but the live calls are over. Then open it again.

        It may be opened between the commit of the rows and the script that counts them.
        """
        self.redis.execute_command("HSET", keys.BATCH + batch, "flag", end)
        args: list[str | bytes | int] = [queue_of(batch), batch, "me", 0, 100]
        flag, busy, *found = self.scripts["cancel"](args=args)
        left = {job_id for job_id, job in self.jobs.items() if job.batch == batch and job.waits}
        assert {row[0].decode() for row in found} == left
        done = [part for row in found for part in (row[0], end, b"{}")]
        if reopened:
            self.redis.execute_command("HDEL", keys.BATCH + batch, "flag")
            flag, busy = b"", 0
        assert self.scripts["cancel"](args=args + done) == [flag, busy]
        for job_id in left:
            job = self.jobs[job_id]
            job.state, job.expired = "over", False
            job.ended.append(end)
        self.redis.execute_command("HDEL", keys.BATCH + batch, "flag")

    @invariant()
    def one_live_token_a_job(self) -> None:
        """Compare the holder in the lease, the record and the model."""
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id in self.jobs:
                pipe.get(keys.IN_PROGRESS + job_id)
                pipe.hget(keys.RECORD + job_id, "token")
            found = pipe.execute()
        for job, lease, record in zip(self.jobs.values(), found[::2], found[1::2], strict=True):
            holder = job.token.encode() if job.state == "in_flight" else None
            assert record == holder
            assert lease == (None if job.expired else holder)

    @invariant()
    def counts_add_up(self) -> None:
        """Compare every batch's counts with the model; they sum up to the jobs enqueued."""
        for batch in BATCHES:
            counts = self.redis.execute_command("HGETALL", keys.BATCH + batch)
            jobs = [job for job in self.jobs.values() if job.batch == batch]
            current = [job.state for job in jobs] + [end for job in jobs for end in job.ended]
            for state in STATES:
                assert int(counts.get(state.encode(), 0)) == current.count(state), (batch, state)
            waiting = self.redis.zcard(queue_of(batch))
            assert waiting == sum(job.state != "over" for job in jobs)

    @invariant()
    def limits_hold(self) -> None:
        """Slots fit the window, and no bucket is further below 0 than one call can take it."""
        assert self.redis.execute_command("ZCARD", f"{LANE}:slots") <= WINDOW
        hot = self.redis.execute_command("HGET", LANE, "hot")
        if hot is not None:
            lane = msgspec.json.decode(hot)
            assert all(lane["level"][name] >= -debt for name, debt in DEBT.items()), lane
            assert sum(lane[outcome] for outcome in OUTCOMES) <= lane["sent"] == len(self.claims)


def test_the_invariants_hold_in_any_order_of_scripts(redis_url: str) -> None:
    """Redis holds the whole state of the queue, and only these scripts change it."""
    quick = settings(
        max_examples=25,
        stateful_step_count=30,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )
    Fleet.url = redis_url
    run_state_machine_as_test(Fleet, settings=quick)
