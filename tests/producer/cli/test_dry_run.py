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
DRY = ("--prompt", "Summarise: {{ text }}", "--id", "id", "--dry-run")
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


def test_a_dry_run_uses_own_prices_and_fast_ones(shell: Shell) -> None:
    """It knew list prices at standard speed only."""
    (shell.folder / "prices.toml").write_text('["unpriced"]\ninput = 0\noutput = 100\n')
    shell.export(prices="prices.toml")
    command = ("enqueue", "in.csv", *TEMPLATE, "--dry-run", "--json", "--set")
    assert report(shell(*command, "model=unpriced"))["max_cost"] == pytest.approx(4 * 200 * 1e-4)
    plain = report(shell(*command, "model=claude-opus-5"))["max_cost"]
    fast = report(shell(*command, "model=claude-opus-5", "--set", "speed=fast"))["max_cost"]
    assert fast == pytest.approx(2 * plain, rel=0.01)


def test_one_mistake_is_told_once_and_json_lists_all_rows(shell: Shell) -> None:
    """3,000 rows without a column printed the same line 3,000 times."""
    (shell.folder / "in.jsonl").write_text('{"prompt": ""}\n' * 30)
    done = shell("enqueue", "in.jsonl", "--dry-run")
    assert done.code == 2
    mistake = "30 of 30 rows: prompt: given '' (string); allowed: a non-empty string"
    assert done.out.count("bad row: ") == 1
    assert f"bad row: {mistake} (first: line 1)" in done.out
    assert f"in.jsonl: {mistake} (first: line 1)" in shell("enqueue", "in.jsonl").err
    refused = report(shell("run", "in.jsonl", "--dry-run", "--json"))["rows_refused"]
    assert [row["line"] for row in refused] == list(range(1, 31))
    assert refused[0] == {
        "line": 1,
        "field": "prompt",
        "problem": "given '' (string); allowed: a non-empty string",
        "snippet": '{"prompt": ""}\N{REPLACEMENT CHARACTER}',
    }


def test_a_usable_source_is_told_so(shell: Shell) -> None:
    """It said "0 rows refused", which a reader must turn round; one bad row was "1 bad rows"."""
    (shell.folder / "in.csv").write_text("id,text\n1,a\n2,b\n")
    assert "in.csv: 2 jobs, every row is usable\n" in shell("run", "in.csv", *DRY).out
    (shell.folder / "in.csv").write_text("id,text\n1,a\n2,b\n3,\n")
    done = shell("run", "in.csv", *DRY)
    assert "in.csv: 2 jobs, 1 bad row\n" in done.out
    assert 'bad row: line 4: prompt: column "text" is empty in this row' in done.out


def test_a_mistyped_column_is_told_once_with_what_is_meant(shell: Shell) -> None:
    """The user sees the number of rows, the columns and the likely name in one line."""
    (shell.folder / "in.csv").write_text("review_id,stars\n" + "1,2\n" * 50)
    out = shell("run", "in.csv", "--prompt", "{{ review }}", "--dry-run").out
    assert (
        'bad row: 50 of 50 rows: prompt: no column "review" in this row; there are: review_id, '
        'stars; did you mean "review_id"? (first: line 2)'
    ) in out


@pytest.mark.parametrize("command", [["run", "in.csv", *TEMPLATE, "--dry-run"], ["retry", "b"]])
def test_a_mistyped_field_of_set_is_refused(shell: Shell, command: list[str]) -> None:
    """`--set max_token=200` was sent, and each call was refused or ran with another limit."""
    done = shell(*command, "--set", "max_token=200")
    assert done.code == 2
    assert done.err == (
        "error: --set: max_token is not a field of the Messages API; did you mean max_tokens? "
        "--allow-unknown sends it anyway\n"
    )


