"""Jobs with attachments by reference, through a real worker to the simulator."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nightmill import load_settings
from nightmill.queue.batches import Batches
from nightmill.records.job import request_hash
from nightmill.records.result import Result
from nightmill.records.state import JobState
from nightmill_worker.attachments.loader import MAX_IMAGE, MAX_REQUEST, Attachments, locate
from nightmill_worker.attachments.readers import Readers
from nightmill_worker.attachments.roots import FileRefusedError, Found, Roots
from nightmill_worker.events import CallFailed, MediaTypeCorrected
from nightmill_worker.messages.outcome import Retry
from nightmill_worker.simulator.request import read_prompt
from tests.rig import Rig, rigged, until

PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
PDF = b"%PDF-1.7\n"


def source(file: str, media: str = "image/png", kind: str = "base64") -> dict[str, object]:
    """Return a source that refers to a file."""
    return {"type": kind, "media_type": media, "data": {"$file": file}}


def asking(*blocks: dict[str, object]) -> dict[str, object]:
    """Return a request with these blocks."""
    content = [*blocks, {"type": "text", "text": "What is this?"}]
    return {"messages": [{"role": "user", "content": content}], "max_tokens": 50}


def image(file: str, media: str = "image/png") -> dict[str, object]:
    """Return a request about an image."""
    return asking({"type": "image", "source": source(file, media)})


def document(file: str, media: str = "application/pdf", kind: str = "base64") -> dict[str, object]:
    """Return a request about a document."""
    return asking({"type": "document", "source": source(file, media, kind)})


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a folder with one file of each kind."""
    folder = tmp_path / "files"
    folder.mkdir()
    contents = {
        "a.png": PNG,
        "a.jpg": b"\xff\xd8\xff\xe0",
        "a.gif": b"GIF89a..",
        "a.webp": b"RIFF\0\0\0\0WEBPVP8 ",
        "a.wav": b"RIFF\0\0\0\0WAVE",
        "a.pdf": PDF,
        "a.bmp": b"BM....",
        "bom.pdf": b"\xef\xbb\xbf" + PDF,
        "late.pdf": b"junk " * 200 + PDF,
        "bom.txt": b"\xef\xbb\xbfhello",
        "about.txt": b"It begins with %PDF-1.7.",
        "a.txt": "Grüße".encode(),
        "latin.txt": "Grüße".encode("latin-1"),
        "empty": b"",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path, files: Path) -> AsyncIterator[Rig]:
    """Return a mill whose workers may read the folder."""
    async with rigged(redis_url, tmp_path, attach_roots=str(files)) as made:
        yield made


async def ended(rig: Rig, params: dict[str, object]) -> Result:
    """Run one job to its end."""
    receipt = await rig.producer.enqueue(params)
    await rig.work_off()
    return await rig.row(receipt.job_id)


def status_and_type(row: Result) -> tuple[JobState, str]:
    """Return a row's status and error type."""
    assert row.error is not None
    return row.status, row.error.type


async def sent(files: Path, params: dict[str, object]) -> bytes:
    """Return the body that is sent for a request."""
    attachments = Attachments(load_settings(attach_roots=str(files)))
    async with attachments.loaded(json.dumps(params).encode()) as body:
        assert isinstance(body, bytes), body
    return body


def inline(params: dict[str, object], file: str, data: str) -> dict[str, object]:
    """Return `params` with `data` in place of the reference to `file`."""
    mark = json.dumps({"$file": file})
    found: dict[str, object] = json.loads(json.dumps(params).replace(mark, json.dumps(data)))
    return found


async def test_the_endpoint_gets_the_data_and_the_row_keeps_the_reference(
    rig: Rig,
) -> None:
    """The body sent is the same as that of a request with the base64 in it."""
    params = {**image("a.png"), "model": "claude-opus-4-6"}
    row = await ended(rig, params)
    assert row.status is JobState.SUCCEEDED
    whole = inline(params, "a.png", base64.b64encode(PNG).decode())
    assert list(rig.sim.ledger.prompts) == [read_prompt(json.dumps(whole).encode()).key]
    assert row.params is not None
    assert b'{"$file":"a.png"}' in bytes(row.params)
    assert row.request_hash == request_hash(row.params)


@pytest.mark.parametrize(
    ("name", "media"),
    [
        ("a.png", "image/png"),
        ("a.jpg", "image/jpeg"),
        ("a.gif", "image/gif"),
        ("a.webp", "image/webp"),
        ("a.pdf", "application/pdf"),
        ("a.txt", "text/plain"),
    ],
)
async def test_every_kind_is_encoded_as_it_is(files: Path, name: str, media: str) -> None:
    """The endpoint accepts four image types and two document types."""
    params = image(name, media) if media.startswith("image") else document(name, media)
    encoded = base64.b64encode((files / name).read_bytes()).decode()
    assert json.loads(await sent(files, params)) == inline(params, name, encoded)


