"""The identity of what a source says."""

from __future__ import annotations

from pathlib import Path

import msgspec

from nightmill.params import Defaults
from nightmill.sources import Template, content_of, source_of

DEFAULTS = Defaults(model="m", max_tokens=9, max_payload_bytes=1000)
PROMPT = Template(prompt="Sum up: {{ text }}")


def test_the_same_bytes_read_in_the_same_way_are_the_same(tmp_path: Path) -> None:
    """Wherever the file is, and whenever it was written."""
    one, two = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    for path in (one, two):
        path.write_text('{"prompt": "x"}\n')
    found = content_of(source_of(one), DEFAULTS)
    assert found is not None
    assert found == content_of(source_of(two), DEFAULTS)


def test_whatever_makes_other_jobs_is_another_content(tmp_path: Path) -> None:
    """A byte, a template, a default: each would give other requests."""
    path = tmp_path / "a.csv"
    path.write_text("text\nx\n")
    source = source_of(path, None, PROMPT)
    contents = {
        content_of(source, DEFAULTS),
        content_of(source, msgspec.structs.replace(DEFAULTS, max_tokens=10)),
        content_of(source, msgspec.structs.replace(DEFAULTS, model="n")),
        content_of(source_of(path, None, Template(prompt="{{ text }}")), DEFAULTS),
        content_of(msgspec.structs.replace(source, format="tsv"), DEFAULTS),
        content_of(msgspec.structs.replace(source, allow_unknown=False), DEFAULTS),
    }
    path.write_text("text\ny\n")
    contents.add(content_of(source, DEFAULTS))
    assert len(contents) == 7
    assert None not in contents


def test_what_is_no_local_file_has_none(tmp_path: Path) -> None:
    """A folder, a stream, a URL, nothing."""
    (tmp_path / "f").mkdir()
    for location in (str(tmp_path / "f"), "-", "memory://a.jsonl", str(tmp_path / "gone.jsonl")):
        assert content_of(source_of(location), DEFAULTS) is None
