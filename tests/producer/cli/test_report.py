"""`nightmill report` agrees with `status --json` and `errors`, and refuses what cannot work."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import msgspec
import pytest

from nightmill.records.acceptance import from_text
from nightmill.records.result import ErrorInfo, Usage
from nightmill.reports.report import Report
from nightmill.reports.report_compared import compared
from nightmill.reports.sums import ModelSum, Sums
from tests.producer.store.samples import FAILED, SUCCEEDED

if TYPE_CHECKING:
    from tests.integration.shell import Shell
    from tests.rig import Rig


class Texts(HTMLParser):
    """The texts of a page, and the names of its elements."""

    def __init__(self, page: str) -> None:
        """Read a page."""
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take an element; the parser calls this."""
        self.tags.add(tag)
        assert not any(name.startswith("on") or name in {"src", "href"} for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        """Take a text; the parser calls this."""
        self.texts.append(data)

    def after(self, label: str) -> str:
        """Return the text behind a label."""
        return self.texts[self.texts.index(label) + 1]


def page(shell: Shell, batch: str = "prompts") -> Texts:
    """Return the report of a batch."""
    done = shell("report", batch, "-o", "-")
    assert (done.code, done.err) == (0, "")
    return Texts(done.out)


async def test_every_figure_is_that_of_status_and_errors(shell: Shell, rig: Rig) -> None:
    """Two commands that disagree are worse than one."""
    assert shell("enqueue", shell.write(30)).code == 0
    await rig.work_off()
    status, shown = shell.status(), page(shell)
    assert shown.after("succeeded") == f"{status['succeeded']:,}" == "30"
    assert shown.after("failed") == f"{status['failed']:,}"
    stops = status["stop_reasons"]
    assert isinstance(stops, dict)
    assert shown.after("cut at max_tokens") == f"{stops.get('max_tokens', 0):,}"
    cost = status["cost"]
    assert isinstance(cost, dict)
    assert float(shown.after("cost")[1:]) == pytest.approx(cost["usd"], abs=1e-4)
    used = status["utilisation"]
    assert shown.after("of rate limit") == ("not known" if used is None else f"{used:.1%}")
    commands = re.findall(r"nightmill retry .*", shell("errors", "prompts").out)
    assert commands
    for command in commands:
        assert command in shown.texts
    assert shown.tags.isdisjoint({"script", "img", "link", "iframe"})


async def test_the_estimate_of_the_dry_run_is_beside_what_was_used(shell: Shell, rig: Rig) -> None:
    """The page said "not known: a dry run stores nothing", so nobody learned how far off it was."""
    command = ("enqueue", shell.write(30), "--budget-usd", "2")
    dry = json.loads(shell(*command, "--dry-run", "--json").out)
    assert shell(*command).code == 0
    await rig.work_off()
    shown, status = page(shell), shell.status()
    used, cost = status["tokens"], status["cost"]
    assert isinstance(used, dict)
    assert isinstance(cost, dict)
    assert shown.after("before the first call: input tokens") == f"about {dry['input_tokens']:,}"
    assert f"{used['input']:,}" in shown.texts
    output = "before the first call: output tokens"
    assert shown.after(output) == f"at most {dry['max_output_tokens']:,}"
    assert shown.after(shown.after(output)) == f"{used['output']:,}"
    assert shown.after("before the first call: cost") == f"at most ${dry['max_cost']:,.4f}"
    assert shown.after("budget") == "$2.00"
    assert f"{cost['usd'] / 2:.1%} of it" in shown.texts
    (shell.folder / "more.jsonl").write_text('{"custom_id": "z", "prompt": "hi"}\n')
    assert shell("enqueue", "more.jsonl", "--batch", "prompts").code == 0
    assert any("fed last: 1 job of 31" in text for text in page(shell).texts)


def small(spent: float) -> Report:
    """Return the report of a batch of one job that cost 0.2450000001 dollars."""
    sums = Sums(0, 0)
    sums.models["m"] = ModelSum(jobs=1, cost=0.2450000001)
    return Report(
        batch="b",
        version="0",
        made_at=0,
        sums=sums,
        counts=None,
        total=1,
        used=Usage(),
        spent_usd=spent,
        unpriced=0,
        failures=[],
        not_whole=[],
        accept=from_text(""),
    )


def test_a_rounding_residue_is_no_loss() -> None:
    """A night without a retry had lost "$0.0000"; the sum of floats differs from nano-dollars."""
    for spent, gone in ((0.245000001, False), (0.245000002, True)):
        assert (small(spent).gone_usd > 0) is gone


def test_a_batch_of_an_older_version_has_no_estimate() -> None:
    """Its source was fed to its end all the same: the page may not say that it was not."""
    found = str(compared(small(0.245)))
    assert "not known: no source was fed to its end, or an older version fed it" in found


async def test_a_message_of_any_length_leaves_place_for_the_command(shell: Shell, rig: Rig) -> None:
    """A message of 5,000 letters filled the page, and the fix beside it was 4 letters wide."""
    error = ErrorInfo(type="api_error", message="x" * 5_000)
    await rig.store.record([msgspec.structs.replace(FAILED, error=error)])
    shown = page(shell, "night")
    assert f"{'x' * 497}..." in shown.texts
    assert 'class="reasons"' in shell("report", "night", "-o", "-").out


def test_a_batch_that_runs_has_the_figures_so_far(shell: Shell, rig: Rig) -> None:
    """Nobody waits for the end to look."""
    assert rig is not None
    assert shell("enqueue", shell.write(3)).code == 0
    shown = page(shell)
    assert any(text.startswith("So far: ") for text in shown.texts)
    assert shown.after("jobs of its source") == "3"


async def test_without_redis_the_store_is_enough(shell: Shell, rig: Rig) -> None:
    """The results may be all that is left the morning after."""
    await rig.store.record([SUCCEEDED, FAILED])
    shell.export(redis_url="redis://127.0.0.1:1")
    done = shell("report", "night")
    assert (done.code, done.err) == (0, "report in night.report.html\n")
    shown = Texts((shell.folder / "night.report.html").read_text())
    assert any("Redis did not answer" in text for text in shown.texts)
    assert shown.after("of rate limit") == "not known"
    assert shown.after("failed") == "1"


async def test_odd_arguments(shell: Shell, rig: Rig) -> None:
    """One line says what is wrong; a report that exists stays."""
    await rig.store.record([SUCCEEDED])
    unknown = shell("report", "nope")
    assert (unknown.code, unknown.out) == (2, "")
    assert unknown.err == 'error: no results of a batch "nope"; batches with results: night\n'
    for out in ("/nope/r.html", "/proc/r.html", "."):
        refused = shell("report", "night", "-o", out)
        assert (refused.code, refused.err.count("\n")) == (2, 1)
        assert f"error: {out}: cannot be written" in refused.err
    old = shell.folder / "old.html"
    old.write_text("old")
    assert shell("report", "nope", "-o", "old.html").code == 2
    assert old.read_text() == "old"
    assert shell("report", "night", "-o", "old.html").code == 0
    assert old.read_text().startswith("<!doctype html>")
    assert [p.name for p in shell.folder.iterdir() if p.name.endswith(".tmp")] == []
