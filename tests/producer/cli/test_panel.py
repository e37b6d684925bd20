"""The panel of a run: what matters first, in any width, whatever the texts in it hold."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from nightmill.cli.console import VisibleConsole
from nightmill.cli.panel import DrawnPanel, bar
from nightmill.records.counts import Counts
from nightmill.reports.panel import Panel, panel_of
from nightmill.reports.progress import Progress

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e\r\nnext \u2028 \ud800"
RUNNING = Counts(
    total=1_000_000,
    queued=379_747,
    in_flight=130,
    succeeded=620_011,
    failed=112,
    stop_reasons={"end_turn": 619_999, "refusal": 12},
    input_tokens=34_500_000,
    output_tokens=12_100_000,
    nanodollars=12_340_000_000,
    refused=9,
)


def panel(counts: Counts = RUNNING, batch: str = "reviews", **more: object) -> Panel:
    """Return the panel of a batch that ended 12.4 jobs a second."""
    before = max(0, counts.succeeded + counts.failed - 124)
    progress = Progress(Counts(total=counts.total, succeeded=before, refused=7), 0.0)
    progress.add(counts, 10.0)
    made = panel_of(batch, progress)
    return Panel(**{name: getattr(made, name) for name in made.__struct_fields__} | more)


def drawn(what: Panel, width: int, *, encoding: str = "utf-8") -> list[str]:
    """Return the lines of a panel as a terminal of that width shows them."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="", errors="strict")
    console = VisibleConsole(width=width)
    console.file = out
    console.print(DrawnPanel(what))
    out.flush()
    return out.buffer.getvalue().decode(encoding).splitlines()


def test_the_panel_shows_what_a_person_wants_to_know() -> None:
    """ETA first; then the bar, how many, how fast, what it costs, what limits it."""
    shown = drawn(
        panel(
            limited_by=("The limit is 4,000 requests a minute (the endpoint reports it).",),
            newest_error="overloaded_error: Overloaded",
            notes=("lane opus is held: 400 prompt is too long",),
        ),
        80,
    )
    assert shown == [
        f"ETA 8h 30m  {'━' * 37}{'─' * 23}  62.0%",
        "batch         reviews",
        "done          620,123 of 1,000,000 · 112 failed",
        "rate          12.4/s · 130 in flight",
        "tokens        34.5M in + 12.1M out",
        "cost          $12.34 so far, about $19.90 in all",
        "refused (429) 2",
        "limited by    The limit is 4,000 requests a minute (the endpoint reports it).",
        "not whole     12 refused by the model",
        "newest error  overloaded_error: Overloaded",
        "lane opus is held: 400 prompt is too long",
    ]


@pytest.mark.parametrize("width", [20, 40, 60, 61, 79, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_the_eta_is_whole(width: int) -> None:
    """A line that wraps would stay behind when the panel is drawn again."""
    long = "the endpoint answered 夜間バッチ 🚀 " * 30
    what = panel(
        batch="夜間バッチ🚀" * 40,
        limited_by=(long, long),
        newest_error=long.replace(" ", ""),
        notes=(long,),
    )
    shown = drawn(what, width)
    assert shown[0].startswith("ETA 8h 30m")
    assert all(cell_len(line) <= width for line in shown)
    assert sum(line.endswith("...") for line in shown) >= 5


@given(st.text(), st.text(), st.integers(5, 250))
def test_any_text_in_any_width(name: str, error: str, width: int) -> None:
    """Names and errors come from outside: no control reaches the terminal, no line is too wide."""
    shown = drawn(panel(batch=name, newest_error=error, notes=(error,)), width)
    assert all(cell_len(line) <= max(width, 11) for line in shown)
    assert not any(c < " " or "\x7f" <= c <= "\x9f" for line in shown for c in line)


def test_hostile_text_is_shown_and_not_obeyed() -> None:
    """It could clear the screen, or show a line that is not there."""
    what = panel(batch=EVIL, newest_error=EVIL, notes=(EVIL,), limited_by=(EVIL,))
    shown = "\n".join(drawn(what, 120))
    assert not set(shown) & set("\x1b\x9b\x07\u202e\r\u2028")
    assert shown.count(r"\x1b[2J\x9b31m\u202e") == 4


def test_characters_without_a_width_have_an_end() -> None:
    """A thousand accents on one letter take one cell, and would fill a screen."""
    shown = drawn(panel(newest_error="e" + "\u0301" * 100_000), 80)
    assert sum(map(len, shown)) < 2_000


@pytest.mark.parametrize("width", [1, 10, 60])
@pytest.mark.parametrize(
    ("done", "failed"), [(0, 0), (1e-9, 1e-9), (0.5, 0.001), (0.9999, 0.5), (1, 0), (1, 1)]
)
def test_a_bar_is_full_only_when_all_is_done(width: int, done: float, failed: float) -> None:
    """99.99 % looked like done, and one failure of a million like none."""
    drawn_bar = bar(done, failed, width)
    assert len(drawn_bar.plain) == width
    assert ("─" not in drawn_bar.plain) == (done == 1)
    red = sum(span.end - span.start for span in drawn_bar.spans if span.style == "red")
    assert (red > 0) == (failed > 0 and int(done * width) > 0)


def test_a_terminal_without_unicode_gets_a_bar_of_ascii() -> None:
    """Its encoding cannot show the other one."""
    console = VisibleConsole(width=80)
    console.file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with console.capture() as captured:
        console.print(DrawnPanel(panel(Counts(total=10, succeeded=5, queued=5))))
    assert "#-" in captured.get()
    assert captured.get().split("\n", maxsplit=1)[0].isascii()


def test_a_source_without_an_end_has_no_bar() -> None:
    """Its total is not known, nor are the time and the cost in all."""
    shown = drawn(panel(Counts(queued=5, succeeded=200, nanodollars=10**9, feeding=True)), 80)
    assert shown[0] == "ETA ?"
    assert "done          200 · 0 failed" in shown
    assert "cost          $1.00" in shown


def test_a_rehearsal_and_an_unknown_price_say_so() -> None:
    """List prices looked like a bill."""
    rehearsal = drawn(panel(batch="reviews@rehearsal"), 80)
    assert any(line.endswith("(rehearsal: nothing is paid)") for line in rehearsal)
    unknown = drawn(panel(Counts(total=9, succeeded=5, unpriced=5)), 80)
    assert "cost          ? (a model without a known price)" in unknown


def test_a_finished_batch_is_done() -> None:
    """No time is left, and the bar is full."""
    shown = drawn(panel(Counts(total=200, succeeded=199, failed=1, nanodollars=10**9)), 80)
    assert shown[0] == f"done  {'━' * 60}  100.0%"
    assert "cost          $1.00" in shown
