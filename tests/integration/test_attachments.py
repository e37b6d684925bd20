"""A run whose prompts refer to files: it reads files beside its source and no others."""

from __future__ import annotations

import json

from tests.integration.shell import Endpoint, Shell, finish, until

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"


def asking(name: str, file: str) -> str:
    """Return an input line about an image."""
    source = {"type": "base64", "media_type": "image/png", "data": {"$file": file}}
    messages = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    return json.dumps({"custom_id": name, "params": {"messages": messages}}) + "\n"


def test_a_run_reads_the_files_beside_its_source(shell: Shell, endpoint: Endpoint) -> None:
    """By relative or absolute path. A file in another folder needs ATTACH_ROOTS."""
    source, elsewhere = shell.folder / "in", shell.folder / "elsewhere"
    for folder in (source, elsewhere):
        folder.mkdir()
        (folder / "a.png").write_bytes(PNG)
    lines = [("near", "a.png"), ("full", f"{source}/a.png"), ("far", f"{elsewhere}/a.png")]
    (source / "p.jsonl").write_text("".join(asking(*line) for line in lines))
    assert shell("run", "in/p.jsonl").code == 1
    errors = shell("errors", "p").out
    assert "1 x attachment_refused" in errors
    assert "NIGHTMILL_ATTACH_ROOTS" in errors
    assert sum(endpoint.answered()) == 2
    shell.export(attach_roots=f"{source}:{elsewhere}")
    with shell.started("worker") as worker:
        assert shell("retry", "p").code == 0
        until(lambda: shell.status("p")["succeeded"] == 3)
        worker.terminate()
        finish(worker, 0)
