"""The client's commands in processes of their own, with real servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
from redis import Redis

from nightmill.queue import keys
from nightmill.records.state import JobState
from tests.rig import Rig, rigged

PROMPTS: list[Mapping[str, object]] = [
    {"custom_id": f"c{i}", "prompt": f"prompt {i}"} for i in range(1, 6)
]

BAD_LINES = {
    "not JSON": b"{nope",
    "messages": b'{"messages": []}',
    "max_tokens": b'{"prompt": "hi", "max_tokens": 0}',
    "temperature": b'{"prompt": "hi", "temperature": 1.5}',
    "custom_id": b'{"prompt": "hi", "custom_id": "c1"}',
    "move it to": b'{"messages": [{"role": "system", "content": "x"}]}',
}


class Shell:
    """Runs `nightmill` in one folder with one Redis."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        """Use `folder` as the working directory, and `redis_url` as NIGHTMILL_REDIS_URL."""
        self.folder = folder
        self.env = {"PATH": "/usr/bin:/bin", "NIGHTMILL_REDIS_URL": redis_url}
        self.env |= {k: v for k, v in os.environ.items() if k == "PYTHONPATH"}  # of a worktree

    def start(self, *args: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "nightmill", *args],
            cwd=self.folder,
            env=self.env,
            text=True,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __call__(self, *args: str, stdin: str | None = None) -> tuple[int, str, str]:
        """Run a command to its end; return its exit code, stdout and stderr."""
        handle = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        with self.start(*args, stdin=handle) as process:
            out, err = process.communicate(stdin, timeout=120)
        return process.returncode, out, err

    def write(self, rows: Sequence[Mapping[str, object]], name: str = "prompts.jsonl") -> str:
        """Write an input file and return its name."""
        lines = [msgspec.json.encode(row) + b"\n" for row in rows]
        (self.folder / name).write_bytes(b"".join(lines))
        return name


@pytest.fixture
def shell(tmp_path: Path, redis_url: str) -> Shell:
    """Return a shell in an empty folder."""
    return Shell(tmp_path, redis_url)


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig that shares the shell's Redis and data directory."""
    async with rigged(redis_url, tmp_path / ".nightmill") as made:
        yield made


@pytest.fixture
def redis(redis_url: str) -> Redis:
    """Return a client of the session's Valkey."""
    return Redis.from_url(redis_url)


def jobs(redis: Redis) -> int:
    """Return the number of jobs in Redis."""
    return sum(1 for _ in redis.scan_iter(keys.PAYLOAD + "*"))


async def test_from_enqueue_to_results(shell: Shell, rig: Rig) -> None:
    """Results come in the order of the input. Enqueueing again makes no call."""
    source = shell.write(PROMPTS)
    code, out, _ = shell("enqueue", source)
    assert (code, out) == (0, 'fed 5 jobs as batch "prompts": 5 new\n')
    assert shell("enqueue", source)[1] == 'fed 5 jobs as batch "prompts": 0 new, 5 queued already\n'
    await rig.work_off()
    assert shell("enqueue", source)[1] == 'fed 5 jobs as batch "prompts": 0 new, 5 stored already\n'
    code, out, err = shell("results", "prompts")
    assert (code, err) == (0, '5 results of batch "prompts"\n')
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["custom_id"] for row in rows] == ["c1", "c2", "c3", "c4", "c5"]
    assert {row["result"]["type"] for row in rows} == {"succeeded"}
    assert rig.calls() == 5


async def test_status_as_json_has_the_documented_keys(shell: Shell, rig: Rig) -> None:
    """Scripts depend on these keys."""
    shell("enqueue", shell.write(PROMPTS))
    await rig.producer.enqueue({"messages": [{"role": "user", "content": "single"}]})
    one = json.loads(shell("status", "prompts", "--json")[1])
    used = {
        "tokens": {"input": 0, "output": 0},
        "cost": {
            "usd": 0.0,
            "projected_usd": None,
            "wasted_usd": {"failed": 0.0, "truncated": 0.0, "repeated": 0.0},
        },
        "utilisation": None,
    }
    states = {str(state): 5 if state is JobState.QUEUED else 0 for state in JobState}
    about = {"batch": "prompts", "state": "waiting", "workers": 0, "total": 5}
    measured: dict[str, object] = {"stop_reasons": {}, "rate": None, "eta_s": None, "refused": 0}
    assert one == about | used | states | measured
    both = json.loads(shell("status", "--json")[1])
    assert both["batches"] == {"prompts": one}
    assert (both["single"]["queued"], both["single"]["batch"]) == (1, None)
    assert both["workers"] == 0


