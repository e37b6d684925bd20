"""The charts are well-formed SVG whatever they are given, and say in words what they show."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill.charts import (
    STYLE,
    Bin,
    Mark,
    Series,
    Stretch,
    histogram,
    line_chart,
    sparkline,
    text_sparkline,
    time_line,
)
from nightmill.charts.scale import ticks, time_ticks

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</title><script>alert(1)</script>\x1b]0;x\x07 \ud800 \" onload='x' &lt;"
VALUES = st.none() | st.floats() | st.integers(-(10**30), 10**30).map(float)


def parsed(svg: str) -> ET.Element:
    """Read an SVG text; require what every chart must have and must not have."""
    assert "style=" not in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")
    svg.encode()
    root = ET.fromstring(svg)  # noqa: S314 - our own text
    assert root.tag == f"{SVG}svg"
    assert root.get("role") == "img"
    assert root[0].tag == f"{SVG}title"
    assert root[0].text
    tags = {each.tag.removeprefix(SVG) for each in root.iter()}
    assert tags <= {"svg", "title", "desc", "text", "line", "path", "rect"}
    handlers = [name for each in root.iter() for name in each.attrib if name.startswith("on")]
    assert not handlers
    return root


def classes(root: ET.Element) -> set[str]:
    """Return every class in a chart."""
    return {kind for each in root.iter() for kind in (each.get("class") or "").split()}


def path_of(svg: str) -> str:
    """Return the first path of a chart."""
    return next(parsed(svg).iter(f"{SVG}path")).get("d") or ""


@given(st.lists(st.tuples(st.floats() | st.integers(0, 4 * 10**9).map(float), VALUES)), st.text())
def test_any_points_and_names_make_a_well_formed_line_chart(
    points: list[tuple[float, float | None]], name: str
) -> None:
    """Clocks jump and endpoints report nonsense; a page must not break on them."""
    parsed(line_chart([Series(name=name, points=points)], title=f"x{name}", gap_s=60))


@given(st.lists(VALUES), st.text())
def test_any_values_make_a_sparkline(values: list[float | None], name: str) -> None:
    """One character a value, so that a table's columns stay where they are."""
    parsed(sparkline(values, title=f"x{name}"))
    assert len(text_sparkline(values)) == len(values)
    assert text_sparkline(values, ascii_only=True).isascii()


@given(
    st.lists(st.tuples(st.floats(0, 1e12), st.floats(0, 1e12), st.integers(0, 10**12))),
    st.lists(st.floats(0, 1e12)),
)
def test_any_bins_make_a_histogram(
    bins: list[tuple[float, float, int]], marks: list[float]
) -> None:
    """Bins may be empty, of no width, or hold everything."""
    made = [Bin(low=low, high=high, count=count) for low, high, count in bins]
    parsed(histogram(made, title="x", marks=[Mark(name="p50", value=v) for v in marks]))


def test_hostile_texts_are_escaped() -> None:
    """Lane and batch names come from outside."""
    series = [Series(name=HOSTILE, points=[(0, 1), (60, 2)])]
    for svg in (
        line_chart(series, title=HOSTILE, unit=HOSTILE),
        histogram([Bin(low=0, high=1, count=1)], title=HOSTILE, unit=HOSTILE),
        sparkline([1, 2], title=HOSTILE),
        line_chart([], title=HOSTILE),
    ):
        parsed(svg)
        assert "<script" not in svg
        assert "\x1b" not in svg


def test_a_gap_is_not_joined() -> None:
    """A worker that was down for an hour did not work at half the rate."""
    joined = path_of(line_chart([Series(name="a", points=[(0, 1), (60, 1), (120, 1)])], title="t"))
    assert joined.count("M") == 1
    by_none = [(0.0, 1.0), (60.0, None), (120.0, 1.0)]
    assert path_of(line_chart([Series(name="a", points=by_none)], title="t")).count("M") == 2
    by_time = Series(name="a", points=[(0, 1), (60, 1), (3600, 1)])
    assert path_of(line_chart([by_time], title="t", gap_s=90)).count("M") == 2
    assert path_of(sparkline([1, None, 2], title="t")).count("M") == 2


def test_points_are_shown_in_the_order_of_time() -> None:
    """A line never runs back."""
    path = path_of(line_chart([Series(name="a", points=[(60, 1), (0, 1), (30, 5)])], title="t"))
    across = [float(x) for x in re.findall(r"[ML]([\d.]+) ", path)]
    assert across == sorted(across)


