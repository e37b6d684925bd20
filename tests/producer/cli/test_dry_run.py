"""`--dry-run`: what would be enqueued and what it may cost, before there is a key or a Redis."""

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
    """Return what a dry run with --json says."""
    found: dict[str, Any] = json.loads(done.out)
    return found


@pytest.mark.parametrize("command", ["enqueue", "run"])
def test_a_dry_run_shows_jobs_counts_cost_and_every_bad_row(shell: Shell, command: str) -> None:
    """What is wrong with a template is seen in its first job, not in the morning."""
    done = shell(command, "in.csv", *TEMPLATE, "--dry-run")
    assert done.code == 2
    assert done.out.startswith('line 2, custom_id "7":\n{\n  "messages": [')
    assert '"content": "Summarise: third"' in done.out
    assert "fourth" not in done.out
    assert "sixth" not in done.out
    assert "in.csv: 4 jobs, 2 rows refused" in done.out
    assert "at most 800 tokens" in done.out
    assert "cost    at most $" in done.out
    assert "\nrefused: line 5: custom_id: '9' was used on line 4 already" in done.out
    assert done.out.splitlines()[-1] == "nothing was enqueued: this is a dry run"
    assert not shell.data.exists()


def test_a_dry_run_is_for_programs_too(shell: Shell) -> None:
    """With the numbers themselves: bytes / 4 in, max_tokens out, at list prices."""
    (shell.folder / "in.csv").write_text("text\na\n")
    done = shell("enqueue", "in.csv", "--prompt", "{{ text }}", "--dry-run", "--json")
    assert done.code == 0
    told = report(done)
    (first,) = told["first"]
    asked = -(-len(json.dumps(first["params"], separators=(",", ":"))) // 4)
    assert first["custom_id"] == "line-2"
    assert (told["jobs"], told["refused"], told["rows_refused"]) == (1, 0, [])
    assert (told["input_tokens"], told["max_output_tokens"]) == (asked, 1024)
    usage = Usage(input_tokens=asked, output_tokens=1024)
    assert told["max_cost"] == pytest.approx(cost(MODEL, usage))


def test_an_unknown_price_is_said_and_not_guessed(shell: Shell) -> None:
    """A cost of nothing would be believed."""
    command = ("enqueue", "in.csv", *TEMPLATE, "--set", "model=nobodys", "--dry-run")
    assert "cost    no price is known here for nobodys" in shell(*command).out
    assert report(shell(*command, "--json"))["max_cost"] is None


def test_all_bad_rows_are_listed(shell: Shell) -> None:
    """The check before enqueueing shows twenty; this is where the others are seen."""
    (shell.folder / "in.jsonl").write_text('{"prompt": ""}\n' * 30)
    done = shell("enqueue", "in.jsonl", "--dry-run")
    assert done.code == 2
    assert done.out.count("refused: line ") == 30
    refused = report(shell("run", "in.jsonl", "--dry-run", "--json"))["rows_refused"]
    assert [row["line"] for row in refused] == list(range(1, 31))
    assert refused[0] == {
        "line": 1,
        "field": "prompt",
        "problem": "given '' (string); allowed: a non-empty string",
        "snippet": '{"prompt": ""}\N{REPLACEMENT CHARACTER}',
    }


def test_standard_input_and_attachments_are_shown(shell: Shell) -> None:
    """A picture's tokens are nobody's guess, so it is counted apart."""
    given = b"photo\na.png\n"
    command = ("enqueue", "-", "--format", "csv", "--image", "photo", "--dry-run")
    done = shell(*command, given=given)
    assert done.code == 0
    assert f'"$file": "{shell.folder}/a.png"' in done.out
    assert "and 1 attachments, which are not counted" in done.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["none.csv"], "none.csv: no such file"),
        (["in.csv", "--prompt", "{{ text"], "--prompt: no template: line 1 ({{ text): unexpected"),
        (["in.csv", "--prompt", "@none.txt"], "--prompt: none.txt cannot be read: No such file"),
        (["in.csv", "--set", "max_tokens"], "--set: 'max_tokens' is not KEY=VALUE"),
        (["in.csv", "--prompt", "x", "--set", "params={}"], "--set: params is no field"),
        (
            ["in.csv", "--prompt", "{{ text }}", "--format", "parquet"],
            "no Parquet that can be read",
        ),
        (["in.jsonl"], "this is a JSON array; make it an object a line: jq -c"),
        (["in.csv", "--prompt", "x", "--id", "key"], 'no column "key"; there are: id, text'),
    ],
)
def test_bad_usage_is_one_line(shell: Shell, options: list[str], said: str) -> None:
    """As with every command."""
    (shell.folder / "in.jsonl").write_text('[\n  {"prompt": "x"}\n]\n')
    done = shell("enqueue", *options, "--dry-run")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert said in done.err
    assert done.err.count("\n") == 1


def test_a_prompt_is_read_from_a_file(shell: Shell) -> None:
    """Real prompts are pages long, and their last line end is the editor's."""
    (shell.folder / "prompt.txt").write_text("Be kind.\nSummarise: {{ text }}\n")
    done = shell("enqueue", "in.csv", "--prompt", "@prompt.txt", "--dry-run", "--json")
    first = report(done)["first"][0]["params"]
    assert first["messages"][0]["content"] == "Be kind.\nSummarise: first"
