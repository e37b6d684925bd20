"""The plain twins: the same methods as the asynchronous classes, threads, forks, and Ctrl-C."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from nightmill import Batch, Producer, SyncProducer
from nightmill.client.sync import SyncBatch
from nightmill.errors import BatchNotFoundError
from tests.rig import hello

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def methods(kind: type) -> set[str]:
    """Return the names of the public methods of a class that talk to Redis."""
    found = inspect.getmembers(kind, inspect.iscoroutinefunction)
    found += inspect.getmembers(kind, inspect.isasyncgenfunction)
    return {name for name, _ in found if not name.startswith("_")}


@pytest.mark.parametrize(
    ("plain", "asynchronous", "without"),
    [(SyncProducer, Producer, {"aclose", "feed_lines"}), (SyncBatch, Batch, {"pages"})],
)
def test_a_plain_class_has_the_methods_of_its_twin(
    plain: type, asynchronous: type, without: set[str]
) -> None:
    """A method that is added to one of them must not be missing from the other."""
    for name in methods(asynchronous) - without:
        mine, twin = (inspect.signature(getattr(each, name)) for each in (plain, asynchronous))
        assert list(mine.parameters) == list(twin.parameters), name


def test_threads_share_one_producer(redis_url: str) -> None:
    """A web server calls it from all of its threads."""
    with SyncProducer(redis_url) as producer, ThreadPoolExecutor(8) as threads:
        receipts = threads.map(lambda n: producer.enqueue(hello(), job_id=f"{n % 100}"), range(200))
        assert sum(receipt.new for receipt in receipts) == 100


def test_an_enqueue_needs_no_other_thread(redis_url: str) -> None:
    """The way to the background thread and its loop made one enqueue cost 330 us, not 80."""
    with SyncProducer(redis_url) as producer:
        assert producer.enqueue(hello(), expires=timedelta(hours=1)).new
        assert len(producer.enqueue_many([hello(), hello()], batch="night")) == 2
        assert producer._thread._running is None
    with pytest.raises(TypeError, match="needs an event loop"):
        producer._at_once.run(lambda _: asyncio.sleep(0))


def test_it_works_in_a_thread_that_runs_a_loop(redis_url: str) -> None:
    """A notebook has a loop in its main thread."""

    async def enqueue() -> bool:
        with SyncProducer(redis_url) as producer:
            return producer.enqueue(hello()).new

    assert asyncio.run(enqueue())


def in_fork(work: Callable[[], bool]) -> int:
    """Run `work` in a forked child; return the child's exit code: 0 when it returned True."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the parent has threads
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_forked_child_and_its_parent_both_go_on(redis_url: str) -> None:
    """A preforking server makes its producer before it forks."""
    with SyncProducer(redis_url) as producer:
        producer.enqueue(hello(), job_id="a")

        def enqueue() -> bool:
            with producer:
                return producer.enqueue(hello(), job_id="b").new

        assert in_fork(enqueue) == 0
        assert [producer.enqueue(hello(), job_id=name).new for name in "abc"] == [
            *(False, False),
            True,
        ]


def test_ctrl_c_ends_the_wait_at_once_and_spoils_nothing(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Without a cancellation the program would wait for a result that may take all night."""
    waiting, ended = threading.Event(), threading.Event()
    caller = threading.get_ident()

    async def look(_: Producer, _job_id: str) -> tuple[None, bool]:
        waiting.set()
        try:
            await asyncio.sleep(3600)
        finally:
            ended.set()
        return None, True

    def interrupt() -> None:
        waiting.wait()
        signal.pthread_kill(caller, signal.SIGINT)

    monkeypatch.setattr(Producer, "_look", look)
    # A shell that starts the tests in the background has them ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    with SyncProducer(redis_url) as producer:
        interrupting = threading.Thread(target=interrupt)
        interrupting.start()
        with pytest.raises(KeyboardInterrupt):
            producer.result("x", wait=None)
        interrupting.join()
        assert ended.wait(10)
        assert producer.enqueue(hello()).new


def test_ctrl_c_in_a_source_is_raised_and_frees_the_feeder(redis_url: str) -> None:
    """The source is read in the caller's thread, so that is where Ctrl-C arrives."""

    def rows() -> Iterator[dict[str, object]]:
        yield {"custom_id": "a", **hello()}
        raise KeyboardInterrupt

    with SyncProducer(redis_url) as producer:
        with pytest.raises(KeyboardInterrupt):
            producer.feed(rows(), batch="night")
        assert not producer.batch("night").counts().feeding
        assert producer.feed([{"custom_id": "b", **hello()}], batch="night").new == 1


def test_errors_are_raised_where_the_call_was_made(redis_url: str) -> None:
    """Plain calls raise the same errors as the asynchronous ones."""
    with SyncProducer(redis_url) as producer, pytest.raises(BatchNotFoundError, match="nihgt"):
        producer.batch("nihgt").wait()


def test_a_producer_that_is_dropped_ends_its_thread(redis_url: str) -> None:
    """A function that makes a producer and forgets it must not leak a thread with each call."""
    producer = SyncProducer(redis_url)
    producer.batch("night").limit(weight=2)
    running = producer._thread._running
    assert running is not None
    del producer
    gc.collect()
    running.thread.join(10)
    assert not running.thread.is_alive()


def test_a_closed_producer_starts_again_with_its_next_call(redis_url: str) -> None:
    """As before the twins were one: connections come back when they are needed."""
    producer = SyncProducer(redis_url)
    for _ in range(2):
        with producer:
            assert producer.enqueue(hello()).new
