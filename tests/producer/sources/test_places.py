"""Directories, URLs and compressed files: each becomes jobs, or an error of one line."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from nightmill.errors import SourceError
from nightmill.sources import (
    Line,
    Rejected,
    Template,
    plain_name,
)
from tests.producer.sources.reading import ROWS, SAY, asked, read, write

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstd.compress)])
def test_compressed_files_are_read_as_they_are(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    """Appended files are read too, by their content. A file that was cut off is an error."""
    path = write(tmp_path, f"in.jsonl{suffix}", pack(ROWS) + pack(ROWS))
    assert list(asked(path).values()) == ["a", "b", "a", "b"]
    assert list(asked(write(tmp_path, "nameless", pack(ROWS)))) == ["line-1", "line-2"]
    half = write(tmp_path, f"half.csv{suffix}", pack(os.urandom(1 << 16).hex().encode())[:-100])
    with pytest.raises(SourceError, match="damaged"):
        read(half, SAY)
    wrong = write(tmp_path, f"wrong.jsonl{suffix}", ROWS)
    with pytest.raises(SourceError, match=f"is named {suffix}, but its content is not"):
        read(wrong)


def test_a_directory_is_a_row_a_file(tmp_path: Path) -> None:
    """Rows come in the order of the paths, without hidden files; the path is the custom_id."""
    for name in ("b.txt", "a/z.md", "a/.hidden", ".git/x", "a.txt"):
        write(tmp_path, name, f"\ufeff{name}!".encode())
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("gone")
    text = "{{ path }} {{ name }} {{ stem }} {{ suffix }} {{ size }} {{ text }}"
    assert asked(tmp_path, Template(prompt=text)) == {
        "a/z.md": "a/z.md z.md z .md 10 a/z.md!",
        "a.txt": "a.txt a.txt a .txt 9 a.txt!",
        "b.txt": "b.txt b.txt b .txt 9 b.txt!",
    }


def test_a_file_that_is_no_text_is_a_bad_row(tmp_path: Path) -> None:
    """A file is read only when the template uses its text."""
    write(tmp_path, "a.bin", b"ab\xff")
    write(tmp_path, "b.txt", b"x" * (4 << 20))
    write(tmp_path, "c.txt", b"fine")
    first, second, third = read(tmp_path, SAY)
    assert isinstance(first, Rejected)
    assert "text: 'a.bin' is not UTF-8 (byte 0xff at 2)" in str(first.error)
    assert isinstance(second, Rejected)
    assert "'b.txt' is 4,194,304 bytes" in str(second.error)
    assert isinstance(third, Line)
    assert list(asked(tmp_path, Template(prompt="{{ name }}"))) == ["a.bin", "b.txt", "c.txt"]


def test_a_directory_needs_a_template(tmp_path: Path) -> None:
    """Without one there is no prompt for a file."""
    write(tmp_path, "a.txt", b"a")
    for template in (None, Template(set={"max_tokens": 5})):
        with pytest.raises(SourceError, match="is a directory; say how its files become jobs"):
            read(tmp_path, template)


def test_urls_are_read_through_fsspec() -> None:
    """Large inputs are in buckets. Relative paths in their columns stay in the bucket."""
    files = fsspec.filesystem("memory")
    files.pipe("/tests/in.csv.gz", gzip.compress(b"photo\nx/1.png\n"))
    files.pipe("/tests/docs/b.txt", b"bee")
    files.pipe("/tests/docs/.a", b"hidden")
    (content,) = asked("memory://tests/in.csv.gz", Template(images=("photo",))).values()
    assert content == [
        {
            "type": "image",
            "source": {
                "type": "base64",
                "media_type": "image/png",
                "data": {"$file": "memory://tests/x/1.png"},
            },
        }
    ]
    assert asked("memory://tests/docs/", SAY) == {"b.txt": "bee"}
    with pytest.raises(SourceError, match="memory://tests/none: no such file"):
        read("memory://tests/none")
    with pytest.raises(SourceError, match="nowhere://x: Protocol not known"):
        read("nowhere://x")


def test_errors_show_a_url_without_its_secrets() -> None:
    """People paste errors into chats, and a signed URL is as good as a key."""
    with pytest.raises(SourceError) as caught:
        read("nowhere://user:password@host/in.jsonl?signature=secret")
    assert "nowhere://host/in.jsonl:" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("in.jsonl", "in"),
        ("a.b.csv.zst", "a.b"),
        ("s3://bucket/deep/in.parquet?versionId=1", "in"),
        ("s3://bucket/deep/", "deep"),
    ],
)
def test_a_batch_is_named_after_its_file(location: str, name: str) -> None:
    """The suffixes of format and compression are left out."""
    assert plain_name(location) == name


@pytest.mark.parametrize(
    ("package", "name", "extra"),
    [
        ("pyarrow", "in.parquet", "parquet"),
        ("fsspec.core", "memory://in.jsonl", "sources"),
        ("jinja2", "in.csv", "sources"),
        (zstd.__name__, "in.jsonl.zst", "sources"),
    ],
)
def test_a_missing_package_is_named_with_its_command(
    tmp_path: Path, package: str, name: str, extra: str
) -> None:
    """The base install has none of them."""
    write(tmp_path, "in.jsonl.zst", zstd.compress(ROWS))
    write(tmp_path, "in.csv", b"a\n1\n")
    write(tmp_path, "in.parquet", b"PAR1")
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from nightmill.cli import main\n"
        f"sys.argv = ['nightmill', 'enqueue', {name!r}, '--dry-run']\n"
        f"sys.argv += ['--prompt', '{{{{ a }}}}'] if {package!r} == 'jinja2' else []\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert f"pip install 'nightmill[{extra}]'" in done.stderr
    assert done.stderr.count("\n") == 1
