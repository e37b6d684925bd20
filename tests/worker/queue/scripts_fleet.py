"""The scripts on a real Redis, as the property test drives them."""

from __future__ import annotations

from typing import ClassVar

import msgspec
from hypothesis.stateful import RuleBasedStateMachine, initialize
from redis import Redis

from nightmill.queue import keys, wire
from nightmill_worker.queue.lua_source import source
from tests.worker.queue.scripts_model import ORDERS, Claim, ModelJob


class ScriptedFleet(RuleBasedStateMachine):
    """A Redis with the scripts, and what the model knows of it."""

    url: ClassVar[str]

    def __init__(self) -> None:
        """Connect. `begin` empties the server."""
        super().__init__()
        self.redis = Redis.from_url(self.url)
        names = ("claim", "renew", "restore", "settle", "release", "finish", "sweep")
        self.scripts = {name: self.redis.register_script(source(name)) for name in names}
        self.scripts["enqueue"] = self.redis.register_script(wire.script("enqueue"))
        self.scripts["cancel"] = self.redis.register_script(wire.script("cancellation"))
        self.jobs: dict[str, ModelJob] = {}
        self.claims: list[Claim] = []
        self.seqs = {"w": 0, "v": 0}
        self.last: dict[str, list[Claim]] = {}

    @initialize()
    def begin(self) -> None:
        """Start with an empty server, and without sidesteps, which depend on real time."""
        self.redis.flushall()
        self.redis.set(keys.SIDESTEP, 1)

    def teardown(self) -> None:
        """Disconnect."""
        self.redis.close()

    def run_script(self, name: str, **request: object) -> list[bytes]:
        """Run a script with one JSON argument, and the orders that scripts of lanes read."""
        return list(self.scripts[name](args=[msgspec.json.encode(request), ORDERS]) or ())
