"""The tests that the official SDK brings for batches, run against a real `nightmill serve`.

They are downloaded, never committed. Left out are those that name ids of the vendor's mock server.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Final

import pytest

from tests.gateway.test_kills import serving
from tests.integration.shell import Shell

if TYPE_CHECKING:
    from collections.abc import Iterator

if find_spec("anthropic") is None:
    pytest.skip("the SDK is not installed", allow_module_level=True)
DOWNLOAD_S: Final = 120
CHOSEN: Final = (
    "(method_create or raw_response_create or streaming_response_create or method_list"
    " or raw_response_list or streaming_response_list or path_params)"
    " and not list_with_all_params"
)
"""What needs no fixture of the vendor's: no id of its mock server, no answer that it makes up."""
CONFTEST: Final = """
import os
import pytest
from anthropic import Anthropic, AsyncAnthropic

pytest.register_assert_rewrite("tests.utils")
GIVEN = {"base_url": os.environ["TEST_API_BASE_URL"], "api_key": "any"}

@pytest.fixture
def client(request):
    strict = getattr(request, "param", True)
    with Anthropic(**GIVEN, _strict_response_validation=strict) as made:
        yield made

@pytest.fixture
async def async_client(request):
    given = getattr(request, "param", True)
    strict = given.get("strict", True) if isinstance(given, dict) else given
    async with AsyncAnthropic(**GIVEN, _strict_response_validation=strict) as made:
        yield made
"""
"""In place of the SDK's own, which needs packages for recorded answers."""


@pytest.fixture(scope="module")
def source() -> Path:
    """Return the unpacked source of the installed version, from a cache outside of the tree."""
    name = f"anthropic-{version('anthropic')}"
    cache = Path(gettempdir()) / "nightmill-sdk-tests"
    cache.mkdir(exist_ok=True)
    archive = cache / f"{name}.tar.gz"
    if not archive.exists():
        given = name.replace("-", "==")
        command = [sys.executable, "-m", "pip", "download", "-q", given, "--no-deps"]
        command += ["--no-binary", "anthropic", "-d", str(cache)]
        try:
            done = subprocess.run(
                command, check=False, capture_output=True, timeout=DOWNLOAD_S, text=True
            )
        except subprocess.TimeoutExpired:
            pytest.skip(f"the registry gave no source of {given} within {DOWNLOAD_S} s")
        if done.returncode or not archive.exists():
            pytest.skip(f"no source of {given}: {done.stderr[-200:]}")
    with tarfile.open(archive) as packed:
        packed.extractall(cache, filter="data")
    return cache / name


@pytest.fixture
def chosen(source: Path, tmp_path: Path) -> Iterator[Path]:
    """Return a folder with their tests of batches, and fixtures of ours."""
    folder = tmp_path / "sdk"
    for path in ("messages/test_batches.py", "beta/messages/test_batches.py"):
        there = folder / "tests" / "api_resources" / path
        there.parent.mkdir(parents=True)
        shutil.copy(source / "tests" / "api_resources" / path, there)
    for made in folder.rglob("*"):
        if made.is_dir():
            (made / "__init__.py").touch()
    shutil.copy(source / "tests" / "utils.py", folder / "tests" / "utils.py")
    (folder / "tests" / "conftest.py").write_text(CONFTEST)
    (folder / "respx.py").write_text("class MockRouter: ...\n")  # only named in annotations
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    yield folder
    shutil.rmtree(folder)


def test_they_pass(chosen: Path, tmp_path: Path) -> None:
    """Create and list, sync and async, plain and raw, and the path of the beta."""
    shell = Shell(tmp_path, api_key="k")
    with serving(shell) as (url, _):
        env = {**os.environ, "TEST_API_BASE_URL": url, "PYTHONPATH": str(chosen)}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
        done = subprocess.run(
            [*command, "-k", CHOSEN, "tests"],
            check=False,
            capture_output=True,
            cwd=chosen,
            env=env,
            text=True,
            timeout=300,
        )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert "failed" not in done.stdout
    assert int(done.stdout.split(" passed")[0].split()[-1]) >= 60, done.stdout[-300:]
