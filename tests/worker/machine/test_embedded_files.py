"""The files of the embedded server: damaged, in the way, or not ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from redis import Redis

from nightmill.errors import ServerError
from nightmill_worker.machine.embedded import embedded_server


def test_a_cut_end_of_the_append_only_file_is_accepted(folder: Path) -> None:
    """A power loss cuts the last write; all writes before it must be loaded."""
    with embedded_server(folder) as url, Redis.from_url(url) as client:
        client.set("first", "1")
        client.set("second", "2")
    (journal,) = (folder / "appendonlydir").glob("*.incr.aof")
    journal.write_bytes(journal.read_bytes()[:-4])
    with embedded_server(folder) as url, Redis.from_url(url) as client:
        assert client.keys() == [b"first"]


def test_a_damaged_append_only_file_is_reported_with_the_fix(folder: Path) -> None:
    """The server must not start without its data as if there were none."""
    with embedded_server(folder) as url, Redis.from_url(url) as client:
        client.set("first", "1")
        client.set("second", "2")
    (journal,) = (folder / "appendonlydir").glob("*.incr.aof")
    journal.write_bytes(journal.read_bytes().replace(b"first", b"fi\r\n!!!"))
    with (
        pytest.raises(ServerError, match="reading the append only file") as caught,
        embedded_server(folder),
    ):
        pass
    assert journal.name in str(caught.value)
    assert f"move {journal.parent} away" in str(caught.value)


def test_a_file_in_place_of_the_directory_is_named(folder: Path) -> None:
    """The message says which file to move."""
    folder.write_text("not a directory")
    for place in (folder, folder / "below"):
        with pytest.raises(ServerError, match="a file is in the way"), embedded_server(place):
            pass


def test_an_unusable_directory_names_the_setting(folder: Path) -> None:
    """The message says how to choose another directory."""
    with (
        pytest.raises(ServerError, match="NIGHTMILL_DATA_DIR"),
        embedded_server(folder / ("x" * 300)),
    ):
        pass


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory_names_the_setting(folder: Path) -> None:
    """A directory of another user is the most frequent cause."""
    folder.mkdir(mode=0o500)
    with pytest.raises(ServerError, match="make it writable"), embedded_server(folder):
        pass
