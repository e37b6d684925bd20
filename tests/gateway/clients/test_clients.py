"""The official SDKs and the quick starts of the docs, as they stand there, against a gateway."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.request import urlopen

import pytest

from tests.integration.shell import Shell, finish, simulated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE: Final = Path(__file__).parent
ROOT: Final = HERE.parents[2]
SDK: Final = "@anthropic-ai/sdk"
OLD: Final = ("anthropic==0.75.0", "httpx<1", "httpcore<2", "h11", "certifi", "idna", "distro")
"""And those that it needs which the newest does not."""
_BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def quick_start(page: str, language: str) -> str:
    """Return the first block in `language` of the quick starts on a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    section = text.partition("### Over HTTP")[2] or text.partition("## Quick starts")[2]
    return next(str(code) for kind, code in _BLOCK.findall(section) if kind == language)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Shell, str]]:
    """Return the shell and the URL of a gateway with a worker."""
    folder = tmp_path_factory.mktemp("gateway")
    with simulated(folder) as endpoint:
        endpoint.configure(latency_s=0.01)
        shell = Shell(folder, base_url=endpoint.url, api_key="k")
        with shell.started("serve", "--port", "0") as process, shell.started("worker") as worker:
            assert process.stdout is not None
            yield shell, process.stdout.readline().split()[6]
            for each in (process, worker):
                each.send_signal(signal.SIGTERM)
                finish(each, 0)


@pytest.fixture
def env(gateway: tuple[Shell, str], request: pytest.FixtureRequest) -> dict[str, str]:
    """Return the environment of a client, a tenant of its own: it lists its batches alone."""
    shell, url = gateway
    key = shell("keys", "create", "client", "--tenant", request.node.name).out.strip()
    return {**os.environ, "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": key}


def run(command: Sequence[str | Path], folder: Path, env: dict[str, str]) -> str:
    """Run a client to its end and return what it prints."""
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def installed(folder: Path, *command: str) -> None:
    """Install a client into `folder`; skip the test when the registry cannot be reached."""
    folder.mkdir()
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=120
        )
    except subprocess.TimeoutExpired:
        pytest.skip("cannot install the client: the registry does not answer within 120 s")
    if done.returncode:
        pytest.skip(f"cannot install the client: {done.stderr[-200:]}")


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that has the TypeScript SDK."""
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("npm") / "client"
    installed(folder, "npm", "install", "--no-audit", "--no-fund", "--prefix", ".", SDK)
    return folder


def test_python(tmp_path: Path, env: dict[str, str]) -> None:
    """The newest SDK: every call, and the quick starts of both pages."""
    assert "passed with 2." in run([sys.executable, HERE / "round_trip.py"], tmp_path, env)
    for page in ("README.md", "docs/gateway.md"):
        out = run([sys.executable, "-c", quick_start(page, "python")], tmp_path, env)
        assert "Name three rivers" in out


def test_python_of_the_year_before(tmp_path: Path, env: dict[str, str]) -> None:
    """Services do not update their SDK when their base URL changes."""
    folder = tmp_path / "old"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q")
    installed(folder, *pip, "--no-deps", "--target", str(folder), *OLD)
    old = {**env, "PYTHONPATH": str(folder)}
    assert "passed with 0.75.0" in run([sys.executable, HERE / "round_trip.py"], tmp_path, old)
    code = quick_start("docs/gateway.md", "python")
    assert "Name three rivers" in run([sys.executable, "-c", code], tmp_path, old)


def test_typescript(node: Path, env: dict[str, str]) -> None:
    """Every call, and the quick start."""
    shutil.copy(HERE / "round_trip.mjs", node)
    assert "passed" in run(["node", "round_trip.mjs"], node, env)
    (node / "start.mjs").write_text(quick_start("docs/gateway.md", "typescript"))
    assert "Name three rivers" in run(["node", "start.mjs"], node, env)


def test_a_service_that_swaps_its_base_url(env: dict[str, str]) -> None:
    """Its code is that for the provider's API; the environment says where it calls."""
    command = [sys.executable, str(ROOT / "examples" / "summaries.py"), "0"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            url = service.stdout.readline().strip()
            with urlopen(url, b"Three rivers.", timeout=30) as answer:  # noqa: S310 - its own
                assert "Summarise in one sentence" in answer.read().decode()
        finally:
            service.terminate()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl(tmp_path: Path, env: dict[str, str]) -> None:
    """A Message, and a batch."""
    out = run(["bash", "-ec", quick_start("docs/gateway.md", "bash")], tmp_path, env)
    assert "Name three rivers" in out
    assert '"in_progress"' in out
