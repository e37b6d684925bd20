"""The panel of `run` on a real terminal: its frames, its end, its colours, hostile texts."""

from __future__ import annotations

import re
import signal

from tests.integration.on_terminal import on_terminal
from tests.integration.shell import Endpoint, Shell

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
CONTROLS = re.compile(r"\x1b\[([\d;?]*)([A-Za-z])")


def require_clean(drawn: str) -> None:
    """Require a shown cursor, no colour left on, and no controls but rich's own."""
    assert drawn.rindex(SHOW) > drawn.rindex(HIDE)
    assert {kind for _, kind in CONTROLS.findall(drawn)} <= set("lhmAK")
    assert "\x1b" not in CONTROLS.sub("", drawn)
    styles = [codes for codes, kind in CONTROLS.findall(drawn) if kind == "m"]
    assert not styles or styles[-1] in {"0", ""}


def test_ctrl_c_leaves_the_last_picture_and_a_clean_terminal(
    shell: Shell, endpoint: Endpoint
) -> None:
    """The name of the batch is as wide as names can be."""
    endpoint.configure(latency_s=0.5)
    shell.export(max_in_flight="4")
    name = "夜間バッチ🚀"
    with on_terminal(shell, "run", shell.write(400), "--batch", name) as terminal:
        terminal.until("limited by")
        terminal.until("ETA", times=4)
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == 130
    require_clean(terminal.drawn)
    assert "interrupted, nothing is lost" in terminal.drawn
    assert "ETA" in terminal.drawn[terminal.drawn.rindex("Ctrl-C") :]


def test_the_panel_is_drawn_at_most_four_times_a_second(shell: Shell) -> None:
    """It must cost the run nothing. The last frame is drawn whenever it comes."""
    with on_terminal(shell, "run", shell.write(300), NIGHTMILL_MAX_IN_FLIGHT="20") as terminal:
        assert terminal.wait() == 0
    found = re.search(r" in ([\d.]+) s", terminal.drawn)
    assert found
    frames = terminal.drawn.count("refused (429) ")
    assert 1 < frames <= 4 * (float(found[1]) + 1) + 3
    assert "100.0%" in terminal.drawn
    require_clean(terminal.drawn)


def test_a_resize_leaves_no_piece_of_an_older_picture(shell: Shell, endpoint: Endpoint) -> None:
    """A narrower terminal wraps the lines of the last picture: they are more rows to go up."""
    endpoint.configure(latency_s=0.5)
    shell.export(max_in_flight="4")
    with on_terminal(shell, "run", shell.write(400), columns=120) as terminal:
        terminal.until("limited by")
        before = terminal.until("ETA", times=terminal.drawn.count("ETA") + 1)
        lines = before[before.rindex("ETA") :].split("\n")
        terminal.resize(40)
        terminal.until("ETA", times=before.count("ETA") + 2)
        ups = re.findall(r"(?:\x1b\[1A\x1b\[2K)+", terminal.drawn[len(before) :])
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait() == 130
    most = max(each.count("A") for each in ups)
    assert most > len(lines)
    require_clean(terminal.drawn)


def test_no_color_and_a_dumb_terminal(shell: Shell) -> None:
    """NO_COLOR has a panel without colours; a dumb terminal gets plain lines."""
    with on_terminal(shell, "run", shell.write(20), NO_COLOR="1") as terminal:
        assert terminal.wait() == 0
    assert "refused (429) " in terminal.drawn
    styles = {codes for codes, kind in CONTROLS.findall(terminal.drawn) if kind == "m"}
    assert styles <= {"0", "1", "2", "1;2"}
    with on_terminal(shell, "run", shell.write(20), TERM="dumb") as terminal:
        assert terminal.wait() == 0
    assert "\x1b" not in terminal.drawn
    assert "prompts: 20/20 done" in terminal.drawn


def test_a_pipe_gets_one_plain_line(shell: Shell) -> None:
    """Forced colours do not make a log a terminal."""
    done = shell("run", shell.write(20), env={"FORCE_COLOR": "1", "TERM": "xterm"})
    assert "\x1b" not in done.err
    assert done.err.startswith("prompts: ")
