"""`--dry-run` shows what would be enqueued and its cost, without a key or a Redis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nightmill.pricing.cost import cost
from nightmill.records.result import Usage
from tests.integration.shell import MODEL, Done, Shell

TABLE = "id,text\n7,first\n8\n9,third\n9,fourth\n10,fifth\n11,sixth\n"
TEMPLATE = ("--prompt", "Summarise: {{ text }}", "--id", "id", "--set", "max_tokens=200")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Return a shell without a Redis, an endpoint or a key."""
    (tmp_path / "in.csv").write_text(TABLE)
    return Shell(tmp_path)


def report(done: Done) -> dict[str, Any]:
    """Return the JSON object of a dry run."""
    found: dict[str, Any] = json.loads(done.out)
    return found


@pytest.mark.parametrize("command", ["enqueue", "run"])
def test_a_dry_run_shows_jobs_counts_cost_and_every_bad_row(shell: Shell, command: str) -> None:
    """A user finds an error in a template before any call is paid for."""
    done = shell(command, "in.csv", *TEMPLATE, "--dry-run")
    assert done.code == 2
    assert done.out.startswith('line 2, custom_id "7":\n{\n  "messages": [')
    assert '"content": "Summarise: third"' in done.out
    assert "fourth" not in done.out
    assert "sixth" not in done.out
    assert "in.csv: 4 jobs, 2 bad rows" in done.out
    assert "at most 800 tokens" in done.out
    assert "cost    at most $" in done.out
    assert "\nbad row: line 5: custom_id: '9' was used on line 4 already" in done.out
    assert done.out.splitlines()[-1] == "nothing was enqueued: this is a dry run"
    assert not shell.data.exists()


def test_a_dry_run_as_json(shell: Shell) -> None:
    """Input tokens are bytes / 4, output tokens are max_tokens, the cost is at list prices."""
    (shell.folder / "in.csv").write_text("text\na\n")
    done = shell("enqueue", "in.csv", "--prompt", "{{ text }}", "--dry-run", "--json")
    assert done.code == 0
    found = report(done)
    (first,) = found["first"]
    tokens = -(-len(json.dumps(first["params"], separators=(",", ":"))) // 4)
    assert first["custom_id"] == "line-2"
    assert (found["jobs"], found["refused"], found["rows_refused"]) == (1, 0, [])
    assert (found["input_tokens"], found["max_output_tokens"]) == (tokens, 1024)
    usage = Usage(input_tokens=tokens, output_tokens=1024)
    assert found["max_cost"] == pytest.approx(cost(MODEL, usage))


def test_an_unknown_price_is_not_guessed(shell: Shell) -> None:
    """A user would believe a cost of $0."""
    command = ("enqueue", "in.csv", *TEMPLATE, "--set", "model=unpriced", "--dry-run")
    assert "cost    no price is known here for unpriced" in shell(*command).out
    assert report(shell(*command, "--json"))["max_cost"] is None


def test_all_bad_rows_are_listed(shell: Shell) -> None:
    """`enqueue` shows the first twenty only."""
    (shell.folder / "in.jsonl").write_text('{"prompt": ""}\n' * 30)
    done = shell("enqueue", "in.jsonl", "--dry-run")
    assert done.code == 2
    assert done.out.count("bad row: line ") == 30
    refused = report(shell("run", "in.jsonl", "--dry-run", "--json"))["rows_refused"]
    assert [row["line"] for row in refused] == list(range(1, 31))
    assert refused[0] == {
        "line": 1,
        "field": "prompt",
        "problem": "given '' (string); allowed: a non-empty string",
        "snippet": '{"prompt": ""}\N{REPLACEMENT CHARACTER}',
    }


def test_standard_input_and_attachments_are_shown(shell: Shell) -> None:
    """Attachments are counted apart: their tokens are not known here."""
    given = b"photo\na.png\n"
    command = ("enqueue", "-", "--format", "csv", "--image", "photo", "--dry-run")
    done = shell(*command, given=given)
    assert done.code == 0
    assert f'"$file": "{shell.folder}/a.png"' in done.out
    assert "plus 1 attachment, whose tokens are not counted" in done.out


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["none.csv"], "none.csv: no such file"),
        (
            ["in.csv", "--prompt", "{{ text"],
            "--prompt: not a Jinja template: line 1 ({{ text): unexpected",
        ),
        (["in.csv", "--prompt", "@none.txt"], "--prompt: none.txt cannot be read: No such file"),
        (["in.csv", "--set", "max_tokens"], "--set: 'max_tokens' is not KEY=VALUE"),
        (["in.csv", "--prompt", "x", "--set", "params={}"], "--set: params is not a field"),
        (
            ["in.csv", "--prompt", "{{ text }}", "--format", "parquet"],
            "cannot be read as Parquet",
        ),
        (["in.jsonl"], "this is a JSON array; make it one object a line: jq -c"),
        (["in.csv", "--prompt", "x", "--id", "key"], 'no column "key"; there are: id, text'),
    ],
)
def test_bad_usage_is_one_line(shell: Shell, options: list[str], problem: str) -> None:
    """Every command prints a user's mistake as one line."""
    (shell.folder / "in.jsonl").write_text('[\n  {"prompt": "x"}\n]\n')
    done = shell("enqueue", *options, "--dry-run")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert problem in done.err
    assert done.err.count("\n") == 1


def test_a_prompt_is_read_from_a_file(shell: Shell) -> None:
    """The last line end of the file is not part of the prompt: editors add it."""
    (shell.folder / "prompt.txt").write_text("Be kind.\nSummarise: {{ text }}\n")
    done = shell("enqueue", "in.csv", "--prompt", "@prompt.txt", "--dry-run", "--json")
    first = report(done)["first"][0]["params"]
    assert first["messages"][0]["content"] == "Be kind.\nSummarise: first"
