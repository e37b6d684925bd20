"""Templates: any row becomes a job, or is rejected with the reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest

from nightmill import InvalidParamsError, Template
from nightmill.params import BESIDE, Defaults
from nightmill.sources import Line, Rejected, Row, line_of

DEFAULTS: Final = Defaults(model="m", max_tokens=64, max_payload_bytes=1 << 20)


def line(template: Template, **columns: object) -> Line:
    """Return the job of a good row."""
    found = line_of(Row(number=3, columns=columns), DEFAULTS, template)
    assert isinstance(found, Line), found
    return found


def job(template: Template, **columns: object) -> dict[str, Any]:
    """Return the request of a good row."""
    found: dict[str, Any] = json.loads(line(template, **columns).body)
    return found


def refusal(template: Template, **columns: object) -> str:
    """Return the error of a bad row."""
    found = line_of(Row(number=3, columns=columns), DEFAULTS, template)
    assert isinstance(found, Rejected), found
    assert "\n" not in str(found.error)
    return str(found.error)


def test_columns_fill_in_the_texts() -> None:
    """Nothing is escaped: the text is for a model, not for a web page."""
    template = Template(prompt="Is {{ a }} < {{ row['b c'] }}?", system="Be {{ how }}.")
    assert job(template, **{"a": "1 & 2", "b c": 3, "how": "brief"}) == {
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "Is 1 & 2 < 3?"}],
        "model": "m",
        "max_tokens": 64,
    }
    assert "system" not in job(Template(prompt="x", system="{{ a }}"), a="")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ text", "prompt: not a Jinja template: line 1 ({{ text): unexpected end of template"),
        ("a\n{% if %}", "not a Jinja template: line 2 ({% if %}): Expected an expression"),
        ("{{ x | nosuch }}", "No filter named 'nosuch'"),
        ("", "prompt: is empty"),
    ],
)
def test_a_fault_in_a_text_is_found_before_a_row_is_read(text: str, message: str) -> None:
    """Otherwise every one of a million rows would have the fault."""
    with pytest.raises(InvalidParamsError) as caught:
        Template(prompt=text)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ tetx }}", 'prompt: no column "tetx" in this row; there are: text'),
        ("{{ text.nope }}", "has no attribute 'nope'"),
        ("{{ text.__class__ }}", "access to attribute '__class__' of 'str' object is unsafe"),
        ("{{ row.update({'a': 1}) }}", "access to attribute 'update' of 'dict' object is unsafe"),
        ("{% for i in range(10 ** 9) %}{% endfor %}", "Range too big"),
        ("{% include 'x' %}", "no loader for this environment"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("  {{ '' }} ", "a prompt that is not blank after the columns are filled in"),
        ("\ud83d{{ text }}", "lone surrogate"),
    ],
)
def test_a_row_that_cannot_be_filled_in_is_refused_with_the_reason(text: str, message: str) -> None:
    """An empty prompt, or one that says None, would be paid for. The sandbox stops the others."""
    problem = refusal(Template(prompt=text), text="t")
    assert problem.startswith("line 3: ")
    assert message in problem


def test_a_null_is_refused_unless_the_text_allows_it() -> None:
    """Tables are full of nulls, and a prompt must not contain "None"."""
    problem = refusal(Template(prompt="{{ a }} {{ b }}"), a="x", b=None)
    assert "column \"b\" is null in this row; to write nothing for a null: {{ b or '' }}" in problem
    found = job(Template(prompt="{{ a }}{{ b or '' }}"), a="x", b=None)
    assert found["messages"][0]["content"] == "x"


@pytest.mark.parametrize(
    ("value", "custom_id"),
    [("a", "a"), (7, "7"), (1.5, "1.5"), (UUID(int=1), str(UUID(int=1)))],
)
def test_an_id_of_any_column_is_text(value: object, custom_id: str) -> None:
    """The keys of tables are often numbers or UUIDs."""
    assert line(Template(prompt="x", id="key"), key=value).custom_id == custom_id


def test_the_id_is_the_column_named_or_custom_id_or_the_line() -> None:
    """A row without a value in the id column is refused; its line number is not used instead."""
    assert line(Template(prompt="x"), custom_id=7).custom_id == "7"
    assert line(Template(prompt="x"), custom_id="").custom_id == "line-3"
    named = line(Template(id="key"), prompt="Hi", key=7, custom_id="other")
    assert named.custom_id == "7"
    template = Template(prompt="x", id="key")
    assert 'column "key" is empty in this row' in refusal(template, key=None)
    assert 'key: no column "key" in this row; there are: id' in refusal(template, id=1)
    assert "custom_id: given true (boolean)" in refusal(template, key=True)
    assert "custom_id: given" in refusal(template, key="x" * 257)


def test_a_template_without_a_prompt_changes_requests() -> None:
    """`--set` and `--system` alone change rows that are requests. The option wins."""
    template = Template(system="Be brief.", set={"max_tokens": 5, "temperature": None})
    for columns in (
        {"prompt": "Hi", "max_tokens": 9, "temperature": 1, "system": "Be long."},
        {"params": {"messages": [{"role": "user", "content": "Hi"}], "temperature": 1}},
    ):
        found = job(template, **columns)
        assert (found["max_tokens"], found["system"]) == (5, "Be brief.")
        assert found["messages"] == [{"role": "user", "content": "Hi"}]
        assert "temperature" not in found
    assert "no request in this line" in refusal(template, text="Hi")


def test_other_columns_are_no_fields_of_the_request() -> None:
    """A table may have a column `model` that is not the request's, of cars for example."""
    assert job(Template(prompt="x"), model="T", max_tokens=9)["model"] == "m"
    assert "allowed: an integer" in refusal(Template(prompt="x", set={"max_tokens": "many"}))


