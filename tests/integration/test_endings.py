"""How a command ends: its exit code, the reason, and what to do; no job is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.shell import Endpoint, Shell

STATUS_KEYS = {
    *("batch", "state", "total", "queued", "in_flight", "retrying", "snoozed"),
    *("succeeded", "failed", "cancelled", "expired", "tokens", "cost", "utilisation"),
    *("workers", "stop_reasons", "rate", "eta_s", "refused"),
}


def test_a_failed_job_gives_exit_code_1(shell: Shell) -> None:
    """The other jobs have their results, and `results --failed` shows the errors."""
    source = shell.write(3)
    with (shell.folder / source).open("a") as file:
        file.write('{"custom_id": "bad", "prompt": "x", "model": "missing-x"}\n')
    done = shell("run", source)
    assert done.code == 1
    assert "3 succeeded (3 cut at max_tokens), 1 failed" in done.err
    assert "nightmill errors prompts" in done.err
    failed = shell("results", "prompts", "--failed")
    (row,) = failed.out.splitlines()
    assert json.loads(row)["custom_id"] == "bad"
    assert json.loads(row)["result"]["error"]["error"]["type"] == "not_found_error"


def test_a_refused_key_gives_exit_code_3_and_the_right_one_continues(
    shell: Shell, endpoint: Endpoint
) -> None:
    """No job fails, no job is lost, and the command prints the reason."""
    endpoint.configure(auth="right-key")
    source = shell.write(20)
    done = shell("run", source, env={"NIGHTMILL_API_KEY": "wrong-key"})
    assert done.code == 3
    assert "stopped: " in done.err
    assert "401" in done.err or "x-api-key" in done.err
    assert "run the same command again" in done.err
    assert "wrong-key" not in done.err
    status = shell.status()
    assert (status["state"], status["failed"], status["succeeded"]) == ("stopped", 0, 0)
    done = shell("run", source, env={"NIGHTMILL_API_KEY": "right-key"})
    assert done.code == 0
    assert len(shell.rows()) == 20


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({}, "no credential: set NIGHTMILL_API_KEY"),
        ({"NIGHTMILL_API_KEY": "a", "NIGHTMILL_AUTH_TOKEN": "b"}, "are both set"),
        ({"ANTHROPIC_API_KEY": "a", "ANTHROPIC_AUTH_TOKEN": "b"}, "are both set"),
    ],
)
def test_one_credential_is_needed(tmp_path: Path, env: dict[str, str], message: str) -> None:
    """Without one, or with two at one level, the command exits 2 before it does anything."""
    shell = Shell(tmp_path)
    done = shell("run", shell.write(1), env=env)
    assert (done.code, len(done.err.splitlines())) == (2, 1)
    assert message in done.err
    assert ("--simulate" in done.err) == (not env)
    assert not shell.data.exists()


def test_a_rehearsal_has_a_batch_of_its_own(shell: Shell, endpoint: Endpoint) -> None:
    """Rehearsed without --id, then run with it: half of the batch's 6,000 rows were made up."""
    source = shell.write(3)
    for options in ((), ("--batch", "mine")):
        assert shell("run", source, "--simulate", "--latency", "0", *options).code == 0
    assert endpoint.calls() == {}
    assert [row["rehearsal"] for row in shell.rows("prompts@rehearsal.results.jsonl")] == [True] * 3
    for options in ((), ("--batch", "mine")):
        real = shell("run", source, *options, "--set", "max_tokens=30")
        assert (real.code, "REHEARSAL" in real.err) == (0, False)
    for name in ("prompts", "mine"):
        rows = shell.rows(f"{name}.results.jsonl")
        assert [(row["rehearsal"], row["custom_id"]) for row in rows] == [
            (False, f"c{i}") for i in range(3)
        ]
        assert shell.status(name)["total"] == shell.status(name)["succeeded"] == 3
        assert shell.status(f"{name}@rehearsal")["succeeded"] == 3
        checked = ("verify", name, "--source", source, "--set", "max_tokens=30")
        assert shell(*checked).code == 0
    assert shell("run", source, "--batch", "x@rehearsal").code == 2


def test_a_corrected_rehearsal_runs_again_without_a_question(shell: Shell) -> None:
    """Nothing is paid, so there is nothing to decide."""
    source = shell.write(3)
    rehearse = ("run", source, "--simulate", "--latency", "0")
    assert shell(*rehearse).code == 0
    old = (shell.folder / source).read_text()
    (shell.folder / source).write_text(old.replace("number", "no."))
    again = shell(*rehearse)
    assert (again.code, "REHEARSAL" in again.err) == (0, True)
    assert all(row["run"] == 1 for row in shell.rows("prompts@rehearsal.results.jsonl"))
    verified = shell("verify", "prompts@rehearsal", "--source", source)
    assert verified.code == 0
    assert "rows of other ids" not in verified.out, "a source that is not read again has its ids"