async def test_status_is_a_table_for_people(shell: Shell, rig: Rig) -> None:
    """The table has one row a batch. `--watch` ends when the batch is done."""
    shell("enqueue", shell.write(PROMPTS))
    await rig.work_off()
    code, out, _ = shell("status")
    assert code == 0
    assert "prompts" in out
    assert "5 of 5" in out
    code, out, _ = shell("status", "prompts", "--watch")
    assert code == 0
    assert out.startswith("prompts done: 5/5 done · 0.0/s · $")


def test_watching_ends_with_130_on_ctrl_c(shell: Shell) -> None:
    """A batch without workers never ends, so the user interrupts the command."""
    shell("enqueue", shell.write(PROMPTS))
    with shell.start("status", "prompts", "--watch", "--json") as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline())["queued"] == 5
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=120)
    assert (watching.returncode, err) == (130, "")


def test_an_unknown_batch_names_the_known_ones(shell: Shell) -> None:
    """The usual cause is a typo."""
    shell("enqueue", shell.write(PROMPTS))
    code, out, err = shell("status", "prompt")
    assert (code, out, err) == (2, "", 'error: no batch "prompt"; batches: prompts\n')
    code, _, err = shell("results", "prompt")
    assert code == 2
    assert err.startswith("error: no results")


def test_bad_rows_enqueue_nothing(shell: Shell, redis: Redis) -> None:
    """A file is checked whole first. Each error names the line and the problem."""
    name = shell.write(PROMPTS)
    with (shell.folder / name).open("ab") as file:
        file.writelines(line + b"\n" for line in BAD_LINES.values())
    code, out, err = shell("enqueue", name)
    assert (code, out) == (2, "")
    *shown, error = err.splitlines()
    for number, (reason, line) in enumerate(zip(BAD_LINES, shown, strict=True), len(PROMPTS) + 1):
        assert line.startswith(f"prompts.jsonl: line {number}: ")
        assert reason in line
    assert error.startswith(
        "error: prompts.jsonl: 6 of 11 rows cannot be jobs, nothing was enqueued"
    )
    assert not jobs(redis)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"\0\1\2", "NUL"), (None, "no such file"), (b"\n\n", "no jobs")],
)
def test_an_unusable_file_is_one_line_of_error(
    shell: Shell, content: bytes | None, reason: str
) -> None:
    """A mistake of the user never prints a traceback."""
    if content is not None:
        (shell.folder / "in.jsonl").write_bytes(content)
    code, out, err = shell("enqueue", "in.jsonl")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert reason in err
    assert len(err.splitlines()) == 1


def test_a_mistake_of_many_rows_is_shown_once(shell: Shell) -> None:
    """A file of a million bad rows must not fill the terminal."""
    shell.write([{"prompt": ""}] * 25, "in.jsonl")
    _, _, err = shell("enqueue", "in.jsonl")
    assert err.count("in.jsonl: 25 of 25 rows: ") == 1
    assert "error: in.jsonl: 25 of 25 rows cannot be jobs" in err


def test_skip_bad_reports_in_a_side_file(shell: Shell, redis: Redis) -> None:
    """The good rows are fed. The bad ones can be corrected and fed later."""
    source = shell.write([*PROMPTS, {"prompt": "", "custom_id": "bad"}])
    code, out, err = shell("enqueue", source, "--skip-bad")
    assert (code, out) == (0, 'fed 5 jobs as batch "prompts": 5 new\n')
    assert "1 bad row skipped; see prompts.rejected.jsonl" in err
    (rejected,) = (shell.folder / "prompts.rejected.jsonl").read_text().splitlines()
    assert json.loads(rejected)["line"] == 6
    assert json.loads(rejected)["field"] == "prompt"
    assert jobs(redis) == 5


