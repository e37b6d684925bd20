"""The scripts called with any arguments, on a real Valkey, for tests of hostile values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from nightmill.queue import keys, wire
from nightmill_worker.queue.lua_source import source
from nightmill_worker.queue.records import Ask

if TYPE_CHECKING:
    from redis import Redis

ACCOUNT, MODEL, LEASE_MS = "l", "m", 60_000
EXACT = 2**53
LANE = f"{keys.LANE}{ACCOUNT}:{MODEL}"
GATES = {
    name: {"rate": 1000.0, "capacity": 1e6, "reserve": 0, "mirror": False}
    for name in ("pace", "requests", "input", "output")
}
ORDERS: dict[str, Any] = {
    "window": 999,
    # Without the pace, which would space the first calls of a lane.
    "gates": {name: gate for name, gate in GATES.items() if name != "pace"},
    "reserves": False,
    "pause": 0.25,
    "breaker": "closed",
    "round": 0,
}
GOOD = (
    b'{"t":null,"f":"generate","a":[],"k":{"params":{"model":"m","max_tokens":5,"messages":[]}},'
    b'"et":1}'
)


class Desk:
    """One worker's view of the scripts: it claims, and sends any items."""

    def __init__(self, redis: Redis) -> None:
        """Take a client of an empty server."""
        self.redis = redis
        names = ("claim", "renew", "settle", "release", "finish", "sweep")
        self._scripts = {name: redis.register_script(source(name)) for name in names}
        self._enqueue = redis.register_script(wire.script("enqueue"))
        self._resume = redis.register_script(wire.script("resume"))
        self._seq = 0

    def enqueue(
        self, job_id: str, payload: bytes = GOOD, batch: str = "b", model: str = MODEL
    ) -> None:
        """Enqueue one job of a batch; "" is the shared queue."""
        queue = keys.queue_of(batch or None, model)
        assert self._enqueue(args=[queue, batch, 0, 0, "", "", job_id, payload]) == b"1"

    groups: tuple[tuple[str, str, int], ...] = ()
    """Models that share a lane, as LIMIT_GROUPS has them."""

    def claim(self, want: int = 99, **also: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401
        """Claim; return id -> what an item needs, and the verdict. `also` are fields of the Ask."""
        self._seq += 1
        ask = Ask(
            worker="w",
            seq=self._seq,
            account=ACCOUNT,
            want=want,
            lease_ms=LEASE_MS,
            functions={wire.FUNCTION: True},
            model=MODEL,
            groups=self.groups,
            **also,
        )
        rows = self.run("claim", msgspec.json.encode(ask))[3:]
        return {
            row[0].decode(): {
                "id": row[0].decode(),
                "token": row[1].decode(),
                "queue": row[3].decode(),
                "model": row[4].decode(),
                "lane": row[15].decode(),
                "verdict": row[9].decode(),
                "reservation": msgspec.Raw(row[10]),
                "counts": [int(number) for number in row[5:9]],
            }
            for row in rows
        }

    def run(self, name: str, *args: bytes) -> Any:  # noqa: ANN401 - the script decides
        """Run a script with its arguments, and the orders that scripts of lanes read."""
        return self._scripts[name](args=[*args, msgspec.json.encode(ORDERS)])

    def send(self, name: str, items: list[dict[str, Any]], **also: object) -> Any:  # noqa: ANN401
        """Run settle, release or renew with items; of the latter, return all ids as one list."""
        body = {"account": ACCOUNT, "lease_ms": LEASE_MS, "answered_ms": 900_000, **also}
        found = self.run(name, msgspec.json.encode({**body, "items": items}))
        return found if name == "settle" else [*found[0], *found[1]]

    def finish(self, items: list[dict[str, Any]]) -> list[bytes]:
        """Finish items."""
        body = msgspec.json.encode({"canary": 20, "items": items})
        return list(self._scripts["finish"](args=[body, *(b"{}" for _ in items)]))

    def sweep(self) -> list[Any]:
        """Sweep, however short a time ago the last sweep was."""
        return list(self._scripts["sweep"](args=[]))

    def hot(self) -> dict[str, Any]:
        """Return the lane's state."""
        found: dict[str, Any] = msgspec.json.decode(self.field(LANE, "hot"))
        return found

    def set_hot(self, **changed: object) -> None:
        """Change fields of the lane's state."""
        self.redis.hset(LANE, "hot", msgspec.json.encode(self.hot() | changed).decode())

    def field(self, key: str, name: str) -> bytes:
        """Return a field of a hash, b"" without one."""
        found: bytes | None = self.redis.execute_command("HGET", key, name)
        return found or b""

    def score(self, key: str | bytes, member: str | bytes) -> float | None:
        """Return a member's score in a sorted set, None when it is not there."""
        found: bytes | None = self.redis.execute_command("ZSCORE", key, member)
        return None if found is None else float(found)

    def due(self, job_id: str, batch: str = "b") -> float:
        """Return when a job is due, epoch ms."""
        found = self.score(keys.queue_of(batch or None, MODEL), job_id)
        assert found is not None
        return found

    def now_ms(self) -> int:
        """Return Redis's clock."""
        seconds, micros = self.redis.execute_command("TIME")
        return int(seconds) * 1000 + int(micros) // 1000


def settlement(job: dict[str, Any], /, **changed: object) -> dict[str, Any]:
    """Return the settlement of a claimed job, with other values."""
    about = {"outcome": "ok", "latency_ms": 5, "bytes": 100, "input": 10, "output": 3}
    kept = {name: job[name] for name in ("token", "model", "lane", "reservation")}
    return {**kept, **about, **changed}


def finished(job: dict[str, Any], **changed: object) -> dict[str, Any]:
    """Return the finish of a claimed job, with other values."""
    about = {"status": "succeeded", "again": 0, "input": 10, "output": 3, "cost": 7, "fault": ""}
    return {**{name: job[name] for name in ("id", "token", "queue")}, **about, **changed}


def released(job: dict[str, Any], **changed: object) -> dict[str, Any]:
    """Return the release of a claimed job, with other values."""
    about = {"state": "snoozed", "wait_ms": 0, "counted": 0, "refused": 0, "attempt": ""}
    return {**{name: job[name] for name in ("id", "token", "queue")}, **about, **changed}


def finite(value: Any) -> bool:  # noqa: ANN401 - any JSON
    """Whether all numbers in a JSON value are of a size that can be worked with."""
    if isinstance(value, dict):
        return all(finite(each) for each in value.values())
    if isinstance(value, list):
        return all(finite(each) for each in value)
    return not isinstance(value, int | float) or (math.isfinite(value) and abs(value) <= 1e16)


def works(desk: Desk) -> bool:
    """Whether a new job is claimed, settled and finished, after pauses and debts are over."""
    desk.enqueue("next")
    for _ in range(4):  # a job that was released before is claimed first, and may take all tokens
        desk.redis.delete(LANE + ":slots")
        full = {name: gate["capacity"] for name, gate in GATES.items()}
        desk.set_hot(pause_until=0, level=full)
        job = desk.claim().get("next")
        if job is not None:
            ok = desk.hot()["ok"]
            desk.send("settle", [settlement(job)])
            return desk.finish([finished(job)]) == [] and desk.hot()["ok"] == ok + 1
    return False