def test_an_unknown_field_is_sent_when_that_is_allowed(shell: Shell) -> None:
    """Servers have fields of their own. A column beside `messages` was sent to all of them."""
    done = shell("run", "in.csv", *TEMPLATE, "--set", "top_kk=2", "--allow-unknown", "--dry-run")
    assert '"top_kk": 2' in done.out
    assert "warning: top_kk is not a field of the Messages API" in done.out
    row = '{"messages": [{"role": "user", "content": "x"}], "label": "x"}\n'
    (shell.folder / "in.jsonl").write_text(row * 3)
    done = shell("run", "in.jsonl", "--dry-run")
    assert done.code == 2
    assert (
        "bad row: 3 of 3 rows: label: not a field of the Messages API; --set label=null leaves "
        "it out, --allow-unknown sends it (first: line 1)"
    ) in done.out
    for way_out in (["--set", "label=null"], ["--allow-unknown"]):
        done = shell("run", "in.jsonl", *way_out, "--dry-run")
        assert done.code == 0
        assert ('"label": "x"' in done.out) == (way_out == ["--allow-unknown"])


def test_set_reads_a_value_from_a_file(shell: Shell) -> None:
    """Tools do not fit on a command line."""
    tools = [{"name": "find", "input_schema": {"type": "object"}}]
    (shell.folder / "tools.json").write_text(json.dumps(tools, indent=2))
    (shell.folder / "brief.md").write_text("\ufeffBe brief.\n")
    command = ("run", "in.csv", *DRY, "--json", "--set", "tools=@tools.json")
    first = report(shell(*command, "--set", "system=@brief.md"))["first"][0]["params"]
    assert (first["tools"], first["system"]) == (tools, "Be brief.")
    done = shell(*command, "--set", "tools=@none.json")
    assert done.err == "error: --set tools: none.json cannot be read: No such file or directory\n"
    (shell.folder / "tools.json").write_text("[{]")
    assert "--set tools: tools.json is not JSON: " in shell(*command).err


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
        (["in.csv", "--prompt", "x", "--delimiter", ";;"], "--delimiter: ';;' is not one char"),
        (["in.txt", "--prompt", "x", "--delimiter", ";"], "in.txt is read as jsonl; a delimiter"),
        (["in.csv", "--prompt", "x", "--encoding", "x"], "--encoding: 'x' is no known encoding"),
        (["in.csv", "--prompt", "x", "--id", "key"], 'no column "key"; there are: id, text'),
    ],
)
def test_bad_usage_is_one_line(shell: Shell, options: list[str], problem: str) -> None:
    """Every command prints a user's mistake as one line."""
    done = shell("enqueue", *options, "--dry-run")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert problem in done.err
    assert done.err.count("\n") == 1


def test_delimiter_and_encoding_are_options_and_found_ones_are_told(shell: Shell) -> None:
    """A semicolon file had one column, and one of Windows had to be saved again."""
    (shell.folder / "in.csv").write_bytes("id;text\n1;café~x\n".encode("cp1252"))
    done = shell("run", "in.csv", *DRY, "--encoding", "cp1252")
    assert done.code == 0
    assert '"Summarise: café~x"' in done.out
    note = "warning: the columns are separated by ';'; --delimiter sets another character"
    assert f"{note} (line 2)\n" in done.out
    (shell.folder / "in.csv").write_bytes(b"id;1~text\n1;2~hello\n")
    done = shell("run", "in.csv", "--prompt", "{{ text }}", "--delimiter", "~", "--dry-run")
    assert '"hello"' in done.out
    assert "warning" not in done.out


def test_a_prompt_is_read_from_a_file(shell: Shell) -> None:
    """The last line end of the file is not part of the prompt: editors add it."""
    (shell.folder / "prompt.txt").write_text("Be kind.\nSummarise: {{ text }}\n")
    done = shell("enqueue", "in.csv", "--prompt", "@prompt.txt", "--dry-run", "--json")
    first = report(done)["first"][0]["params"]
    assert first["messages"][0]["content"] == "Be kind.\nSummarise: first"
