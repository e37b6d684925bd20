"""Checked outputs from the command line to a data frame."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.integration.shell import Endpoint, Shell

SCHEMA = {
    "type": "object",
    "properties": {
        "label": {"enum": ["pos", "neg"]},
        "stars": {"type": "integer", "minimum": 1},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["label", "stars", "tags"],
}
CHECKS = '''
def ok(message, row):
    """Want what the schema cannot say."""
    return None if len(row["output"]["label"]) == 3 else "label: three letters"


def stuck(message, row):
    """Never end, within the interpreter."""
    import re
    re.match("(a+)+$", "a" * 40 + "b")
'''


@pytest.fixture
def files(shell: Shell) -> Path:
    """Write prompts, a schema and the operator's checks; return the folder."""
    lines = [json.dumps({"prompt": f"review {n}"}) + "\n" for n in range(40)]
    (shell.folder / "p.jsonl").write_text("".join(lines))
    (shell.folder / "s.json").write_text(json.dumps(SCHEMA))
    (shell.folder / "shop.py").write_text(CHECKS)
    shell.export(checks="ok=shop:ok,stuck=shop:stuck")
    return shell.folder


def test_a_run_writes_typed_columns_and_asks_again(
    shell: Shell, files: Path, endpoint: Endpoint
) -> None:
    """Everything from the schema's file to pandas, with answers that do not fit among them."""
    endpoint.configure(schema=json.dumps(SCHEMA), invalid=0.2, latency_s=0.01)
    options = ("--schema", "s.json", "--check", "ok", "--structured", "--check-retries", "9")
    done = shell("run", "p.jsonl", *options, "-o", "out.parquet")
    assert done.code == 0, done.err
    frame = pd.read_parquet(files / "out.parquet")
    assert set(frame["output.label"]) == {"pos", "neg"}
    assert frame["output.stars"].sum() == 40
    assert str(frame["output.stars"].dtype) == "int64"
    assert json.loads(frame["output.tags"][0]) == ["mill"]
    lines = shell("results", "p", "-o", "out.jsonl")
    assert lines.code == 0
    for line in (files / "out.jsonl").read_text().splitlines():
        assert sorted(json.loads(line)["output"]) == ["label", "stars", "tags"]


def test_a_function_that_is_stuck_ends_no_run(
    shell: Shell, files: Path, endpoint: Endpoint
) -> None:
    """A pattern that takes years kept the worker for ever; its answers stay in the rows."""
    endpoint.configure(schema=json.dumps(SCHEMA), latency_s=0.01)
    shell.export(check_timeout_s="1", canary="2")
    (files / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    done = shell("run", "p.jsonl", "--check", "stuck", "--no-canary", "-o", "out.jsonl")
    assert done.code == 1
    assert [row["error_type"] for row in shell.rows("out.jsonl")] == ["check_failed"] * 2
    assert "it took more than 1 s" in shell("errors", "p").out


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--schema", "none.json"), "--schema none.json: cannot be read"),
        (("--schema", "shop.py"), "--schema shop.py: not JSON"),
        (("--check", "other"), "--check other: no such check; NIGHTMILL_CHECKS has: ok, stuck"),
        (("--structured",), "--structured: needs a schema"),
        (("--schema-tool", "x"), "--schema-tool: needs a schema"),
    ],
)
def test_what_cannot_be_checked_is_refused_before_anything_is_paid(
    shell: Shell, files: Path, endpoint: Endpoint, options: tuple[str, ...], problem: str
) -> None:
    """The exit code is 2, and nothing was started."""
    done = shell("run", "p.jsonl", *options)
    assert done.code == 2
    assert problem in done.err
    assert not (files / ".nightmill").exists()
    assert endpoint.calls() == {}