def test_what_is_enqueued_for_a_rehearsal_is_not_run_for_real(
    shell: Shell, endpoint: Endpoint
) -> None:
    """A real worker paid for the jobs that a rehearsal had left in the queue."""
    source = shell.write(3)
    shell.export(rehearsal="true")
    assert shell("enqueue", source).out.startswith('fed 3 jobs as batch "prompts@rehearsal"')
    shell.export(rehearsal="false")
    assert shell("run", source).code == 0
    assert len(endpoint.calls()) == 3
    assert shell.status("prompts@rehearsal")["queued"] == 3


def test_results_of_a_run_are_those_of_its_source(shell: Shell) -> None:
    """Run without --id, then with it: the file had each row twice, and `verify` counted both."""
    (shell.folder / "in.csv").write_text("id,text\na,one\nb,two\n")
    template = ("in.csv", "--prompt", "{{ text }}")
    assert shell("run", *template).code == 0
    assert shell("run", *template, "--id", "id").code == 0
    assert [row["custom_id"] for row in shell.rows("in.results.jsonl")] == ["a", "b"]
    checked = shell("verify", "in", "--source", *template, "--id", "id")
    assert checked.code == 0
    assert "rows of other ids: 2" in checked.out


def test_a_changed_request_is_refused_without_an_option(shell: Shell, endpoint: Endpoint) -> None:
    """`keep` makes no call, `rerun` calls only the jobs that changed."""
    source = shell.write(3)
    assert shell("run", source).code == 0
    before = (shell.folder / "prompts.results.jsonl").read_bytes()
    lines = (shell.folder / source).read_text().replace("number 1", "number one")
    (shell.folder / source).write_text(lines)
    refused = shell("run", source)
    assert refused.code == 2
    assert 'line 2: "c1" is stored in batch "prompts" with another request' in refused.err
    assert shell("run", source, "--changed", "keep").code == 0
    assert (shell.folder / "prompts.results.jsonl").read_bytes() == before
    assert len(endpoint.calls()) == 3
    assert shell("run", source, "--changed", "rerun").code == 0
    assert endpoint.answered() == [1] * 4
    assert "number one" in (shell.folder / "prompts.results.jsonl").read_text()


def test_a_corrected_prompt_is_noticed_while_jobs_are_queued(
    shell: Shell, endpoint: Endpoint
) -> None:
    """Enqueued with prompt A, run with prompt B: 40 answers to A, and `verify` found no fault."""
    source = shell.write(3)
    assert shell("enqueue", source).code == 0
    old = (shell.folder / source).read_text()
    (shell.folder / source).write_text(old.replace("number", "no."))
    for command in ("enqueue", "run"):
        refused = shell(command, source)
        assert (refused.code, "Traceback" in refused.err) == (2, False)
        assert 'line 1: "c0" is queued in batch "prompts" with another request' in refused.err
        assert "3 such jobs: 3 queued" in refused.err
    verified = shell("verify", "prompts", "--source", source)
    assert (verified.code, "3 such jobs: 3 queued" in verified.out) == (1, True)
    assert shell.status()["total"] == 3, "a refused command changes nothing"
    assert shell("run", source, "--changed", "rerun").code == 0
    assert endpoint.answered() == [1] * 3
    assert "no. 1" in (shell.folder / "prompts.results.jsonl").read_text()
    assert shell("verify", "prompts", "--source", source).code == 0


def test_after_the_canary_a_corrected_prompt_reaches_all_jobs(
    shell: Shell, endpoint: Endpoint
) -> None:
    """1,279 of 3,000 rows had the old request, because it was queued."""
    source = shell.write(60)
    endpoint.configure(down=400)
    stopped = shell("run", source)
    assert stopped.code == 3
    assert "queued jobs still have the OLD request; --changed rerun replaces them" in stopped.err
    endpoint.configure(down=None)
    old = (shell.folder / source).read_text()
    (shell.folder / source).write_text(old.replace("number", "no."))
    assert shell("run", source).code == 2
    assert shell("run", source, "--changed", "rerun").code == 0
    rows = shell.rows()
    assert len(rows) == 60
    assert all("succeeded" in str(row["result"]) for row in rows)
    assert shell("verify", "prompts", "--source", source).code == 0