def test_many_points_are_thinned_and_keep_their_peaks() -> None:
    """A week of samples fits into a page, and the one peak in it is still there."""
    points = [(float(n), 100.0 if n == 4321 else 1.0) for n in range(100_000)]
    svg = line_chart([Series(name="a", points=points)], title="t")
    assert len(svg) < 40_000
    heights = {float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", path_of(svg))}
    assert len(heights) == 2


def test_no_values_are_no_data() -> None:
    """An empty chart says so."""
    for svg in (
        line_chart([], title="rate"),
        line_chart([Series(name="a", points=[(0, None), (1, math.nan)])], title="rate"),
        histogram([], title="rate"),
        histogram([Bin(low=0, high=1, count=0)], title="rate"),
    ):
        assert "no data" in svg


def test_the_words_say_what_the_chart_shows() -> None:
    """A screen reader reads the title and the description."""
    svg = line_chart([Series(name="rate", points=[(0, 1), (60, 3)])], title="Rate", unit="/s")
    assert "<desc>rate: mean 2/s, highest 3/s, last 3/s</desc>" in svg
    bars = histogram(
        [Bin(low=0, high=2, count=1200)], title="Latency", marks=[Mark(name="p50", value=1)]
    )
    assert "<desc>1,200 values: p50 1</desc>" in bars


def test_the_style_sheet_has_every_class_and_both_schemes() -> None:
    """A class without a rule would be drawn black."""
    many = [Series(name=str(n), points=[(0, 1), (99, 2)], dashed=n == 1) for n in range(1, 5)]
    bars = histogram([Bin(low=0, high=1, count=1)], title="t", marks=[Mark(name="p50", value=1)])
    used = classes(parsed(line_chart(many, title="t"))) | classes(parsed(bars))
    for kind in used:
        assert f".{kind}" in STYLE
    assert "prefers-color-scheme: dark" in STYLE
    assert "@media print" in STYLE
    colours = set(re.findall(r"var\((--chart-[\w-]+)\)", STYLE))
    assert all(STYLE.count(f"{name}:") == 3 for name in colours)


@pytest.mark.parametrize("highest", [0, 1e-9, 0.07, 1, 3, 999, 1000, 1e18, -5])
def test_ticks_reach_the_highest_value(highest: float) -> None:
    """A line never leaves its chart."""
    found = ticks(highest)
    assert found[0] == 0
    assert found[-1] >= highest * (1 - 1e-6)
    assert 2 <= len(found) <= 7


def test_time_ticks_are_round_moments() -> None:
    """A night is labelled by hours, and midnight by its date."""
    since = 1_764_450_000.0  # 2025-11-29 21:00 UTC
    assert [name for _, name in time_ticks(since, since + 6 * 3600)] == [
        *("21:00", "22:00", "23:00", "11-30", "01:00", "02:00", "03:00")
    ]
    assert time_ticks(since, since) == [(since, "21:00:00")]


@pytest.mark.parametrize(
    ("values", "shown"),
    [([0, 7, None, 3.5], "▁█ ▄"), ([], ""), ([0, 0], "▁▁"), ([None], " "), ([-1, 5], "▁█")],
)
def test_a_sparkline_of_text(values: list[float | None], shown: str) -> None:
    """The highest value is a full block; a gap is a space."""
    got = text_sparkline(values)
    assert got[:3] == shown[:3]
    assert len(got) == len(shown)


def test_the_last_time_is_not_cut_off() -> None:
    """It was centred on the edge: half of "17:31:00" stood outside of the drawing."""
    points = [(0.0, 1.0), (60.0, 2.0)]
    drawn = line_chart([Series(name="s", points=points)], title="t")
    assert '<text class="end" x="640" y="184">00:01:00</text>' in drawn


@given(st.lists(st.tuples(st.floats(), st.floats(0, 1e6), st.text())), st.text(), st.text())
def test_any_calls_make_a_well_formed_time_line(
    calls: list[tuple[float, float, str]], lead: str, end: str
) -> None:
    """Times of another clock, and names of hostile text."""
    stretches = [
        Stretch(name=name, kind="good", since=since, until=since + took, label=name)
        for since, took, name in calls
    ]
    root = parsed(time_line(stretches, title="T", lead=lead, end=end))
    for rect in root.iter(f"{SVG}rect"):
        x, width = float(rect.get("x") or ""), float(rect.get("width") or "")
        assert width >= 3.9
        assert 0 <= x <= x + width <= 640


def test_a_time_line_is_to_scale_and_says_in_words_what_happened() -> None:
    """A long wait before the first call is drawn before the scale."""
    drawn = time_line(
        [
            Stretch(name="retrying: HTTP 529", kind="warn", since=1000, until=1010, label="1"),
            Stretch(name="waiting: 20s", kind="idle", since=1010, until=1030),
            Stretch(name="succeeded: HTTP 200", kind="good", since=1030, until=1040, label="2"),
        ],
        title="Time line",
        lead="queued 3h 02m",
        end="stored",
    )
    root = parsed(drawn)
    assert root[1].text == (
        "queued 3h 02m; retrying: HTTP 529; waiting: 20s; succeeded: HTTP 200; stored"
    )
    lead, first, wait, last = [
        float(each.get("width") or "") for each in root.iter(f"{SVG}rect") if each.get("y") == "44"
    ]
    assert first == last == pytest.approx(wait / 2, abs=0.2)
    assert lead < 130
    assert {"good", "warn", "idle"} <= classes(root)
    assert "no call" in time_line([], title="Time line")
