"""A run: every line has one result, whatever is killed or stopped meanwhile."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.integration.shell import Endpoint, Shell, finish, slowly, until

MANY = 2000


def assert_whole(shell: Shell, count: int, batch: str = "prompts") -> None:
    """Assert that each of `count` inputs has one succeeded row, in the input's order."""
    rows = shell.rows(f"{batch}.results.jsonl")
    assert [row["custom_id"] for row in rows] == [f"c{i}" for i in range(count)]
    for row in rows:
        assert isinstance(row["result"], dict)
        assert row["result"]["type"] == "succeeded"


def test_a_run_calls_every_prompt_once_and_a_second_run_none(
    shell: Shell, endpoint: Endpoint
) -> None:
    """A prompt that is called twice is paid for twice."""
    source = shell.write(MANY)
    done = shell("run", source, "--processes", "2")
    assert (done.code, done.out) == (0, "")
    assert "prompts: 2,000/2,000 done · " in done.err  # the last state is printed
    assert "2,000 succeeded (2,000 cut at max_tokens), 0 failed" in done.err
    assert_whole(shell, MANY)
    assert endpoint.answered() == [1] * MANY
    first = (shell.folder / "prompts.results.jsonl").read_bytes()
    again = shell("run", source, "--processes", "2")
    assert again.code == 0
    assert "2,000 from earlier runs, 0 called now" in again.err
    assert (shell.folder / "prompts.results.jsonl").read_bytes() == first
    assert endpoint.answered() == [1] * MANY


def test_a_rehearsal_at_a_rate_limit_ignores_all_keys(tmp_path: Path) -> None:
    """The simulator runs inside the command, with a key of its own."""
    shell = Shell(tmp_path, auth_token="a-real-one")  # noqa: S106 - not a secret
    done = shell("run", shell.write(MANY), "--simulate", "--rpm", "60000", "--latency", "0.1")
    assert done.code == 0
    assert "2,000 succeeded (2,000 cut at max_tokens), 0 failed" in done.err
    assert_whole(shell, MANY, "prompts@rehearsal")
    shell.assert_nothing_runs()


def test_verify_of_a_finished_run_finds_no_rows_of_other_ids(shell: Shell) -> None:
    """A source whose rows were all there was not read: `verify` reported none of them."""
    source = shell.write(3)
    assert shell("run", source).code == 0
    verified = shell("verify", "prompts", "--source", source)
    text = "prompts: no job is missing (3 stored, 0 not finished)\n"
    assert (verified.code, verified.out) == (0, text)
    assert "rows of other ids: 1" in shell("verify", "prompts", "--source", shell.write(2)).out


def test_after_a_ctrl_c_only_the_rest_is_called(shell: Shell, endpoint: Endpoint) -> None:
    """The calls under way finish; none is lost and none is repeated."""
    slowly(shell, endpoint)
    source = shell.write(300)
    with shell.started("run", source) as run:
        until(lambda: sum(endpoint.answered()) > 50)
        run.send_signal(signal.SIGINT)
        err = finish(run, 130).err
    assert "interrupted, nothing is lost" in err
    shell.assert_nothing_runs()
    before = sum(endpoint.answered())
    assert before < 300
    endpoint.configure(latency_s=0)
    assert shell("run", source).code == 0
    assert_whole(shell, 300)
    assert endpoint.answered() == [1] * 300


def test_a_killed_worker_loses_no_row(shell: Shell, endpoint: Endpoint) -> None:
    """Another worker is started; only the calls of the killed one are made again."""
    slowly(shell, endpoint)
    source = shell.write(600)
    with shell.started("run", source, "--processes", "2") as run:
        until(lambda: sum(endpoint.answered()) > 20)
        victim = shell.pids("nightmill_worker.machine.process")[0]
        os.kill(victim, signal.SIGKILL)
        endpoint.configure(latency_s=0)
        err = finish(run, 0).err
    assert "a worker ended (killed by SIGKILL); starting another" in err
    assert_whole(shell, 600)
    assert set(endpoint.answered()) <= {1, 2}
    assert len(endpoint.calls()) == 600


def test_a_killed_run_can_be_run_again(shell: Shell, endpoint: Endpoint) -> None:
    """Its workers drain and end; the next run does not repeat what they stored."""
    slowly(shell, endpoint)
    source = shell.write(300)
    with shell.started("run", source) as run:
        until(lambda: sum(endpoint.answered()) > 50)
        run.kill()
    endpoint.configure(latency_s=0)
    assert shell("run", source).code == 0
    assert_whole(shell, 300)
    assert endpoint.answered() == [1] * 300
