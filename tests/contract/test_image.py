"""The image and the compose file agree with the package: dependencies, settings, grace period."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nightmill.setting_sources import IN_FILES, PREFIX
from nightmill.settings import Settings
from nightmill_worker.machine.process import END_S
from nightmill_worker.machine.supervisor import KILL_S

ROOT: Final = Path(__file__).parents[2]
LOCK: Final = "requirements-worker.lock"
TOOLS: Final = ("pytest", "mypy", "pandas", "pyarrow", "mkdocs", "duckdb", "polars", "ruff")


def read(name: str) -> str:
    """Return the text of a file in the repository's root."""
    return (ROOT / name).read_text(encoding="utf-8")


def entries(lock: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Return package -> its version, and the hashes of its files."""
    found = {}
    for entry in re.split(r"^(?=\w)", read(lock), flags=re.MULTILINE):
        if pin := re.match(r"([\w.-]+)==([\w.]+)", entry):
            found[pin[1]] = pin[2], frozenset(re.findall(r"sha256:\w+", entry))
    return found


def needed(*extras: str) -> set[str]:
    """Return the packages that nightmill with these extras needs here."""
    names: set[str] = set()
    waiting: list[tuple[str, str]] = [("nightmill", extra) for extra in ("", *extras)]
    project = tomllib.loads(read("pyproject.toml"))["project"]
    visited: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in visited:
            continue
        visited.add((name, extra))
        own = project["optional-dependencies"].get(extra, project["dependencies"])
        for line in own if name == "nightmill" else requires(name) or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                found = canonicalize_name(requirement.name)
                waiting += [(found, each) for each in ("", *requirement.extras)]
                names.add(found)
    return names - {"nightmill"}


@pytest.fixture(scope="module")
def worker() -> dict[str, Any]:
    """Return the compose file's service of the workers."""
    service: dict[str, Any] = yaml.safe_load(read("docker-compose.yml"))["services"]["worker"]
    return service


def test_the_image_installs_what_a_worker_needs_and_no_tools() -> None:
    """It had 917 MB of packages for tests, types and docs; the worker needs 139 MB."""
    image, everything = entries(LOCK), entries("requirements.lock")
    assert needed("worker", "gateway", "postgres") <= set(image)
    assert not set(TOOLS) & set(image)
    assert {name: everything[name] for name in image} == image
    for file in ("Dockerfile", ".dockerignore"):
        assert LOCK in read(file)
        assert "requirements.lock" not in read(file)


def test_compose_passes_every_setting(worker: dict[str, Any]) -> None:
    """A setting that compose does not pass has no effect, and nothing says so."""
    passed = set(worker["environment"])
    assert {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} <= passed
    assert {f"{PREFIX}{name.upper()}_FILE" for name in IN_FILES} - passed == {
        f"{PREFIX}REDIS_URL_FILE",  # compose runs the Redis
        f"{PREFIX}STORE_URL_FILE",  # and the PostgreSQL
    }


def test_a_setting_that_is_not_set_is_not_passed(worker: dict[str, Any]) -> None:
    """An empty text is no number: the worker would not start."""
    given = {name for name, value in worker["environment"].items() if value is not None}
    services = ("REDIS_URL", "STORE_URL", "DATA_DIR", "METRICS_PORT", "METRICS_HOST")
    assert given == {PREFIX + name for name in services}
    compose = Path(sys.executable).with_name("docker-compose")
    done = subprocess.run(
        [compose, "--file", ROOT / "docker-compose.yml", "config"],
        env={"PATH": "/usr/bin:/bin", f"{PREFIX}RPM": "50"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = yaml.safe_load(done.stdout)["services"]["worker"]
    set_here = {name: value for name, value in found["environment"].items() if value is not None}
    assert set_here == {
        f"{PREFIX}RPM": "50",
        f"{PREFIX}REDIS_URL": "redis://redis:6379/0",
        f"{PREFIX}STORE_URL": "postgresql://nightmill:nightmill@postgres/nightmill",
        f"{PREFIX}DATA_DIR": "/data",
        f"{PREFIX}METRICS_PORT": "9464",
        f"{PREFIX}METRICS_HOST": "0.0.0.0",  # noqa: S104 - of the containers' own network
    }
    assert found["stop_grace_period"] == "50s"


def test_the_grace_period_is_the_one_that_is_told(worker: dict[str, Any]) -> None:
    """Docker kills a worker after it: its calls in flight would be paid for and lost."""
    grace_s = Settings.model_fields["grace_s"].default
    assert worker["stop_grace_period"] == f"${{STOP_GRACE_PERIOD:-{grace_s + KILL_S:.0f}s}}"
    assert KILL_S > END_S
    text = " ".join(read("docs/operations.md").split())
    assert f"a stop grace period of `GRACE_S` and {KILL_S:.0f} s more" in text
