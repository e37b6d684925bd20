"""Which files a worker may read, and which error each other file gets."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest
from aiohttp import web

from nightmill import load_settings
from nightmill.errors import SettingsError
from nightmill.setting_values import split_roots
from nightmill_worker.attachments.roots import FileRefusedError, FileUnavailableError, Found, Roots

LIMIT = 100


def roots(*given: Path | str) -> Roots:
    """Return the roots of an ATTACH_ROOTS of these."""
    return Roots.of(load_settings(attach_roots=":".join(map(str, given)) or None))


def read(allowed: Roots, file: Path | str) -> bytes:
    """Find and read a file."""
    return allowed.find(str(file), LIMIT).read()


def refusal(allowed: Roots, file: Path | str) -> str:
    """Return the error type of a file that is refused."""
    with pytest.raises(FileRefusedError) as caught:
        read(allowed, file)
    assert caught.value.info.fix
    assert str(file) in str(caught.value)
    return caught.value.info.type


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a root with a file in it and a secret file beside it."""
    inside = tmp_path / "in"
    (inside / "deep").mkdir(parents=True)
    (inside / "deep" / "a.txt").write_bytes(b"yes")
    (tmp_path / "secret").write_bytes(b"no")
    return inside


def test_a_file_is_found_by_any_of_its_names(folder: Path) -> None:
    """Absolute, below a root, as a URL, or through a link that stays inside."""
    (folder / "link").symlink_to(folder / "deep" / "a.txt")
    allowed = roots("/nowhere", folder)
    names: list[Path | str] = ["deep/a.txt", folder / "deep" / "a.txt", "link"]
    names.append(f"file://{folder}/deep/a.txt")
    assert [read(allowed, name) for name in names] == [b"yes"] * 4


@pytest.mark.parametrize(
    "way", ["../secret", "deep/../../secret", "link", "/etc/passwd", "gone/.."]
)
def test_no_way_leads_out_of_the_roots(folder: Path, way: str) -> None:
    """A producer must not read the worker's other files, so the real path decides."""
    (folder / "link").symlink_to(folder.parent / "secret")
    allowed = roots(folder)
    assert refusal(allowed, way) in {"attachment_refused", "attachment_missing"}
    assert refusal(allowed, folder / way) in {"attachment_refused", "attachment_missing"}


def test_a_folder_whose_name_begins_with_the_roots_name_is_outside(folder: Path) -> None:
    """/data-private is not below /data."""
    private = folder.with_name("in-private")
    private.mkdir()
    (private / "a").write_bytes(b"no")
    assert refusal(roots(folder), private / "a") == "attachment_refused"


def test_without_roots_nothing_is_read(folder: Path) -> None:
    """A fleet without roots reads no files at all."""
    assert refusal(roots(), folder / "deep" / "a.txt") == "attachment_refused"
    assert refusal(roots(), "deep/a.txt") == "attachment_refused"


def test_a_path_that_is_not_a_file_or_is_too_large_is_refused(folder: Path) -> None:
    """Each has its own error. Reading a pipe would block a reader for ever."""
    (folder / "large").write_bytes(b"x" * (LIMIT + 1))
    (folder / "whole").write_bytes(b"x" * LIMIT)
    os.mkfifo(folder / "pipe")
    allowed = roots(folder)
    assert refusal(allowed, "gone") == "attachment_missing"
    assert refusal(allowed, "deep") == "attachment_missing"
    assert refusal(allowed, "pipe") == "attachment_missing"
    assert refusal(allowed, "large") == "attachment_too_large"
    assert len(read(allowed, "whole")) == LIMIT


def test_a_file_that_changed_since_it_was_found_is_checked_again(folder: Path) -> None:
    """A link may have replaced it, or it may exceed the memory that was reserved."""
    file = folder / "deep" / "a.txt"
    found = roots(folder).find(str(file), LIMIT)
    file.write_bytes(b"x" * (LIMIT + 1))
    with pytest.raises(FileRefusedError, match="allowed: 100"):
        found.read()
    file.unlink()
    file.symlink_to(folder.parent / "secret")
    with pytest.raises(FileRefusedError):
        found.read()


def test_a_folder_that_becomes_a_link_after_the_check_leads_nowhere(folder: Path) -> None:
    """Between the check and the read, 289 outside files were sent in this way."""
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "a.txt").write_bytes(b"no!")
    found = roots(folder).find("deep/a.txt", LIMIT)
    (folder / "deep").rename(folder / "moved")
    (folder / "deep").symlink_to(outside)
    with pytest.raises(FileRefusedError) as caught:
        found.read()
    assert caught.value.info.type == "attachment_refused"


