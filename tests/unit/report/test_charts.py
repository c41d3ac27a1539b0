"""Charts, read back from their SVG: where points lie, what colours them, and that nothing else is in them."""

import math
import re
import subprocess
import sys
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from constitute.report.charts import (
    Cell,
    Mark,
    Trace,
    bin_counts,
    curve,
    dots,
    heatmap,
    histogram,
    plot,
    smoothed,
    steps,
    thinned,
)
from constitute.report.policies import policies_of, traces_of
from constitute.stats import share_of

NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
MARKUP = "<script>alert(1)</script>\"'&"


def paths(svg):
    """(points, attributes) of each path that is a line."""
    found = [path for path in ElementTree.fromstring(svg).iter("path") if "L" in path.get("d", "")]
    return [
        (
            [tuple(map(float, pair)) for pair in re.findall(f"({NUMBER}),({NUMBER})", path.get("d"))],
            path.attrib,
        )
        for path in found
    ]


def texts(svg):
    return [text.text for text in ElementTree.fromstring(svg).iter("text")]


def test_a_curve_lies_where_its_values_say():
    svg = curve([(1, 0.0), (2, 5.0), (5, 10.0)], "step")
    ((points, drawn),) = paths(svg)
    # Steps 1 to 5 over 270 pixels, 0 to 10 over 110, from the top.
    assert points == [(0.0, 110.0), (67.5, 55.0), (270.0, 0.0)]
    assert drawn["stroke"] == "var(--accent)"
    assert texts(svg) == ["1", "2", "3", "4", "5", "step", "0", "2", "4", "6", "8", "10"]


def test_steps_have_whole_ticks_and_small_values_short_ones():
    found = texts(curve([(1, 5.1e-7), (2, 5.6e-7)], "iteration"))
    assert "1.5" not in found and {"1", "2"} <= set(found)
    assert all(len(text) <= 8 for text in found if text != "iteration")


def test_a_smooth_curve_is_its_running_mean_over_the_faint_points():
    (faint, raw), (mean, dark) = paths(curve([(i, i % 2) for i in range(100)], "step", smooth=True))
    assert (raw["opacity"], raw["stroke-width"], dark["stroke-width"]) == ("0.3", "1", "1.8")
    assert len(faint) == len(mean) == 100
    heights = [y for _, y in mean]
    assert max(heights) - min(heights) < 20 < max(y for _, y in faint) - min(y for _, y in faint)


def test_smoothed_by_hand():
    # Of few values the two on either side count; at the ends there are fewer.
    assert smoothed([0, 0, 5, 0, 0]) == pytest.approx([5 / 3, 5 / 4, 1, 5 / 4, 5 / 3])
    # Of 100 values the five on either side.
    assert smoothed([float(i) for i in range(100)])[50] == pytest.approx(50.0)
    assert smoothed([0.0] * 44 + [11.0] + [0.0] * 55)[49] == pytest.approx(1.0)
    assert smoothed([0.0] * 44 + [11.0] + [0.0] * 55)[50] == 0.0


def test_long_curves_keep_both_ends_and_few_points():
    for n in (2, 400, 401, 1000, 799):
        kept = thinned(range(n))
        assert len(kept) <= 401 and (kept[0], kept[-1]) == (0, n - 1)
        assert max(b - a for a, b in pairwise(kept)) == math.ceil(n / 400)


def test_bins_and_the_heights_of_their_bars():
    counts = bin_counts([0.0, 0.04, 0.05, 1.0])
    assert {at: count for at, count in enumerate(counts) if count} == {0: 2, 1: 1, 19: 1}
    root = ElementTree.fromstring(histogram(counts))
    bars = {
        path.find("title").text: path.get("d") for path in root.iter("path") if path.find("title") is not None
    }
    heights = {title: float(re.search(f"v({NUMBER})", d).group(1)) for title, d in bars.items()}
    # The fullest bar takes the whole height, one of half its count half.
    assert heights == {"0 to 0.05: 2": 120.0, "0.05 to 0.1: 1": 60.0, "0.95 to 1: 1": 60.0}


def test_a_plot_by_hand():
    marks = tuple(Mark(x=x, y=x, low=x - 1, high=x + 1, label=f"at {x}") for x in (0.0, 4.0))
    line = ((0.0, 0.0), (2.0, 2.0), (4.0, 50.0))
    root = ElementTree.fromstring(svg := plot([Trace(name="ppo", marks=marks, line=line)], "√KL"))
    whiskers = [rule for rule in root.iter("line") if rule.get("stroke") == "var(--accent)"]
    # -1 to 5 over 220 pixels: an interval of 2 is a third of it.
    assert [abs(float(rule.get("y2"))) for rule in whiskers] == pytest.approx([220 / 3, 220 / 3])
    dots = [path for path in root.iter("path") if path.find("title") is not None]
    places = [tuple(map(float, re.findall(NUMBER, dot.get("transform")))) for dot in dots]
    assert places == [pytest.approx((0.0, 220 * 5 / 6)), pytest.approx((360.0, 220 / 6))]
    # The last point of the line is far above every mark, so it is not drawn.
    ((fitted, _),) = paths(svg)
    assert fitted == [pytest.approx((0.0, 220 * 5 / 6), abs=1e-3), pytest.approx((180.0, 110.0))]
    with pytest.raises(ValueError, match="without a mark"):
        plot([], "√KL")


