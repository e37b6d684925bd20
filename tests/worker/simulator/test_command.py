"""The command, in a process of its own."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
import pytest

from tests.worker.simulator.helpers import HEADERS, params

COMMAND = [sys.executable, "-m", "nightmill_worker.simulator"]


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the command on a free port; yield the process and the URL that it prints."""
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        process.stdout.readline()
        line = process.stdout.readline()
        yield process, line.split("NIGHTMILL_BASE_URL=")[1].split()[0]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


async def test_it_serves_until_ctrl_c_and_prints_its_counts(
    session: aiohttp.ClientSession,
) -> None:
    """After Ctrl-C it prints one summary and exits 0."""
    with running("--latency", "0", "--rpm", "60", "--fail", "529:1") as (process, url):
        async with session.post(f"{url}/v1/messages", json=params(), headers=HEADERS) as reply:
            assert reply.status == 529
            assert reply.headers["anthropic-ratelimit-requests-limit"] == "60"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=5)
    assert process.returncode == 0
    assert "1 calls of 1 prompts: 0 answered, 0 refused (429), 1 failed" in out


def test_a_port_in_use_is_one_line_and_exit_2() -> None:
    """The line names the address; nothing goes to stdout."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*COMMAND, "--port", port], capture_output=True, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fail", "529"), "fail: '529' is not STATUS:SHARE"),
        (("--jitter", "2"), "jitter: "),
        (("--burst", "3"), "burst: needs rpm"),
    ],
)
def test_an_invalid_option_is_one_line_and_exit_2(options: tuple[str, ...], message: str) -> None:
    """The simulator does not start with settings that it cannot read."""
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith(f"simulate: {message}")
    assert done.stderr.count("\n") == 1