@pytest.mark.parametrize("name", ["bom.pdf", "late.pdf"])
async def test_a_pdf_may_begin_after_other_bytes(files: Path, name: str) -> None:
    """PDF readers look for %PDF- in the first 1,024 bytes; the check was stricter."""
    encoded = base64.b64encode((files / name).read_bytes()).decode()
    assert json.loads(await sent(files, document(name))) == inline(document(name), name, encoded)


@pytest.mark.parametrize("kind", ["text", "base64"])
async def test_the_byte_order_mark_of_a_text_is_not_sent(files: Path, kind: str) -> None:
    """It went to the model as the character U+FEFF."""
    params = document("bom.txt", "text/plain", kind)
    data = "hello" if kind == "text" else base64.b64encode(b"hello").decode()
    assert json.loads(await sent(files, params)) == inline(params, "bom.txt", data)
    about = document("about.txt", "text/plain", "text")
    expected = inline(about, "about.txt", "It begins with %PDF-1.7.")
    assert json.loads(await sent(files, about)) == expected


@pytest.mark.parametrize("named", ["image/png", "image/jpeg", "image/gif", "image/webp"])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.webp"])
async def test_an_image_is_sent_as_what_it_is(files: Path, name: str, named: str) -> None:
    """A wrong suffix made the job fail, although the first bytes show the type."""
    true = {"a.png": "image/png", "a.jpg": "image/jpeg", "a.gif": "image/gif"}
    encoded = base64.b64encode((files / name).read_bytes()).decode()
    expected = inline(image(name, true.get(name, "image/webp")), name, encoded)
    assert json.loads(await sent(files, image(name, named))) == expected


async def test_a_pdf_that_is_named_as_text_is_sent_as_a_pdf(files: Path) -> None:
    """Its source then holds base64."""
    params = document("a.pdf", "text/plain", "text")
    expected = inline(document("a.pdf"), "a.pdf", base64.b64encode(PDF).decode())
    assert json.loads(await sent(files, params)) == expected


async def test_a_wrong_media_type_is_a_warning_once(rig: Rig) -> None:
    """A whole batch may have it: one line of the log for each pair of types."""
    await rig.producer.enqueue_many([image("a.jpg")] * 3)
    await rig.work_off()
    assert rig.calls() == 3
    corrected = rig.events_of(MediaTypeCorrected)
    assert [(event.named, event.actual) for event in corrected] == [("image/png", "image/jpeg")]


async def test_a_text_source_gets_the_text_itself(files: Path) -> None:
    """A source of type text holds plain text, not base64."""
    params = document("a.txt", "text/plain", "text")
    assert json.loads(await sent(files, params)) == inline(params, "a.txt", "Grüße")


async def test_only_real_references_deep_in_a_request_are_replaced(files: Path) -> None:
    """References are in a tool's result and a document's content. Similar text stays."""
    picture: dict[str, object] = {"type": "image", "source": source("a.png")}
    inner = {"type": "document", "source": {"type": "content", "content": [picture]}}
    result: dict[str, object] = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [picture, inner],
    }
    params = asking(result, {"type": "text", "text": '{"$file":"a.png"}'})
    body = json.loads(await sent(files, params))
    encoded = base64.b64encode(PNG).decode()
    assert body == inline(params, "a.png", encoded)
    assert json.dumps(body).count(encoded) == 2


@pytest.mark.parametrize(
    ("params", "type_"),
    [
        (image("gone.png"), "attachment_missing"),
        (image("../out.png"), "attachment_refused"),
        (image("a.pdf"), "attachment_refused"),
        (image("a.bmp"), "attachment_refused"),
        (document("a.png"), "attachment_refused"),
        (document("a.txt"), "attachment_refused"),
        (image("empty"), "attachment_refused"),
        (image("a.wav", "image/webp"), "attachment_refused"),
        (document("latin.txt", "text/plain"), "attachment_refused"),
        (image("s3://bucket/a.png"), "attachment_refused"),
    ],
)
async def test_a_bad_attachment_fails_its_job_unpaid(
    rig: Rig, params: dict[str, object], type_: str
) -> None:
    """The row says why and how to fix it. The lane gets its reservation back."""
    row = await ended(rig, params)
    assert status_and_type(row) == (JobState.FAILED, type_)
    assert row.error is not None
    assert row.error.fix
    assert (rig.calls(), row.attempt_count) == (0, 0)
    assert (await ended(rig, image("a.png"))).status is JobState.SUCCEEDED


