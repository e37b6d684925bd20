"""Which server a client connects to: never one that another user may have put there."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill.errors import SettingsError
from nightmill.queue import embedded
from nightmill.queue.connection import connect, redis_url
from nightmill.queue.embedded import embedded_socket
from nightmill.settings import Settings, load_settings

NOBODY = 65534


@pytest.fixture
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Return settings of a data directory whose socket is in the shared folder for temporary files.

    A server listens there.
    """
    monkeypatch.setattr(embedded, "SHORT_SOCKETS", tmp_path)
    settings = load_settings(data_dir=tmp_path / ("x" * 100))
    path = embedded_socket(settings.data_dir)
    assert path.parent.parent == tmp_path
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        yield settings


def test_a_socket_of_our_own_is_used(deep: Settings) -> None:
    """The embedded server has put it in a private folder."""
    assert redis_url(deep) == f"unix://{embedded_socket(deep.data_dir)}"


@pytest.mark.parametrize("rights", [0o755, 0o770, 0o777])
def test_a_socket_in_a_folder_that_others_may_use_is_refused(deep: Settings, rights: int) -> None:
    """Any user may make a folder in /tmp, and a server there would get all prompts."""
    embedded_socket(deep.data_dir).parent.chmod(rights)
    with pytest.raises(SettingsError, match="not a socket of this user in a private folder"):
        redis_url(deep)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
@pytest.mark.parametrize("what", ["folder", "socket"])
def test_a_socket_of_another_user_is_refused(deep: Settings, what: str) -> None:
    """The worker checked its owner, the client did not."""
    path = embedded_socket(deep.data_dir)
    os.chown(path if what == "socket" else path.parent, NOBODY, NOBODY)
    with pytest.raises(SettingsError, match=f"remove {path.parent} and try again"):
        connect(deep)


def test_a_link_to_a_folder_is_refused(deep: Settings) -> None:
    """The user who made the link can move it."""
    folder = embedded_socket(deep.data_dir).parent
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(folder.with_name("moved"))
    with pytest.raises(SettingsError, match="may have made it"):
        redis_url(deep)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_the_socket_of_a_data_directory_is_its_owners_or_ours(tmp_path: Path) -> None:
    """Root may look at another user's batches, but a third user's server is none of them."""
    settings = load_settings(data_dir=tmp_path)
    path = embedded_socket(tmp_path)
    if path.parent != tmp_path:
        pytest.skip("the path of the test's folder is too long")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        os.chown(tmp_path, NOBODY, NOBODY)
        os.chown(path, NOBODY, NOBODY)
        assert redis_url(settings) == f"unix://{path}"
        os.chown(path, NOBODY - 1, NOBODY - 1)
        with pytest.raises(SettingsError, match=f"remove {path} and try again"):
            redis_url(settings)


@pytest.mark.parametrize("password", ["pa/ss", "pa#ss", "pa?ss"])
def test_a_password_that_breaks_its_url_is_not_shown(password: str) -> None:
    """The parser takes its first part for a port, and quotes it in its error."""
    with pytest.raises(SettingsError, match="percent-encode") as caught:
        connect(load_settings(redis_url=f"redis://:{password}@h:1/0"))
    assert "pa'" not in str(caught.value)
