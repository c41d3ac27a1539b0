"""The heat map: a cell a vote, missing ones marked, everything escaped."""

from __future__ import annotations

from unit.editing.attribute.test_attribution import MATRIX, rows

from constitute.editing.attribute.figures import attribute
from constitute.report.heatmap import as_csv, blank, cells, render_heatmap, sentences


def test_every_vote_is_a_cell_and_a_missing_one_is_hatched() -> None:
    figures = attribute(rows({"p1": {"x": 0.9}, "p2": {"x": 0.3, "y": 0.5}}))
    found = {cell.title: (cell.kind, cell.depth) for cell in cells(figures)}
    assert found == {
        "x, p1: P(A) = 0.900, decides": ("a", 0.8),
        "x, p2: P(A) = 0.300, decides": ("b", 0.4),
        "y, p1: no vote": ("none", 1.0),
        "y, p2: P(A) = 0.500": ("a", 0.0),
    }
    assert as_csv(figures).splitlines()[:2] == ["pair,p_a,decided_by,x,y", "p1,0.9,x,0.9,"]
    assert any("1 of 4 votes are missing" in said for said in sentences(figures))


def test_missing_votes_side_by_side_are_one_cell() -> None:
    # By falling P(A): p1, p2, p3, p4; y voted on the first alone.
    votes = {"p1": {"x": 0.9, "y": 0.9}, "p2": {"x": 0.8}, "p3": {"x": 0.7}, "p4": {"x": 0.6}}
    found = {cell.title: (cell.column, cell.end) for cell in cells(attribute(rows(votes))) if cell.row == "y"}
    assert found == {"y, p1: P(A) = 0.900, decides": (0, 1), "y, p2 to p4, 3 pairs: no vote": (1, 4)}


def test_the_page_escapes_what_it_shows_and_loads_nothing() -> None:
    page = render_heatmap(attribute(rows(MATRIX)), "<script>alert(1)</script>")
    assert "<script" not in page and "&lt;script&gt;" in page and "default-src 'none'" in page
    # The page's own and one a cell.
    assert page.count("<title>") == 1 + 12 and "src=" not in page and " style=" not in page


def test_a_cell_that_a_spreadsheet_would_run_is_quoted() -> None:
    for start in "=+-@\t\r":
        figures = attribute(rows({f"{start}1+1": {"x": 0.9}}))
        assert as_csv(figures).split("\n", 1)[1].strip('"').startswith(f"'{start}1+1")
    assert as_csv(attribute(rows({"p=1": {"x": 0.9}}))).splitlines()[1] == "p=1,0.9,x,0.9"
    named = attribute(rows({"p": {"-x": 0.9}}))
    assert as_csv(named).splitlines() == ["pair,p_a,decided_by,'-x", "p,0.9,'-x,0.9"]


def test_a_map_of_nothing_says_so() -> None:
    pale = attribute(rows({"p1": {"x": 0.52}, "p2": {"x": 0.48}}))
    assert "no vote is confident" in blank(pale) and "Nothing to see" in render_heatmap(pale, "run")
    shown = attribute(rows(MATRIX))
    assert blank(shown) == "" and "Nothing to see" not in render_heatmap(shown, "run")


def test_sentences_say_what_is_decided() -> None:
    said = sentences(attribute(rows(MATRIX)))
    assert "no principle decides 2 of 4 pairs" in said
    assert any(each.startswith("2 of 3 principles (x, z) keep 2 of 2 decisions") for each in said)
    nothing = sentences(attribute(rows({f"p{n}": {"x": 0.55, "y": 0.52} for n in range(3)})))
    assert "no principle decides 3 of 3 pairs" in nothing
    assert not any("decisions" in each for each in nothing)
