"""Tables and directories, from a template on the command line to stored results."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.shell import Endpoint, Shell

TEMPLATE = ("--prompt", "Say {{ text }}", "--id", "id")


@pytest.fixture
def rows(shell: Shell) -> Path:
    """Write the same table in every format; return the folder."""
    texts = {1: "one", 2: "two", 3: "three"}
    table = "id,text\n" + "".join(f"{i},{text}\n" for i, text in texts.items())
    lines = "".join(json.dumps({"id": i, "text": text}) + "\n" for i, text in texts.items())
    (shell.folder / "t.csv").write_text(table)
    (shell.folder / "t.tsv.gz").write_bytes(gzip.compress(table.replace(",", "\t").encode()))
    (shell.folder / "t.jsonl").write_text(lines)
    pq.write_table(
        pa.table({"id": list(texts), "text": list(texts.values())}), shell.folder / "t.parquet"
    )
    return shell.folder


def answers(shell: Shell, name: str) -> dict[str, str]:
    """Return id -> its prompt for a results file: the simulator repeats the prompt."""
    found = {}
    for row in shell.rows(name):
        result: Any = row["result"]
        text = result["message"]["content"][0]["text"]
        found[str(row["custom_id"])] = text.removeprefix("Re: ").partition("\n")[0]
    return found


@pytest.mark.parametrize("name", ["t.csv", "t.tsv.gz", "t.jsonl", "t.parquet"])
def test_a_table_that_is_run_again_makes_no_call(
    shell: Shell, rows: Path, endpoint: Endpoint, name: str
) -> None:
    """A row is the same job in every format."""
    command = ("run", name, *TEMPLATE, "-o", "out.jsonl")
    assert shell(*command).code == 0
    assert answers(shell, "out.jsonl") == {"1": "Say one", "2": "Say two", "3": "Say three"}
    again = shell(*command)
    assert again.code == 0
    assert "3 from earlier runs, 0 called now" in again.err
    assert endpoint.answered() == [1, 1, 1]
    batch = Path(name).name.partition(".")[0]
    beside = shell(
        "results", batch, "--flat", "--source", name, "--fields", "custom_id,text,input_text"
    )
    assert [json.loads(line)["input_text"] for line in beside.out.splitlines()] == [
        "one",
        "two",
        "three",
    ]
    assert rows.is_dir()


def test_a_changed_template_changes_the_requests(shell: Shell, rows: Path) -> None:
    """The stored results answer other requests, so the command asks what to do."""
    assert shell("run", "t.csv", *TEMPLATE).code == 0
    changed = shell("run", "t.csv", "--prompt", "Sing {{ text }}", "--id", "id")
    assert changed.code == 2
    assert "--changed rerun" in changed.err
    assert rows.is_dir()


def test_each_file_of_a_directory_is_a_job(shell: Shell) -> None:
    """The path of a file is its custom_id."""
    for name in ("a.txt", "deep/b.txt"):
        path = shell.folder / "docs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"text of {name}")
    assert shell("run", "docs", "--prompt", "{{ text }}").code == 0
    assert answers(shell, "docs.results.jsonl") == {
        "a.txt": "text of a.txt",
        "deep/b.txt": "text of deep/b.txt",
    }


def test_a_compressed_stream_of_a_table_is_fed(shell: Shell, rows: Path) -> None:
    """`gzip -c` and `psql --csv` write to a pipe."""
    given = gzip.compress((rows / "t.csv").read_bytes())
    done = shell("enqueue", "-", "--format", "csv", "--batch", "live", *TEMPLATE, given=given)
    assert (done.code, done.out) == (0, 'fed 3 jobs as batch "live": 3 new\n')
    whole = ("run", "-", "--format", "csv", "--batch", "whole", *TEMPLATE)
    assert shell(*whole, given=given).code == 0
    assert len(shell.rows("whole.results.jsonl")) == 3


def test_verify_repairs_from_a_table(shell: Shell, rows: Path) -> None:
    """`verify` takes the options that the batch was fed with."""
    (rows / "t.csv").write_text("id,text\n1,one\n")
    assert shell("run", "t.csv", *TEMPLATE).code == 0
    (rows / "t.csv").write_text("id,text\n1,one\n2,two\n")
    missing = shell("verify", "t", "--source", "t.csv", *TEMPLATE)
    assert missing.code == 1
    assert "2" in missing.out
    done = shell("verify", "t", "--source", "t.csv", *TEMPLATE, "--repair")
    assert "1 job of batch" in done.err


def test_an_output_is_never_written_into_its_source(shell: Shell) -> None:
    """`-o in.jsonl` replaced the prompts; a run of `.` paid for its own results the next time."""
    source = shell.write(1, "in.jsonl")
    before = (shell.folder / "in.jsonl").read_bytes()
    done = shell("run", source, "-o", "./in.jsonl")
    assert (done.code, done.out) == (2, "")
    assert done.err == "error: in.jsonl: this is the source itself; give another output\n"
    rejected = shell.write(1, "in.rejected.jsonl")
    with (shell.folder / rejected).open("a") as file:
        file.write("not JSON\n")
    for command in ("run", "enqueue"):
        done = shell(command, rejected, "--batch", "in", "--skip-bad")
        assert (done.code, "this is the source itself" in done.err) == (2, True)
    done = shell("run", ".", "--prompt", "{{ text }}")
    assert (done.code, "would be a job of the next run" in done.err) == (2, True)
    assert (shell.folder / "in.jsonl").read_bytes() == before
    assert shell("run", ".", "--prompt", "{{ name }}", "-o", "-").code == 0
