"""The pytest plugin, as the project of a service uses it."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import dedent

import pytest

from nightmill.errors import ExtraMissingError
from nightmill.testing import fake_mill, plugin
from nightmill.testing import mill as module

ROOT = Path(__file__).parents[3]

SERVICE = """
    import asyncio
    import json
    import os

    from nightmill import Producer, SyncProducer

    REQUEST = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 20}

    async def ask(producer):
        receipt = await producer.enqueue(REQUEST)
        return await producer.result(receipt.job_id, wait=20)

    def test_in_memory(memory_producer):
        result = asyncio.run(ask(memory_producer))
        assert result.text == "hi"
        assert memory_producer.requests[0]["max_tokens"] == 20

    def test_for_real(fake_mill):
        async def main():
            async with Producer() as producer:  # the environment leads to the fake mill
                return await ask(producer)

        assert json.dumps(asyncio.run(main()).message)
        assert fake_mill.calls == 1

    def test_a_batch_and_a_fault(fake_mill):
        assert fake_mill.calls == 0  # nothing is left of the test before
        fake_mill.configure(latency_s=0.0)
        with SyncProducer(settings=fake_mill.settings) as producer:
            producer.enqueue_many([{"custom_id": "a", **REQUEST}], batch="night")
            batch = producer.batch("night")
            assert batch.wait(timeout=60).succeeded == 1
            assert [row.custom_id for row in batch.results()] == ["a"]

    def test_the_environment_is_as_before():
        assert os.environ["NIGHTMILL_STORE_URL"] == "sqlite:////nowhere/x.db"
        assert "NIGHTMILL_REDIS_URL" not in os.environ
"""
UNUSED = """
    import sys

    def test_nothing_is_loaded():
        heavy = ("redis", "msgspec", "pydantic", "nightmill.testing.memory", "nightmill_worker")
        assert [name for name in heavy if name in sys.modules] == []
"""


def run_pytest(folder: Path, text: str) -> str:
    """Run pytest in a project of its own, with the plugin; return what it printed."""
    (folder / "test_service.py").write_text(dedent(text))
    env = {name: value for name, value in os.environ.items() if not name.startswith("NIGHTMILL_")}
    env |= {"NIGHTMILL_STORE_URL": "sqlite:////nowhere/x.db", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    command = (sys.executable, "-m", "pytest", "-q", "-p", "nightmill.testing.plugin")
    done = subprocess.run(
        (*command, "-p", "no:cacheprovider"),
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_service_tests_itself_with_the_fixtures(tmp_path: Path) -> None:
    """Every service wrote its own stand-in for the queue and the endpoint."""
    assert "4 passed" in run_pytest(tmp_path, SERVICE)


def test_the_plugin_costs_nothing_when_it_is_not_used(tmp_path: Path) -> None:
    """Pytest loads it in every run of every project in the same environment."""
    assert "1 passed" in run_pytest(tmp_path, UNUSED)


def test_pytest_finds_the_plugin_by_itself() -> None:
    """The entry point has the module's name, so that `-p` and the entry point load it once."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (found,) = project["entry-points"]["pytest11"].items()
    assert found == (plugin.__name__, plugin.__name__)


def test_the_helpers_are_imported_without_pytest() -> None:
    """A script may use them as well."""
    code = "import nightmill.testing as t, sys; t.MemoryProducer, t.fake_mill; "
    code += "sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_worker_extra_the_fix_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service has only the client installed."""
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(ExtraMissingError, match=r"pip install 'nightmill\[worker\]'"), fake_mill():
        pass
