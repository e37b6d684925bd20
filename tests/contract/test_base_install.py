"""The base distribution alone in a bare environment, as a service that enqueues installs it."""

import fcntl
import os
import re
import subprocess
import sys
import venv
from importlib.metadata import requires
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).parents[2]
WORKER_LIBRARIES: Final = ("arq", "aiohttp", "sqlalchemy")

ENQUEUE: Final = """
import asyncio, sys
from nightmill import Producer

async def main() -> None:
    params = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    async with Producer(redis_url=sys.argv[1]) as producer:
        receipt = await producer.enqueue(params)
    assert type(receipt.job_id) is str
    print(receipt.job_id)

asyncio.run(main())
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command in `cwd`; return its output, or fail with its output and errors."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def base_requirements() -> set[str]:
    """Return the names of all packages that the base install needs, from installed metadata."""
    names: set[str] = set()
    waiting = ["nightmill"]
    while waiting:
        for line in requires(waiting.pop()) or ():
            requirement = Requirement(line)
            name = canonicalize_name(requirement.name)
            wanted = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if wanted and name not in names:
                names.add(name)
                waiting.append(name)
    return names


def base_lock() -> str:
    """Return the entries of requirements.lock, with hashes, that the base install needs."""
    entries = re.split(r"^(?=\w)", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    names = base_requirements()
    return "".join(entry for entry in entries if entry.partition("==")[0] in names)


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the interpreter of a new environment with only nightmill's base install.

    Whichever process of the test run comes first makes it, for all of them.
    """
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "bare"
    home.mkdir(exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / "made").exists():
            make_bare(home)
            (home / "made").touch()
    return home / "venv" / "bin" / "python"


def make_bare(home: Path) -> None:
    """Build the wheel, and install it with the base of the lock file into a new environment."""
    venv.create(home / "venv", symlinks=True)
    python = home / "venv" / "bin" / "python"
    # To install pip there, too, would take as long as the rest.
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-qq", "--python", python)
    lock = home / "base.lock"
    lock.write_text(base_lock())
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", home, cwd=ROOT)
    run(*pip, "install", "--require-hashes", "--requirement", lock, cwd=home)
    run(*pip, "install", "--no-deps", *home.glob("*.whl"), cwd=home)
    run(*pip, "check", cwd=home)


@pytest.mark.parametrize("module", WORKER_LIBRARIES)
def test_base_install_does_not_bring(bare_python: Path, module: str) -> None:
    """A service that only enqueues does not install the worker's libraries."""
    find = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is not None)"
    run(bare_python, "-I", "-c", find, cwd=bare_python.parent)


def test_base_install_imports_its_command_line(bare_python: Path) -> None:
    """The command `nightmill` is part of the client and starts without the worker's packages."""
    run(bare_python, "-I", "-c", "import nightmill.cli", cwd=bare_python.parent)


@pytest.mark.parametrize("module", ["nightmill", "nightmill.testing"])
def test_base_install_imports_every_public_name(bare_python: Path, module: str) -> None:
    """`from nightmill import *` names what is missing only when it is run without the extras."""
    code = f"from {module} import *; import {module} as m; print(len(m.__all__))"
    assert int(run(bare_python, "-I", "-c", code, cwd=bare_python.parent)) > 3


def test_base_install_tests_a_service_in_memory(bare_python: Path) -> None:
    """A service that only enqueues has no other packages to test itself with."""
    code = "from nightmill.testing import SyncMemoryProducer as P; p = P('yes')\n"
    code += "m = [{'role': 'user', 'content': 'hi'}]\n"
    code += "print(p.result(p.enqueue({'messages': m, 'max_tokens': 5}).job_id).text)"
    assert run(bare_python, "-I", "-c", code, cwd=bare_python.parent) == "yes\n"


def test_base_install_enqueues_a_job(bare_python: Path, valkey_url: str) -> None:
    """The client's task is to enqueue into a real server."""
    job_id = run(bare_python, "-I", "-c", ENQUEUE, valkey_url, cwd=bare_python.parent)
    assert job_id.strip()


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("worker", "worker"),
        ("run in.jsonl", "worker"),
        ("doctor", "worker"),
        ("simulate", "worker"),
        ("results in --store-url postgresql://h/d", "store"),
        ("errors in --store-url postgresql://h/d", "store"),
        ("verify in --source in.jsonl --redis-url {redis}", "store"),
        ("prune in --yes --redis-url {redis}", "store"),
        ("retry in --redis-url {redis}", "store"),
        ("enqueue in.csv --prompt {{{{a}}}} --redis-url {redis}", "sources"),
        ("enqueue in.parquet --redis-url {redis}", "parquet"),
        ("enqueue s3://bucket/in.jsonl --redis-url {redis}", "sources"),
    ],
)
def test_a_missing_extra_is_one_line(
    bare_python: Path, tmp_path: Path, valkey_url: str, command: str, extra: str
) -> None:
    """`worker` printed ten tracebacks of `No module named 'uvloop'`, and started again and again.

    The line names the extra; the exit code is 2.
    """
    (tmp_path / "in.jsonl").write_text('{"prompt": "a"}\n')
    (tmp_path / "in.csv").write_text("a\nb\n")
    (tmp_path / "in.parquet").write_bytes(b"PAR1")
    words = command.format(redis=valkey_url).split()
    done = subprocess.run(
        [bare_python.with_name("nightmill"), *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin", "NIGHTMILL_API_KEY": "k"},
        timeout=60,
    )
    assert done.returncode == 2, done
    assert f"pip install 'nightmill[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
