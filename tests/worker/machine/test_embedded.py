"""The embedded Valkey: start, stop, adoption; with real servers and real processes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

import pytest
from redis import Redis

from nightmill.errors import ServerError
from nightmill_worker.machine import embedded
from nightmill_worker.machine.embedded import embedded_server, restart_if_dead

# A user in a process of its own: prints the URL, stays until its input ends, reports a Ctrl-C.
USER: Final = """
import signal, sys
from pathlib import Path
from nightmill_worker.machine.embedded import embedded_server
signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
with embedded_server(Path(sys.argv[1])) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


class User:
    """A process that uses the server of a folder until it leaves or is killed."""

    def __init__(self, folder: Path) -> None:
        """Start it as the leader of a process group, like a foreground job of a terminal."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        assert self.process.stdin
        assert self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def line(self) -> str:
        """Wait for the next line that it prints."""
        return self.stdout.readline().strip()

    def leave(self) -> None:
        """Close its input, so that it leaves its context, and wait for its end."""
        self.stdin.close()
        assert self.process.wait(10) == 0

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.process.kill()
        self.process.wait(10)

    def close(self) -> None:
        """End the process and close its pipes."""
        self.kill()
        self.stdin.close()
        self.stdout.close()


StartUser: TypeAlias = Callable[[Path], User]


def server_pid(url: str) -> int:
    """Return the process id of the server at `url`."""
    with Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])


def starts(folder: Path) -> int:
    """Return how many servers were ever started in this folder."""
    return (folder / "valkey.log").read_text().count("Ready to accept connections")


@contextmanager
def ending(pid: int, within_s: float = 5) -> Iterator[None]:
    """Assert that process `pid` runs now, and has ended within `within_s` after the block."""
    handle = os.pidfd_open(pid)
    try:
        assert not select.select([handle], [], [], 0)[0], "already ended"
        yield
        assert select.select([handle], [], [], within_s)[0], f"process {pid} still runs"
    finally:
        os.close(handle)


@pytest.fixture
def users(folder: Path) -> Iterator[StartUser]:  # noqa: ARG001 - ends before the check of `folder`
    """Return a function that starts users; all of them are ended after the test."""
    with ExitStack() as stack:
        yield lambda folder: stack.enter_context(closing(User(folder)))


def test_data_outlives_the_server(folder: Path) -> None:
    """The next command needs the queue, so a stop must not lose data."""
    with embedded_server(folder) as url, Redis.from_url(url) as client:
        client.set("job", "1")
    with embedded_server(folder) as url, Redis.from_url(url) as client:
        assert client.get("job") == b"1"
    assert starts(folder) == 2


def test_configuration_is_durable_and_local(folder: Path) -> None:
    """The server has no TCP port, evicts no job, and puts every write in the append-only file."""
    wanted = {
        "port": "0",
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
    }
    with embedded_server(folder) as url, Redis.from_url(url) as client:
        assert client.config_get(*wanted) == wanted
        assert Path(url.removeprefix("unix://")).stat().st_mode & 0o077 == 0


def test_directory_is_private_and_ignored_by_git(folder: Path) -> None:
    """It holds prompts: other users must not read them, and `git add` must not add them."""
    with embedded_server(folder):
        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / ".gitignore").read_text() == "*\n"


def test_server_holds_no_terminal_and_no_users_lock(folder: Path) -> None:
    """An open terminal would block a pipeline; an open users.lock would make it its own user."""
    with embedded_server(folder) as url:
        descriptors = Path(f"/proc/{server_pid(url)}/fd")
        held = {entry.name: entry.readlink() for entry in descriptors.iterdir()}
    assert {held[name] for name in "012"} == {Path("/dev/null")}
    assert {path.name for path in held.values()}.isdisjoint({"users.lock", "server.lock"})


def test_commands_started_at_once_share_one_server(folder: Path, users: StartUser) -> None:
    """Two servers that write one append-only file would destroy it."""
    several = [users(folder) for _ in range(4)]
    urls = {user.line() for user in several}
    assert len(urls) == 1
    with ending(server_pid(urls.pop())):
        for user in several:
            user.leave()
    assert starts(folder) == 1


def test_the_last_user_stops_the_server(folder: Path, users: StartUser) -> None:
    """The user that started it may leave first; the server runs until the last one leaves."""
    first = users(folder)
    pid = server_pid(first.line())
    with ending(pid), embedded_server(folder) as url:
        first.leave()
        assert server_pid(url) == pid
        with embedded_server(folder):
            pass
        assert server_pid(url) == pid, "a nested user is a user"


def test_server_is_adopted_after_every_user_was_killed(folder: Path, users: StartUser) -> None:
    """A kill -9 leaves a server without users: the next command uses it and stops it."""
    victims = [users(folder) for _ in range(2)]
    pid = {server_pid(victim.line()) for victim in victims}.pop()
    for victim in victims:
        victim.kill()
    with ending(pid), embedded_server(folder) as url:
        assert server_pid(url) == pid
    assert starts(folder) == 1


def test_a_server_whose_users_were_all_killed_is_stopped(folder: Path, users: StartUser) -> None:
    """Nothing else stops it when no command follows; its data stay."""
    victims = [users(folder) for _ in range(2)]
    url = {victim.line() for victim in victims}.pop()
    with Redis.from_url(url) as client:
        client.set("job", "1")
    with ending(server_pid(url), within_s=30):
        for victim in victims:
            victim.kill()
    with embedded_server(folder) as again, Redis.from_url(again) as client:
        assert client.get("job") == b"1"


def test_a_restarted_server_is_guarded_too(folder: Path, users: StartUser) -> None:
    """Its first guard ended with the server that died."""
    user = users(folder)
    url = user.line()
    pid = server_pid(url)
    with ending(pid):
        os.kill(pid, signal.SIGKILL)
    assert restart_if_dead(folder)
    assert not restart_if_dead(folder)
    with ending(server_pid(url), within_s=30):
        user.kill()


def test_a_child_keeps_the_server_when_its_parent_is_killed(folder: Path, users: StartUser) -> None:
    """Workers drain after their supervisor died, so they need the server until they end."""
    supervisor, worker = users(folder), users(folder)
    url = supervisor.line()
    assert worker.line() == url
    with ending(server_pid(url)):
        supervisor.kill()
        with embedded_server(folder):
            pass
        assert server_pid(url)
        worker.leave()


def test_a_killed_server_is_replaced_with_its_data(folder: Path, users: StartUser) -> None:
    """Users that still run find the new server at the old address, with all jobs."""
    user = users(folder)
    url = user.line()
    with Redis.from_url(url) as client:
        client.set("job", "1")
    pid = server_pid(url)
    with ending(pid):
        os.kill(pid, signal.SIGKILL)
    assert Path(url.removeprefix("unix://")).is_socket(), "the test needs a stale socket"
    with embedded_server(folder) as again, Redis.from_url(again) as client:
        assert again == url
        assert client.get("job") == b"1"
    with ending(server_pid(url)):
        user.leave()


def test_a_server_killed_while_it_rewrites_its_file_is_replaced(folder: Path) -> None:
    """Its child that rewrites the file lives a moment longer and must not pass for a server."""
    with embedded_server(folder) as url, Redis.from_url(url) as client:
        client.eval("for i = 1, 50000 do redis.call('SET', i, ('x'):rep(50)) end", 0)
        pid = server_pid(url)
        with ending(pid):
            client.bgrewriteaof()
            os.kill(pid, signal.SIGKILL)
        with embedded_server(folder), Redis.from_url(url) as again:
            assert again.dbsize() == 50_000


def test_ctrl_c_in_the_terminal_leaves_the_server_alone(folder: Path, users: StartUser) -> None:
    """A user that drains its last calls after a Ctrl-C still needs the server."""
    user = users(folder)
    url = user.line()
    with ending(server_pid(url)):
        os.killpg(user.process.pid, signal.SIGINT)
        assert user.line() == "interrupted"
        assert server_pid(url)
        user.leave()


@pytest.mark.parametrize("name", ["deep" * 30, "spaces and 100 % ünïcode?#"])
def test_long_or_odd_paths_get_a_short_socket_that_all_commands_find(
    folder: Path, users: StartUser, name: str
) -> None:
    """The path of a unix socket is limited, and clients unquote URLs differently."""
    folder_below = folder / name
    user = users(folder_below)
    url = user.line()
    path = Path(url.removeprefix("unix://"))
    assert len(os.fsencode(path)) < 100
    assert path.parent.stat().st_mode & 0o777 == 0o700
    alias = folder / "alias"
    alias.symlink_to(folder_below)
    with embedded_server(alias) as found:
        assert found == url
    with ending(server_pid(url)):
        user.leave()
    assert not path.exists()


def test_short_sockets_never_go_where_others_can_write(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user of the machine could listen at a path that can be guessed."""
    monkeypatch.setattr("nightmill.queue.embedded.SHORT_SOCKETS", folder)
    planted = folder / f"nightmill-{os.getuid()}"
    planted.mkdir(parents=True)
    planted.chmod(0o777)
    with (
        pytest.raises(ServerError, match="not a private directory"),
        embedded_server(folder / ("deep" * 30)),
    ):
        pass


def test_no_second_server_starts_when_the_socket_is_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first server still runs, and a second one would destroy its files."""
    monkeypatch.setattr(embedded, "UNREACHABLE_S", 0.05)
    with embedded_server(folder) as url:
        path = Path(url.removeprefix("unix://"))
        hidden = path.rename(path.with_suffix(".hidden"))
        with pytest.raises(ServerError, match="cannot be reached"), embedded_server(folder):
            pass
        hidden.rename(path)
    assert starts(folder) == 1


def test_session_server_is_empty_for_each_test(redis_url: str) -> None:
    """All tests with this fixture rely on that."""
    with Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