@pytest.mark.parametrize("part", ["in", "deep", "a.txt"])
def test_a_part_that_becomes_a_link_while_a_file_is_opened_leads_nowhere(
    folder: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """The folder may be swapped at any moment, also between two parts of the walk."""
    outside = folder.parent / "outside"
    (outside / "deep").mkdir(parents=True)
    (outside / "deep" / "a.txt").write_bytes(b"no!")
    found = roots(folder).find("deep/a.txt", LIMIT)
    wanted = {"in": folder, "deep": folder / "deep", "a.txt": folder / "deep" / "a.txt"}[part]
    target = {"in": outside, "deep": outside / "deep", "a.txt": outside / "deep" / "a.txt"}[part]
    open_ = os.open

    def swap(path: str, *args: int, **more: int) -> int:
        if path == part:
            wanted.rename(wanted.with_name("moved"))
            wanted.symlink_to(target)
        return open_(path, *args, **more)

    monkeypatch.setattr(os, "open", swap)
    with pytest.raises(FileRefusedError) as caught:
        found.read()
    assert caught.value.info.type == "attachment_refused"


def test_measuring_follows_no_swapped_link_either(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a file that is too large would tell the size of an outside file."""
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "a.txt").write_bytes(b"x" * (LIMIT + 1))
    allowed = roots(folder)
    local = Roots._local

    def swapped(self: Roots, name: str) -> Path:
        path = local(self, name)
        path.parent.rename(folder / "moved")
        path.parent.symlink_to(outside)
        return path

    monkeypatch.setattr(Roots, "_local", swapped)
    assert refusal(allowed, "deep/a.txt") == "attachment_refused"


def test_no_descriptor_stays_open(folder: Path) -> None:
    """A million attachments must not use up the descriptors."""
    (folder / "link").symlink_to("deep")
    os.mkfifo(folder / "pipe")
    allowed = roots(folder)
    before = len(list(Path("/dev/fd").iterdir()))
    assert read(allowed, "deep/a.txt") == b"yes"
    for wrong in ("gone/a", "deep/a.txt/b", "deep", "pipe", "/"):
        refusal(allowed, wrong)
    assert len(list(Path("/dev/fd").iterdir())) == before
    assert refusal(roots("/"), "/") == "attachment_missing"


def test_a_file_that_is_shorter_or_longer_than_it_was_is_tried_again(folder: Path) -> None:
    """It is being written or copied. Sent as it is, the model would get a part of it."""
    file = folder / "deep" / "a.txt"
    for now in (b"ye", b"yes and no"):
        file.write_bytes(b"yes")
        found = roots(folder).find(str(file), LIMIT)
        file.write_bytes(now)
        with pytest.raises(FileUnavailableError, match=rf"has 3 bytes, but {len(now)} were read"):
            found.read()


def test_a_url_is_read_below_its_root_only() -> None:
    """Another host, path or scheme is outside, in every spelling."""
    name = uuid4().hex
    with fsspec.open(f"memory://{name}/in/a", "wb") as file:
        file.write(b"yes")
    with fsspec.open(f"memory://{name}/secret", "wb") as file:
        file.write(b"no")
    allowed = roots(f"memory://{name}/in")
    assert read(allowed, f"memory://{name}/in/a") == b"yes"
    assert refusal(allowed, f"memory://{name}/in/gone") == "attachment_missing"
    for way in ("secret", "in/../secret", "in/%2e%2e/secret", "in/%252e%252e/secret", "inner/a"):
        assert refusal(allowed, f"memory://{name}/{way}") == "attachment_refused"
    for way in (
        f"other://{name}/in/a",
        f"memory://user@{name}/in/a",
        f"memory://{name}/in::file:///",
    ):
        assert refusal(allowed, way) == "attachment_refused"


def test_a_url_of_an_unknown_scheme_is_refused() -> None:
    """The worker's own install reads http URLs only."""
    assert refusal(roots("nosuch://b"), "nosuch://b/a") == "attachment_refused"


@pytest.fixture
async def site() -> AsyncIterator[str]:
    """Serve a file, a redirect, a refusal and an error."""

    async def answer(request: web.Request) -> web.Response:
        match request.match_info["name"]:
            case "a":
                return web.Response(body=b"yes")
            case "smaller":
                return web.Response(body=b"x" * (100 if request.method == "HEAD" else 50))
            case "moved":
                raise web.HTTPFound("/d/a")
            case "forbidden":
                raise web.HTTPForbidden
            case "broken":
                raise web.HTTPServiceUnavailable
            case _:
                raise web.HTTPNotFound

    app = web.Application()
    app.router.add_get("/d/{name}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    server = web.TCPSite(runner, "127.0.0.1", 0)
    await server.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/d"
    await runner.cleanup()


async def test_the_http_status_decides_whether_a_read_is_tried_again(site: str) -> None:
    """A 503 may pass, so the job waits. A redirect may lead anywhere, so it is refused."""
    allowed = Roots(urls=(site,))

    def look() -> None:
        assert read(allowed, f"{site}/a") == b"yes"
        with pytest.raises(FileUnavailableError, match="100 bytes, but 50 were"):  # it came twice
            read(allowed, f"{site}/smaller")
        assert refusal(allowed, f"{site}/gone") == "attachment_missing"
        assert refusal(allowed, f"{site}/moved") == "attachment_refused"
        with pytest.raises(FileRefusedError, match="it is a redirect"):
            read(allowed, f"{site}/moved")
        assert refusal(allowed, f"{site}/forbidden") == "attachment_refused"
        with pytest.raises(FileUnavailableError):
            read(allowed, f"{site}/broken")
        away = "http://127.0.0.1:9/d"
        with pytest.raises(FileUnavailableError):
            read(Roots(urls=(away,)), f"{away}/a")

    await asyncio.to_thread(look)


@pytest.fixture
async def slow_site() -> AsyncIterator[str]:
    """Serve files of 3 MB, more than one read returns, without a length or with a wrong one."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Accept-Ranges": "none"})
        name = request.match_info["name"]
        if name == "wrong" and request.method == "HEAD":
            response.content_length = 2_999_999
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        for _ in range(3):
            await response.write(b"x" * 1_000_000)
        if name == "cut" and request.transport is not None:
            request.transport.abort()
        return response

    app = web.Application()
    app.router.add_get("/{name}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    server = web.TCPSite(runner, "127.0.0.1", 0)
    await server.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_url_without_a_length_is_read_to_its_end(slow_site: str) -> None:
    """The model got the first piece, 100,000 of 1,120,000 bytes, and the job succeeded."""
    allowed = Roots(urls=(slow_site,))

    def look() -> None:
        found = allowed.find(f"{slow_site}/a", 3_000_000)
        assert found.size is None
        assert len(found.read()) == 3_000_000
        with pytest.raises(FileRefusedError, match="has more bytes; allowed: 2,999,999"):
            allowed.find(f"{slow_site}/a", 2_999_999).read()

    await asyncio.to_thread(look)


async def test_a_url_whose_length_is_wrong_or_that_is_cut_is_tried_again(slow_site: str) -> None:
    """What was read is not what the server has, so no call is made with it."""
    allowed = Roots(urls=(slow_site,))

    def look() -> None:
        with pytest.raises(
            FileUnavailableError, match="has 2,999,999 bytes, but 3,000,000 were read"
        ):
            allowed.find(f"{slow_site}/wrong", 4_000_000).read()
        with pytest.raises(FileUnavailableError):
            allowed.find(f"{slow_site}/cut", 4_000_000).read()

    await asyncio.to_thread(look)


def test_a_file_larger_than_reported_is_not_read_whole() -> None:
    """A server may report a wrong size or none."""
    with fsspec.open("memory://sizes/a", "wb") as file:
        file.write(b"x" * 1000)
    found = Found(name="a", path="memory://sizes/a", size=None, limit=10)
    with pytest.raises(FileRefusedError, match="more bytes"):
        found.read()


def test_roots_are_written_like_path_or_as_a_list() -> None:
    """The colon of a URL's scheme separates nothing. A URL with a port needs the list."""
    assert split_roots("/a:s3://b/c:/d:") == ("/a", "s3://b/c", "/d")
    assert split_roots('["http://h:80/x", "/a:b"]') == ("http://h:80/x", "/a:b")
    assert split_roots(None) == ()
    with pytest.raises(SettingsError, match="NIGHTMILL_ATTACH_ROOTS: not a JSON list"):
        load_settings(attach_roots="[1]")