def test_status_has_the_promised_keys(shell: Shell) -> None:
    """Scripts rely on these keys."""
    assert shell("enqueue", shell.write(3)).code == 0
    assert set(shell.status()) == STATUS_KEYS
    both = json.loads(shell("status", "--json").out)
    assert set(both["single"]) == set(both["batches"]["prompts"]) == STATUS_KEYS
    unknown = shell("status", "other", "--json")
    assert (unknown.code, unknown.err) == (2, 'error: no batch "other"; batches: prompts\n')


def test_doctor_prints_the_fix(shell: Shell, endpoint: Endpoint) -> None:
    """It exits 0 when all checks pass, else 2, and each failed check has its own fix."""
    passed = shell("doctor")
    assert (passed.code, passed.err) == (0, "")
    assert "(a free, deliberately bad request was refused, as it should be)" in passed.out
    assert f"{shell.data}/results.db (SQLite), 0 batches, made now, writable" in passed.out
    assert "FAIL" not in passed.out
    endpoint.configure(auth="right-key")
    refused = shell("doctor")
    assert refused.code == 2
    assert "FAIL credential" in refused.out
    assert "fix: " in refused.out
    away = shell("doctor", "--redis-url", "redis://127.0.0.1:1", "--base-url", "http://127.0.0.1:1")
    assert away.code == 2
    assert "FAIL redis: Redis does not answer" in away.out
    assert "fix: check NIGHTMILL_BASE_URL" in away.out
    none = shell("doctor", env={"NIGHTMILL_API_KEY": "", "NIGHTMILL_STORE_URL": "nonsense://"})
    assert none.code == 2
    assert "FAIL results: STORE_URL is nonsense://" in none.out
    assert "fix: no credential: set NIGHTMILL_API_KEY" in none.out


def test_workers_that_cannot_start_end_the_run(shell: Shell) -> None:
    """A worker that dies as soon as it starts is not started again for ever."""
    broken = shell.folder / "broken"
    broken.mkdir()
    (broken / "uvloop.py").write_text("raise RuntimeError('uvloop is broken here')\n")
    (shell.folder / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'nightmill_worker.machine.process' in sys.orig_argv:\n"
        f"    sys.path.insert(0, {str(broken)!r})\n"
        "import nightmill_worker.machine.supervisor as supervisor\n"
        "supervisor.RESTART_S = (0.01, 0.01)\n"
    )
    path = f"{shell.folder}:{shell.env.get('PYTHONPATH', '')}"
    done = shell("run", shell.write(3), env={"PYTHONPATH": path})
    assert done.code == 2
    last = done.err.splitlines()[-1]
    problem = "(exit code 1): RuntimeError: uvloop is broken here (log: "
    assert last.startswith(f"error: workers die as soon as they start {problem}")
    assert last.endswith("worker.log)")


def test_help_loads_no_module_it_does_not_need(tmp_path: Path) -> None:
    """`--help` is used often and must be fast."""
    done = Shell(tmp_path)("--help", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert done.code == 0
    for command in ("enqueue", "status", "results", "run", "worker", "doctor", "simulate"):
        assert f"  {command} " in done.out
    loaded = {line.rpartition("|")[2].strip() for line in done.err.splitlines()}
    assert "typer" in loaded
    assert not loaded & {"redis", "pydantic", "aiohttp", "arq", "sqlalchemy", "uvloop", "rich.live"}


def test_a_refused_file_leaves_no_data_directory(tmp_path: Path) -> None:
    """The places of a run are made only when there is something to run."""
    shell = Shell(tmp_path, api_key="k")
    (tmp_path / "in.jsonl").write_text("{}\n")
    assert shell("run", "in.jsonl", "--simulate").code == 2
    assert not shell.data.exists()


def test_a_place_that_cannot_be_used_is_found_before_the_first_call(tmp_path: Path) -> None:
    """An output was found last; a data directory was found by each worker, again and again."""
    shell = Shell(tmp_path, api_key="k")
    source = shell.write(1)
    done = shell("run", source, "--simulate", "-o", "no/such/out.jsonl")
    assert done.code == 2
    assert done.err == "error: no/such/out.jsonl: cannot be written: No such file or directory\n"
    assert not shell.data.exists()
    for command in (["worker"], ["run", source, "--simulate"]):
        done = shell(*command, env={"NIGHTMILL_DATA_DIR": "/proc/nightmill"})
        assert done.code == 2
        assert done.err.startswith("error: cannot write /proc/nightmill. Set NIGHTMILL_DATA_DIR to")
        assert done.err.count("\n") == 1