@pytest.mark.parametrize("bad", [{"prompt": ""}, {"prompt": "again", "custom_id": "c1"}])
def test_a_stream_stops_at_its_first_bad_row(
    shell: Shell, redis: Redis, bad: dict[str, object]
) -> None:
    """A stream cannot be checked first, so the error says how many jobs are enqueued."""
    rows = [msgspec.json.encode(row).decode() for row in (*PROMPTS, bad, {"prompt": "after"})]
    code, out, err = shell("enqueue", "-", "--batch", "live", stdin="\n".join(rows))
    assert (code, out) == (2, "")
    assert "error: line 6: " in err
    assert err.endswith("; before it, 5 jobs went in\n")
    assert jobs(redis) == 5
    code, out, err = shell("enqueue", "-", "--batch", "live", "--skip-bad", stdin="\n".join(rows))
    assert (code, out) == (0, 'fed 6 jobs as batch "live": 1 new, 5 queued already\n')
    assert len((shell.folder / "live.rejected.jsonl").read_text().splitlines()) == 1


def test_a_stream_needs_a_batch_name(shell: Shell) -> None:
    """Standard input has no file name that could name the batch."""
    code, _, err = shell("enqueue", "-", stdin="")
    assert (code, err) == (2, "error: - gives a batch no name: add --batch NAME\n")


async def test_a_changed_file_needs_a_decision(shell: Shell, rig: Rig) -> None:
    """The command exits 2 and names the line and the id; nothing is enqueued."""
    source = shell.write(PROMPTS)
    shell("enqueue", source)
    await rig.work_off()
    shell.write([*PROMPTS[:4], {"custom_id": "c5", "prompt": "changed"}, {"prompt": "new"}])
    code, out, err = shell("enqueue", source)
    assert (code, out) == (2, "")
    assert 'error: line 5: "c5" is stored in batch "prompts" with another request' in err
    assert await rig.redis.zcard(keys.batch_queue("prompts", "claude-opus-4-6")) == 0
    code, out, _ = shell("enqueue", source, "--changed", "keep")
    assert out == 'fed 6 jobs as batch "prompts": 1 new, 5 stored already, 1 changed\n'
    code, out, _ = shell("enqueue", source, "--changed", "rerun")
    assert out == (
        'fed 6 jobs as batch "prompts": 1 new, 1 queued already, 4 stored already, 1 changed\n'
    )


async def test_results_of_only_the_failed(shell: Shell, rig: Rig) -> None:
    """`--failed` and `--succeeded` select rows by how the job ended."""
    rig.sim.configure(down=400)
    shell("enqueue", shell.write(PROMPTS[:1], "night.jsonl"))
    await rig.work_off()
    rig.sim.configure(down=None)
    shell("enqueue", shell.write(PROMPTS, "night.jsonl"))
    await rig.work_off()
    code, _, err = shell("results", "night", "--failed", "-o", "failed.jsonl")
    assert (code, err) == (0, '1 result of batch "night"\n')
    (row,) = (shell.folder / "failed.jsonl").read_text().splitlines()
    assert json.loads(row)["result"]["type"] == "errored"
    assert len(shell("results", "night", "--succeeded", "--order", "finished")[1].splitlines()) == 4
    code, _, err = shell("results", "night", "-o", "no/such/folder.jsonl")
    assert code == 2
    assert err.startswith("error: no/such/folder.jsonl: cannot be written")


async def test_a_closed_pipe_ends_the_export_quietly(shell: Shell, rig: Rig) -> None:
    """`nightmill results night | head -1` prints no traceback."""
    shell("enqueue", shell.write([{"prompt": "x" * 5000, "custom_id": f"c{i}"} for i in range(60)]))
    await rig.work_off()
    with shell.start("results", "prompts") as export:
        assert export.stdout is not None
        export.stdout.read(1)
        export.stdout.close()
        assert export.stderr is not None
        assert export.stderr.read() == ""
        export.wait(timeout=120)


def test_without_a_redis_url_the_embedded_server_holds_the_jobs(tmp_path: Path) -> None:
    """Two commands in one folder use the same server. It does not outlive them."""
    shell = Shell(tmp_path, "")
    assert shell("enqueue", shell.write(PROMPTS))[0] == 0
    code, out, err = shell("status", "prompts", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["queued"] == 5
    assert not (tmp_path / ".nightmill" / "valkey.pid").exists()


def test_an_unreachable_redis_is_one_line_of_error(tmp_path: Path) -> None:
    """A wrong URL is the usual first mistake on a new machine."""
    shell = Shell(tmp_path, f"unix://{tmp_path}/none.sock")
    for command in (("enqueue", shell.write(PROMPTS)), ("status",)):
        code, out, err = shell(*command)
        assert (code, out) == (2, "")
        assert err.startswith("error: Redis does not answer")
        assert len(err.splitlines()) == 1
