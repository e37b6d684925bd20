"""The package's public names: all are there, and none is loaded before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nightmill

WITHOUT_SQLALCHEMY = "import sys; sys.modules['sqlalchemy'] = None\n"
"""Makes a new interpreter behave as the base install, where SQLAlchemy cannot be imported."""


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run `script` in a new interpreter to its end."""
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("name", nightmill.__all__)
def test_every_public_name_is_there(name: str) -> None:
    """Names are imported on first use, so without this test only a user would find a wrong one."""
    assert getattr(nightmill, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The package behaves like any other module."""
    with pytest.raises(AttributeError, match="no attribute 'Consumer'"):
        _ = nightmill.Consumer  # type: ignore[attr-defined]


def test_an_error_can_be_caught_without_loading_a_client() -> None:
    """A program that only names errors and states must not pay for redis and pydantic."""
    script = "import sys, nightmill; nightmill.JobState, nightmill.NightmillError; "
    check = "sys.exit('redis' in sys.modules or 'pydantic' in sys.modules)"
    assert run(script + check).returncode == 0


def test_the_base_install_can_import_every_name_that_it_has() -> None:
    """`from nightmill import *` must not fail because the store's extra is not installed."""
    done = run(
        WITHOUT_SQLALCHEMY + "from nightmill import *; print(Producer, 'ResultStore' in dir())"
    )
    assert done.stdout == "<class 'nightmill.client.producer.Producer'> False\n", done.stderr


def test_the_store_says_what_to_install_where_it_is_missing() -> None:
    """The error comes when the name is used, and it names the extra."""
    done = run(WITHOUT_SQLALCHEMY + "from nightmill import ResultStore")
    assert "StoreMissingError: Reading stored results needs the store: pip install" in done.stderr
