"""The glossary explains every word that commands print as a heading, a label or a state."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Final, get_args, get_type_hints

import pytest

from nightmill.queue.webhooks import Webhook
from nightmill.records import counts
from nightmill.records.state import JobState
from nightmill.reports import labels, lanes
from nightmill_worker.cli import examine, examine_endpoint, examine_redis

GLOSSARY: Final = Path(__file__).parents[2] / "docs" / "glossary.md"
ROW: Final = re.compile(r"^\| (.+?) \| (.+) \|$", re.MULTILINE)


def rows() -> list[tuple[str, str]]:
    """Return the terms of the glossary with their meanings, in the order of the page."""
    heading, *found = ROW.findall(GLOSSARY.read_text(encoding="utf-8"))
    assert heading == ("term", "meaning")
    return found


def doctor_checks() -> Iterator[str]:
    """Yield the names of doctor's checks: each `what=` of a Finding, and the keys of `checks`."""
    files = (examine.__file__, examine_endpoint.__file__, examine_redis.__file__)
    trees = [ast.parse(Path(file).read_text(encoding="utf-8")) for file in files]
    for node in itertools.chain.from_iterable(map(ast.walk, trees)):
        if isinstance(node, ast.keyword) and node.arg == "what":
            yield from _strings(node.value)
        if isinstance(node, ast.AnnAssign | ast.Assign) and isinstance(node.value, ast.Dict):
            for key in node.value.keys:
                yield from _strings(key)


def _strings(node: ast.AST | None) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def printed() -> dict[str, str]:
    """Return every term that a command prints, with the place that the code has it from."""
    words = {
        kind.__name__: [*kind]
        for kind in vars(labels).values()
        if isinstance(kind, type) and issubclass(kind, StrEnum) and kind is not StrEnum
    }
    assert words
    places = {
        **words,
        "JobState": [*JobState],
        "State of a batch": get_args(counts.State),
        "Webhook.state": get_args(get_type_hints(Webhook)["state"]),
        "SENTENCES of lanes": [*lanes.SENTENCES],
        "UNITS of lanes": [*lanes.UNITS, *lanes.UNITS.values()],
        "doctor": [*doctor_checks()],
    }
    assert all(places.values())
    return {term.replace("_", " "): place for place, terms in places.items() for term in terms}


@pytest.mark.parametrize(("term", "place"), printed().items())
def test_the_glossary_has_the_term(term: str, place: str) -> None:
    """A reader whose second language is English can look up every word of an output."""
    assert term in dict(rows()), f"docs/glossary.md has no row for {term!r} ({place})"


def test_terms_are_sorted_and_unique() -> None:
    """A term is found without a search, and has one meaning only."""
    terms = [term.lower() for term, _ in rows()]
    assert terms == sorted(set(terms))


def test_a_meaning_is_a_sentence() -> None:
    """A fragment or a paragraph does not explain a term."""
    assert [term for term, meaning in rows() if not meaning.endswith((".", "..."))] == []
