"""A results store of one's own, by entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nightmill.errors import StoreError, StoreMissingError
from nightmill.store import ResultStore
from nightmill.testing import check_store
from tests.integration.shell import Shell, simulated
from tests.plugs.installed import install

if TYPE_CHECKING:
    from pathlib import Path

MODULE = '''
from nightmill.store.sqlite import SQLite


class Counting(SQLite):
    """A database that counts its writes."""

    writes = 0

    async def run(self, work, *, write=False, within_s=0):
        Counting.writes += write
        return await super().run(work, write=write, within_s=within_s)


def make(url):
    return Counting(url.partition("://")[2])


class Forgetful(SQLite):
    """A database that does not write rows."""

    async def run(self, work, *, write=False, within_s=0):
        done = await super().run(lambda c: work(c), write=write, within_s=within_s)
        if write and self.opened:
            await super().run(lambda c: c.change("DELETE FROM results"), write=True)
        return done


def forget(url):
    return Forgetful(url.partition("://")[2])


def fail(url):
    raise OSError("no way to " + url)


def nothing(url):
    return None
'''


@pytest.fixture
def plug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the package, in this process, too."""
    points = {"counting": "make", "forgetful": "forget", "broken": "no_such_name"}
    points |= {"failing": "fail", "nothing": "nothing"}
    folder = install(tmp_path / "plug", "ownstore", MODULE, stores=points)
    monkeypatch.syspath_prepend(str(folder))
    return folder


async def test_a_store_of_ones_own_passes_the_checks(plug: Path) -> None:
    """And rows go through it."""
    await check_store(f"counting://{plug}/own.db")
    import ownstore  # type: ignore[import-not-found] # noqa: PLC0415 - of the fixture

    module: Any = ownstore
    assert module.Counting.writes > 10
    async with ResultStore.open(f"counting://{plug}/own.db") as store:
        assert await store.get("rows:1")


async def test_a_store_that_loses_rows_fails_them(plug: Path) -> None:
    """The error names the check."""
    with pytest.raises(AssertionError, match="rows: the same row again"):
        await check_store(f"forgetful://{plug}/own.db")


async def test_the_two_of_nightmill_pass(tmp_path: Path) -> None:
    """The checks ask for nothing that SQLite does not do."""
    await check_store(f"sqlite:///{tmp_path}/plain.db")


async def test_what_cannot_be_used_is_named(plug: Path) -> None:
    """The scheme, the fault, and what is installed."""
    with pytest.raises(StoreError, match=r"STORE_URL is mysql://.*installed: broken://, counting"):
        await ResultStore.connect(f"mysql://{plug}/x")
    with pytest.raises(StoreMissingError, match="store of broken:// cannot be loaded"):
        await ResultStore.connect(f"broken://{plug}/x")
    with pytest.raises(StoreError, match="store of failing:// cannot be made: OSError: no way"):
        await ResultStore.connect(f"failing://{plug}/x")
    with pytest.raises(StoreError, match=r"nothing:// is no .*Database: .*returned NoneType.*run"):
        await ResultStore.connect(f"nothing://{plug}/x")


def test_doctor_does_not_show_the_password_of_such_a_url(plug: Path, tmp_path: Path) -> None:
    """The text is another package's: it may quote what it was given."""
    word, nobody = "hunter2-secret", "http://127.0.0.1:9"
    shell = Shell(tmp_path, api_key="k", base_url=nobody, store_url=f"failing://me:{word}@h/x")
    shell.env["PYTHONPATH"] = f"{plug}:{shell.env.get('PYTHONPATH', '')}"
    done = shell("doctor")
    assert done.code == 2
    assert "no way to failing://me:[credential]@h/x" in done.out
    assert word not in done.out + done.err


def test_every_command_uses_it(plug: Path, tmp_path: Path) -> None:
    """A run and its export."""
    url = f"counting://{plug}/rows.db"
    with simulated(tmp_path) as endpoint:
        shell = Shell(tmp_path, base_url=endpoint.url, api_key="k", store_url=url)
        shell.env["PYTHONPATH"] = f"{plug}:{shell.env.get('PYTHONPATH', '')}"
        assert shell("run", shell.write(5, "night.jsonl")).code == 0
        done = shell("results", "night")
        assert done.code == 0
        assert len(done.out.splitlines()) == 5
    assert (plug / "rows.db").exists()
    shell.assert_nothing_runs()
