"""Turns in the store, with any database; test_turns.py runs it over both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill.records.result import Attempt, Bill, Usage
from nightmill.records.turn import Turn
from tests.producer.store.samples import SUCCEEDED

if TYPE_CHECKING:
    from nightmill.store import ResultStore

TURN = Turn(
    job_id=SUCCEEDED.job_id,
    run=0,
    n=1,
    batch="night",
    request_hash="00ff00ff00ff00ff",
    why="pause_turn",
    message=msgspec.Raw('{"type":"message","content":[{"type":"text","text":"漢字"}]}'),
    usage=Usage(input_tokens=7, output_tokens=5),
    bill=Bill(input=0.25),
    call=1,
    at=1_700_000_000_200,
)


def second(**changes: object) -> Turn:
    """Return the turn behind TURN."""
    return msgspec.structs.replace(TURN, n=2, call=2, at=TURN.at + 1, **changes)


class TurnsConformance:
    """The tests; a subclass says where the store is."""

    async def test_a_turn_comes_back_as_it_was_recorded(self, store: ResultStore) -> None:
        """The next call is built from it, in another process."""
        odd = second(why="invalid_output", problem="a: not \0 b", usage_unknown=True, bill=None)
        await store.record_turns([TURN, odd])
        (first, last) = (await store.turns([TURN.job_id, "other"]))[TURN.job_id]
        assert first == TURN
        assert last == msgspec.structs.replace(odd, problem="a: not \N{REPLACEMENT CHARACTER} b")
        assert await store.started([TURN.job_id, "other"]) == ({}, {TURN.job_id})

    async def test_a_row_takes_its_turns_out(self, store: ResultStore) -> None:
        """Their tokens are in the row: what was spent stays the same."""
        await store.record_turns([TURN])
        assert (await store.spent("night")).usage == TURN.usage
        await store.record([msgspec.structs.replace(SUCCEEDED, turns=1)])
        assert await store.turns([TURN.job_id]) == {}
        assert (await store.spent("night")).usage == SUCCEEDED.usage
        assert await store.started([TURN.job_id]) == ({TURN.job_id: 0}, set())

    async def test_what_a_row_does_not_count_stays_spent(self, store: ResultStore) -> None:
        """A job that was cancelled between two turns has a row without tokens."""
        await store.record_turns([TURN])
        none = msgspec.structs.replace(SUCCEEDED, usage=Usage(), cost=0.0)
        await store.record([none])
        spent = await store.spent("night")
        assert (spent.usage, spent.cost) == (TURN.usage, 0.25)

    async def test_a_turn_that_is_committed_twice_is_one(self, store: ResultStore) -> None:
        """A commit whose answer was lost is repeated."""
        await store.record_turns([TURN])
        await store.record_turns([TURN])
        assert (await store.spent("night")).usage == TURN.usage

    async def test_two_answers_in_one_place_are_both_paid(self, store: ResultStore) -> None:
        """After a lost lease two workers may make the same call."""
        await store.record_turns([TURN])
        await store.record_turns([msgspec.structs.replace(TURN, at=TURN.at + 5)])
        assert len((await store.turns([TURN.job_id]))[TURN.job_id]) == 1
        assert (await store.spent("night")).usage.input_tokens == 2 * 7

    async def test_a_turn_after_its_row_stays_spent(self, store: ResultStore) -> None:
        """A worker that lost its lease may be slower than the one that ended the job."""
        await store.record([SUCCEEDED])
        await store.record_turns([TURN])
        assert await store.turns([TURN.job_id]) == {}
        used = SUCCEEDED.usage.input_tokens + 7
        assert (await store.spent("night")).usage.input_tokens == used

    async def test_a_late_row_counts_its_last_answer_alone(self, store: ResultStore) -> None:
        """Both rows have the same turns: these were paid once."""
        await store.record_turns([TURN])
        billed = Attempt(n=1, started_at=1, outcome="continued", billed=TURN.usage)
        usage = Usage(input_tokens=17, output_tokens=6)
        row = msgspec.structs.replace(SUCCEEDED, turns=1, usage=usage, attempts=(billed,))
        late = msgspec.structs.replace(row, finished_at=row.finished_at + 1)
        await store.record([row])
        await store.record([late])
        assert (await store.spent("night")).usage == Usage(input_tokens=27, output_tokens=7)

    async def test_turns_that_are_abandoned_stay_spent(self, store: ResultStore) -> None:
        """A job that got another request does not go on from the answers to the old one."""
        await store.record_turns([TURN, second()])
        await store.abandon([TURN])
        await store.abandon([TURN])
        assert (await store.turns([TURN.job_id]))[TURN.job_id] == [second()]
        assert (await store.spent("night")).usage.input_tokens == 2 * 7

    async def test_turns_of_a_later_run_stay(self, store: ResultStore) -> None:
        """A late row of the run before must not take them out."""
        await store.record_turns([msgspec.structs.replace(TURN, run=1)])
        await store.record([SUCCEEDED])
        assert len((await store.turns([TURN.job_id]))[TURN.job_id]) == 1

    async def test_a_batch_is_forgotten_with_its_turns(self, store: ResultStore) -> None:
        """Pruning a batch leaves nothing of it."""
        await store.record_turns([TURN])
        await store.forget("night")
        assert await store.turns([TURN.job_id]) == {}