@pytest.mark.parametrize("name", ["custom_id", "params"])
def test_what_is_no_request_field_cannot_be_set(name: str) -> None:
    """With one id for all rows there would be only one job."""
    with pytest.raises(InvalidParamsError, match=f"set: {name} is not a field of a request"):
        Template(prompt="x", set={name: "x"})


def test_attachments_go_by_reference_before_the_text() -> None:
    """Redis holds only the path: a worker reads the file when it makes the call."""
    template = Template(prompt="?", images=("a", "b"), documents=("c", "d"), folder="/data")
    content = job(template, a="x.PNG", b="https://e.com/y", c="/abs/c.pdf", d="s3://b/d.txt?v=1")
    assert content["messages"][0]["content"] == [
        {"type": "document", "source": source("base64", "application/pdf", "/abs/c.pdf")},
        {"type": "document", "source": source("text", "text/plain", "s3://b/d.txt?v=1")},
        {"type": "image", "source": source("base64", "image/png", "/data/x.PNG")},
        {"type": "image", "source": {"type": "url", "url": "https://e.com/y"}},
        {"type": "text", "text": "?"},
    ]


def source(kind: str, media_type: str, where: str) -> dict[str, object]:
    """Return the source of a reference, as a worker reads it."""
    return {"type": kind, "media_type": media_type, "data": {"$file": where}}


PNG = b"\x89PNG\r\n\x1a\n"
JPEG = b"\xff\xd8\xff\xe0"