async def test_sizes_are_bounded(rig: Rig, files: Path) -> None:
    """An image has at most 5 MiB and a request 32 MiB. Both are checked before reading."""
    for name, size in (("most.png", MAX_IMAGE), ("over.png", MAX_IMAGE + 1)):
        with (files / name).open("wb") as file:
            file.write(PNG)
            file.truncate(size)
    with (files / "huge.pdf").open("wb") as file:
        file.write(PDF)
        file.truncate(MAX_REQUEST * 3 // 4)
    assert (await ended(rig, image("most.png"))).status is JobState.SUCCEEDED
    too_large = (JobState.FAILED, "attachment_too_large")
    assert status_and_type(await ended(rig, image("over.png"))) == too_large
    assert status_and_type(await ended(rig, document("huge.pdf"))) == too_large
    five = asking(*(image("most.png")["messages"][0]["content"][0] for _ in range(5)))  # type: ignore[index]
    assert status_and_type(await ended(rig, five)) == too_large
    assert rig.calls() == 1


async def test_a_passing_error_is_tried_again(redis_url: str, tmp_path: Path) -> None:
    """A network error of a file is a counted attempt, like that of a call."""
    away = "http://127.0.0.1:9/"
    async with rigged(redis_url, tmp_path, attach_roots=f'["{away}"]', max_attempts=2) as rig:
        row = await ended(rig, image(f"{away}a.png"))
        assert status_and_type(row) == (JobState.FAILED, "attachment_unavailable")
        assert [attempt.outcome for attempt in row.attempts] == ["retrying", "failed"]
        assert (row.attempt_count, rig.calls(), len(rig.events_of(CallFailed))) == (2, 0, 1)


async def test_wrong_roots_pause_a_batch(rig: Rig) -> None:
    """Every job names another file, but all fail alike, so the canary pauses the batch."""
    items = ({"custom_id": f"c{i}", **image(f"gone-{'x' * i}.png")} for i in range(30))
    await rig.producer.enqueue_many(items, batch="night")
    async with rig.working():
        await until(lambda: _paused(rig))
    assert "attachment_missing" in (await Batches(rig.redis).counts("night")).reason


async def _paused(rig: Rig) -> bool:
    return (await Batches(rig.redis).counts("night")).flag == "paused"


async def test_memory_is_bounded_and_given_back(files: Path) -> None:
    """The budget limits how many large files are in memory at once."""
    with (files / "large.pdf").open("wb") as file:
        file.write(PDF)
        file.truncate(11 << 20)  # 15 MB encoded, three times that while it is loaded
    settings = load_settings(attach_roots=str(files), attach_memory_bytes=64 << 20)
    attachments = Attachments(settings)
    body = json.dumps(document("large.pdf")).encode()
    inside, most, leave = 0, 0, asyncio.Event()

    async def call() -> None:
        nonlocal inside, most
        async with attachments.loaded(body) as whole:
            assert isinstance(whole, bytes)
            inside += 1
            most = max(most, inside)
            await leave.wait()
            inside -= 1

    calls = [asyncio.create_task(call()) for _ in range(8)]
    await until(lambda: inside == 2)  # 30 MB are held, and a third would need 45 more
    calls[-1].cancel()
    leave.set()
    await asyncio.gather(*calls, return_exceptions=True)
    assert most == 2
    assert repr(attachments._budget) == f"<Budget {64 << 20:,} of {64 << 20:,}>"


async def test_a_hung_read_ends_as_a_retry(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is retried, and the memory budget is given back."""
    back = threading.Event()
    monkeypatch.setattr(Found, "read", lambda _: back.wait(20) and PNG)
    attachments = Attachments(load_settings(attach_roots=str(files)))
    attachments._readers = Readers(patience_s=0.05)
    async with attachments.loaded(json.dumps(image("a.png")).encode()) as body:
        back.set()
    assert isinstance(body, Retry)
    assert body.error.type == "attachment_unavailable"
    assert repr(attachments._budget) == f"<Budget {512 << 20:,} of {512 << 20:,}>"


async def test_an_unexpected_error_of_a_file_ends_as_a_retry(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect or a lack of memory must not end the worker."""

    def fail(_: object) -> bytes:
        raise MemoryError("no memory")

    monkeypatch.setattr("nightmill_worker.attachments.loader.load", lambda *_: fail(None))
    attachments = Attachments(load_settings(attach_roots=str(files)))
    async with attachments.loaded(json.dumps(image("a.png")).encode()) as body:
        assert isinstance(body, Retry)
    assert body.error.message == "MemoryError: no memory"


def test_a_request_of_many_files_is_refused_before_they_are_read(files: Path) -> None:
    """Their sizes show that the request cannot be sent."""
    with (files / "p.pdf").open("wb") as file:
        file.truncate(10 << 20)
    block: dict[str, object] = {"type": "document", "source": source("p.pdf", "application/pdf")}
    params = asking(block, block, block)
    with pytest.raises(FileRefusedError, match="allowed: 33,554,432"):
        locate(json.dumps(params).encode(), Roots(folders=(files,)))
