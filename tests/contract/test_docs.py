"""The tables in the documentation agree with the code."""

import re
from pathlib import Path
from types import NoneType
from typing import Final, Literal, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from nightmill.records.state import BATCH_TRANSITIONS, TRANSITIONS
from nightmill.setting_sources import PREFIX
from nightmill.settings import Settings

DOCS: Final = Path(__file__).parents[2] / "docs"
UNITS: Final = {"_s": "seconds", "_bytes": "bytes", "tokens": "tokens", "pm": "per minute"}
BOUNDS: Final = {
    "ge": "at least {}",
    "gt": "above {}",
    "le": "at most {}",
    "min_length": "not empty",
}


def table(page: str, first_column: str) -> list[tuple[str, ...]]:
    """Return the rows of the table in docs/`page` whose first column has this heading."""
    lines = iter((DOCS / page).read_text(encoding="utf-8").splitlines())
    next(line for line in lines if line.startswith(f"| {first_column} |"))
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("| "):
            break
        rows.append(tuple(cell.strip().replace("\\|", "|") for cell in line[1:-1].split(" | ")))
    return rows


def settings_row(name: str, field: FieldInfo) -> tuple[str, ...]:
    """Return the row that docs/operations.md must have for one setting."""
    unit = next((unit for end, unit in UNITS.items() if name.endswith(end)), "")
    default = "" if field.default is None else f"`{field.default}`"
    variable = f"`{PREFIX}{name.upper()}`"
    return variable, default, unit, allowed(field), field.description or ""


def allowed(field: FieldInfo) -> str:
    """Return a field's range in words."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(get_args(field.annotation))
    if field.annotation is bool:
        return "true, false"
    kinds = {kind.__name__ for kind in get_args(field.annotation) if kind is not NoneType}
    found = [
        text.format(f"{getattr(bound, name):,}")
        for bound in field.metadata
        for name, text in BOUNDS.items()
        if hasattr(bound, name)
    ]
    if any(getattr(bound, "pattern", None) for bound in field.metadata):
        found.append("http:// or https://")
    return ", ".join(found) or ("secret" if "SecretStr" in kinds else "")


@pytest.mark.parametrize(("name", "field"), Settings.model_fields.items())
def test_operations_lists_the_setting_as_it_is(name: str, field: FieldInfo) -> None:
    """A person who sets a variable reads its unit, range and default there."""
    expected = settings_row(name, field)
    assert expected in table("operations.md", "Variable"), f"| {' | '.join(expected)} |"


def test_operations_lists_no_setting_that_is_gone() -> None:
    """A variable that does nothing must not be listed."""
    listed = [row[0] for row in table("operations.md", "Variable")]
    assert listed == [f"`{PREFIX}{name.upper()}`" for name in Settings.model_fields]


def test_state_machine_shows_the_table_of_transitions() -> None:
    """The page that a newcomer reads first must agree with state.py."""
    rows = [(before.value, after.value, why) for (before, after), why in TRANSITIONS.items()]
    assert table("state_machine.md", "from") == rows


def test_state_machine_shows_the_moves_of_a_batch() -> None:
    """`pause` overwrote `cancelled`, because no table said what may follow what."""
    rows = [
        (before.value, move.value, after.value, why)
        for (before, move), (after, why) in BATCH_TRANSITIONS.items()
    ]
    assert table("state_machine.md", "state of a batch") == rows


def test_state_machine_draws_every_transition() -> None:
    """Most people read the picture instead of the table."""
    page = (DOCS / "state_machine.md").read_text(encoding="utf-8")
    drawn = re.findall(r"^ +(\w+) --> (\w+)$", page, flags=re.MULTILINE)
    assert sorted(drawn) == sorted((before.value, after.value) for before, after in TRANSITIONS)
