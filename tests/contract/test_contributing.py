"""The pages for contributors name files, folders and layers that exist."""

import re
import tomllib
from pathlib import Path
from typing import Final

import pytest

import nightmill

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"
PACKAGES: Final = {
    "nightmill": ROOT / "producer" / "nightmill",
    "nightmill_gateway": ROOT / "producer" / "nightmill_gateway",
    "nightmill_worker": ROOT / "worker" / "nightmill_worker",
}
QUESTIONS: Final = 10


def read(page: str) -> str:
    """Return the text of a page, its path below the repository's root."""
    return (ROOT / page).read_text(encoding="utf-8")


def paths(text: str) -> list[str]:
    """Return the paths that stand in code quotes: with a slash, and without a space."""
    return [path for path in re.findall(r"`([^`\s]+)`", text) if "/" in path and "<" not in path]


def questions() -> list[tuple[str, str]]:
    """Return the questions of CONTRIBUTING.md, each with the file that answers it."""
    section = read("CONTRIBUTING.md").partition("## Where is ...?")[2].partition("\n## ")[0]
    return re.findall(r"^\| (.+\?) \| `(.+)` \|$", section, flags=re.MULTILINE)


def layers(package: str) -> list[str]:
    """Return the layers that the import contracts give a package, the highest first."""
    config = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]
    contracts = [each for each in config["contracts"] if each["type"] == "layers"]
    (contract,) = (each for each in contracts if each["containers"] == [package])
    assert contract["exhaustive"]
    return list(contract["layers"])


@pytest.mark.parametrize(
    "page", ["CONTRIBUTING.md", "SECURITY.md", "docs/adr/0009-folders-and-words.md"]
)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    """A reader who looks for a file that was moved loses trust in the rest of the page."""
    named = [path for path in paths(read(page)) if not path.startswith("dist/")]
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_contributing_answers_ten_questions_with_a_file_each() -> None:
    """Ten questions cover the folders that a newcomer needs first."""
    files = [file for _, file in questions()]
    assert len(files) == len(set(files)) == QUESTIONS
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_architecture_names_files_that_exist() -> None:
    """The life of a job is read with the files open beside it."""
    text = read("docs/architecture.md").partition("## The client's layers")[0]
    roots = (ROOT, *PACKAGES.values())
    missing = [path for path in paths(text) if not any((root / path).exists() for root in roots)]
    assert missing == []


@pytest.mark.parametrize("package", PACKAGES)
def test_architecture_lists_the_layers_of_the_contracts(package: str) -> None:
    """The table is where a contributor learns what a folder may import."""
    heading = f"| `{PACKAGES[package].relative_to(ROOT)}/` |"
    table = read("docs/architecture.md").partition(heading)[2].partition("\n\n")[0]
    listed = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", table, flags=re.MULTILINE)
    assert listed == [layer for layer in layers(package) if not layer.startswith("_")]


def test_the_reference_has_every_public_name() -> None:
    """A name that programs may import has its place in the reference."""
    pages = "\n".join(
        page.read_text(encoding="utf-8") for page in (DOCS / "reference").glob("*.md")
    )
    shown = set(re.findall(r"^::: nightmill\.(\w+)$", pages, flags=re.MULTILINE))
    errors = {name for name in nightmill.__all__ if name.endswith("Error")}
    assert "errors" in shown
    assert shown - {"errors"} == set(nightmill.__all__) - errors