def test_each_trace_has_a_colour_and_a_line_in_the_legend():
    marks = (Mark(x=0.0, y=0.0, low=-1.0, high=1.0, label=""),)
    svg = plot([Trace(name=f"policy {i}", marks=marks) for i in range(5)], "x")
    assert [text for text in texts(svg) if "policy" in text] == [f"policy {i}" for i in range(5)]
    assert {"var(--accent)", "var(--second)", "var(--third)", "var(--fourth)"} <= set(
        re.findall(r'fill="([^"]+)"', svg)
    )


def test_a_heat_map_is_a_cell_a_vote():
    cells = [
        Cell(row="z", column=0, end=1, kind="a", depth=0.8, title="z, p1"),
        Cell(row="z", column=1, end=2, kind="none", depth=1.0, title="z, p2"),
        Cell(row="a", column=0, end=1, kind="b", depth=0.25, title="a, p1"),
    ]
    svg = heatmap(cells, width=100)
    found = {
        path.find("title").text: (path.get("fill"), float(path.get("opacity", "1")))
        for path in ElementTree.fromstring(svg).iter("path")
        if path.find("title") is not None
    }
    assert found == {
        "z, p1": ("var(--for-a)", 0.8),
        "z, p2": ("var(--missing)", 1.0),
        "a, p1": ("var(--for-b)", 0.25),
    }
    # Rows stand in the order given, not by name.
    assert texts(svg) == ["z", "a"]


def test_names_are_text_and_the_drawing_holds_no_more_than_shapes():
    marks = (Mark(x=1.0, y=0.0, low=-1.0, high=1.0, label=MARKUP + "\x1b[31m\x00"),)
    cell = Cell(row=MARKUP, column=0, end=1, kind="a", depth=1.0, title=MARKUP)
    for svg in (
        plot([Trace(name=MARKUP, marks=marks)], MARKUP),
        heatmap([cell]),
        curve([(0, 0), (1, 1)], MARKUP),
    ):
        root = ElementTree.fromstring(svg)
        assert {element.tag for element in root.iter()} <= {
            "svg",
            "g",
            "path",
            "line",
            "rect",
            "text",
            "title",
        }
        names = {name for element in root.iter() for name in element.attrib}
        assert not names & {"style", "id", "href", "xmlns", "font-family"} and "url(" not in svg
        assert MARKUP in "".join(root.itertext()) and "<script" not in svg


def test_the_same_chart_has_the_same_bytes_in_every_process():
    code = (
        "from constitute.report.charts import curve, histogram\n"
        "print(curve([(i, (i * 7) % 11) for i in range(90)], 'step', True) + histogram([3, 0, 5]))"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    here = curve([(i, (i * 7) % 11) for i in range(90)], "step", True) + histogram([3, 0, 5])
    assert first == second == here + "\n"


def test_dots_stand_in_their_order_with_their_whiskers():
    marks = [
        Mark(x=0, y=0.25, low=0.0, high=0.5, label=f"b{MARKUP}"),
        Mark(x=0, y=0.75, low=0.5, high=1.0, label="a"),
    ]
    svg = dots(marks, "share")
    root = ElementTree.fromstring(svg)
    titles = [title.text for title in root.iter("title")]
    assert titles == [f"b{MARKUP}: 0.250 (0.000 to 0.500)", "a: 0.750 (0.500 to 1.000)"]
    assert texts(svg)[-2:] == [f"b{MARKUP}", "a"]
    # 0 to 1 over 300 pixels; b stands above a.
    placed = [
        tuple(map(float, re.findall(NUMBER, path.get("transform"))))
        for path in root.iter("path")
        if path.find("title") is not None
    ]
    assert [x for x, _ in placed] == [75.0, 225.0] and placed[0][1] < placed[1][1]
    whiskers = sorted(
        float(line.get("x2")) for line in root.iter("line") if "var(--accent)" in line.get("stroke", "")
    )
    assert [abs(x) for x in whiskers] == [150.0, 150.0]
    with pytest.raises(ValueError, match="without a mark"):
        dots([], "share")


def test_the_policies_are_drawn_with_help_first_and_what_moved_furthest() -> None:
    counts = {
        "rude": (30, 29),
        "helpful": (95, 93),
        "harmful": (98, 4),
        "preachy": (20, 10),
        "evasive": (1, 1),
    }
    summary = {
        "policies": {
            name: {axis: share_of(both[at], 100).model_dump() for axis, both in counts.items()}
            for at, name in enumerate(("base", "ppo"))
        }
    }
    found = policies_of(summary)
    traces = traces_of(found)
    assert [trace.name for trace in traces] == ["helpful", "harmful", "preachy", "rude"]
    assert [(mark.x, mark.y) for mark in traces[1].marks] == [(0, 0.98), (1, 0.04)]
    drawn = steps(traces, found.names)
    assert "<title>harmful, ppo: 4.0 (1.6 to 9.8, n = 100)</title>" in drawn
    for word in ("base", "ppo", "helpful", "% of replies"):
        assert f">{word}</text>" in drawn
    # One policy is no course, and an axis that some policy lacks is left to the table.
    assert traces_of(policies_of({"policies": {"base": summary["policies"]["base"]}})) == ()
    del summary["policies"]["ppo"]["preachy"]
    assert [trace.name for trace in traces_of(policies_of(summary))] == [
        "helpful",
        "harmful",
        "rude",
        "evasive",
    ]
    with pytest.raises(ValueError, match="without a mark"):
        steps((), found.names)