@pytest.mark.parametrize(
    ("name", "data", "media_type"),
    [
        ("a.png", PNG, "image/png"),
        ("a.png", JPEG, "image/jpeg"),
        ("a.jpg", b"GIF89a..", "image/gif"),
        ("a.jpeg", b"RIFF....WEBPVP8", "image/webp"),
        ("a.gif", PNG, "image/png"),
        ("photo", JPEG, "image/jpeg"),
        ("a.jfif", JPEG, "image/jpeg"),
    ],
)
def test_an_image_is_what_its_first_bytes_say(
    tmp_path: Path, name: str, data: bytes, media_type: str
) -> None:
    """The type by suffix was held against the user, who had named no type."""
    (tmp_path / name).write_bytes(data)
    found = line(Template(images=("a",), prompt="?", folder=str(tmp_path)), a=name)
    source = json.loads(found.body)["messages"][0]["content"][0]["source"]
    assert source["media_type"] == media_type
    suffix = name.rpartition(".")[2]
    right = suffix in {"photo", "jfif", media_type.removeprefix("image/")}
    text = f'"a": a file named .{suffix} is {media_type}, and is sent as that'
    assert found.warnings == (() if right else (text,))


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.png", b"BM....", "'a.png' is BMP; allowed: image/png, image/jpeg, image/gif, image/w"),
        ("a.jpg", b"....ftypheic", "'a.jpg' is HEIC; allowed"),
        ("a.png", b"%PDF-1.7", "'a.png' is application/pdf; allowed"),
        ("a.png", b"", "'a.png' is empty; allowed"),
        ("a.png", b"hello", "'a.png' is of an unknown type; allowed"),
        ("a.xyz", b"hello", "'a.xyz' is no known image type; allowed: .png"),
    ],
)
def test_a_file_of_no_image_type_is_a_bad_row(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    """It failed hours later, at its call."""
    (tmp_path / name).write_bytes(data)
    template = Template(images=("a",), prompt="?", folder=str(tmp_path))
    assert f"a: {message}" in refusal(template, a=name)


def test_a_document_is_what_its_first_bytes_say(tmp_path: Path) -> None:
    """A PDF may have bytes before %PDF-, and a text may be about PDFs."""
    template = Template(documents=("a",), prompt="?", folder=str(tmp_path))
    files = {
        "a.pdf": (b"\xef\xbb\xbf%PDF-1.4", "application/pdf"),
        "b.txt": (b"%PDF-1.4", "application/pdf"),
        "c.txt": (b"see %PDF-1.4", "text/plain"),
        "d": (b"%PDF-1.4", "application/pdf"),
    }
    for name, (data, media_type) in files.items():
        (tmp_path / name).write_bytes(data)
        source = job(template, a=name)["messages"][0]["content"][0]["source"]
        assert source["media_type"] == media_type
        assert source["type"] == ("text" if media_type == "text/plain" else "base64")
    (tmp_path / "e.pdf").write_bytes(b"hello")
    assert "'e.pdf' is of an unknown type; allowed: application/pdf" in refusal(template, a="e.pdf")
    (tmp_path / "f.pdf").write_bytes(PNG)
    assert "'f.pdf' is image/png; allowed: application/pdf" in refusal(template, a="f.pdf")


def test_a_relative_path_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker has another working directory."""
    monkeypatch.chdir(tmp_path)
    found = job(Template(images=("a",)), a="sub/../x.png")
    (block,) = found["messages"][0]["content"]
    assert block["source"]["data"] == {"$file": str(tmp_path / "x.png")}


def test_an_image_alone_takes_the_rows_own_prompt() -> None:
    """A file of prompts and pictures needs no template text."""
    content = job(Template(images=("a",)), a="/x.png", prompt="Who?")["messages"][0]["content"]
    assert content[1] == {"type": "text", "text": "Who?"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x.bmp", "a: 'x.bmp' is no known image type; allowed: .png, .jpg, .jpeg, .gif, .webp"),
        ("", "a: no image in this row; allowed: a path or a URL"),
        (None, "a: no image in this row"),
        (b"\x89PNG", "a: no image in this row"),
    ],
)
def test_what_is_no_file_that_is_known_is_refused(value: object, message: str) -> None:
    """A call without its picture would be paid for, and its answer would be invented."""
    assert message in refusal(Template(images=("a",), prompt="?"), a=value)


def test_columns_are_those_that_have_to_be_read() -> None:
    """Of a wide table only these columns are read."""
    template = Template(prompt="{{ a }}{% for x in b %}{{ x }}{% endfor %}", id="c", images=("d",))
    assert template.columns() == frozenset({"a", "b", "c", "d"}) | BESIDE
    assert Template(prompt="{{ row }}").columns() is None
    assert Template(set={"max_tokens": 5}).columns() is None
