"""A Redis cluster is refused with what to use instead, by every client and command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill import Producer, SyncProducer
from nightmill.errors import QueueRefusedError
from nightmill.settings import load_settings
from nightmill_worker.cli.redis_rights import warnings
from tests.redis_servers import Server, free_port, serving
from tests.rig import hello

SENTENCE = "it is a cluster.*several slots; .*single Redis or Valkey.*redis[+]sentinel://"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server in cluster mode that has all slots."""
    folder = tmp_path_factory.mktemp("cluster")
    options = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with serving(folder, *options) as server:
        with server.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        yield server


async def test_a_cluster_is_refused_by_producers(cluster: Server) -> None:
    """Single keys worked, so that a status was empty and an enqueue failed with CROSSSLOT."""
    with pytest.raises(QueueRefusedError, match=SENTENCE):
        async with Producer(cluster.url) as producer:
            await producer.enqueue(hello())


def test_a_cluster_is_refused_by_blocking_producers(cluster: Server) -> None:
    """Its connections are others."""
    with (
        pytest.raises(QueueRefusedError, match=SENTENCE),
        SyncProducer(cluster.url) as producer,
    ):
        producer.enqueue(hello())


async def test_a_cluster_ends_the_start_of_workers(cluster: Server) -> None:
    """`run` and `worker` exit with 2."""
    with pytest.raises(QueueRefusedError, match=SENTENCE):
        await warnings(load_settings(redis_url=cluster.url))


async def test_a_user_without_hello_is_served(tmp_path: Path) -> None:
    """The check is skipped for a user who may not ask."""
    with serving(tmp_path) as server:
        with server.client() as client:
            rights = ("on", ">pw", "~*", "&*", "+@all", "-hello")
            client.execute_command("ACL", "SETUSER", "limited", *rights)
        url = server.url.replace("//", "//limited:pw@")
        async with Producer(url) as producer:
            assert (await producer.enqueue(hello())).new
