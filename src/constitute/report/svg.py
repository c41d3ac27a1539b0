"""A chart as SVG that a page shows: Altair describes it, vl-convert draws it, the page colours it.

Colours are the page's own variables, so that a chart is right in the dark too. vl-convert is imported where
something is drawn.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from constitute.text import harmless

if TYPE_CHECKING:
    from altair import ChartType
    from markupsafe import Markup

INK, _SOFT, _LINE = "var(--ink)", "var(--soft)", "var(--line)"
# What may stand in a chart: everything else that the drawing holds is for scripts, or would be blocked.
_TAGS = frozenset({"svg", "g", "path", "line", "text"})
_PLACES = ("viewBox", "width", "x", "y", "x2", "y2", "d", "transform")
_LOOKS = ("fill", "stroke", "stroke-width", "opacity", "text-anchor", "font-size", "font-weight")
_ATTRIBUTES = frozenset({*_PLACES, *_LOOKS})
_AXIS: dict[str, Any] = {
    **{"domain": False, "ticks": False, "gridColor": _LINE, "labelColor": _SOFT, "titleColor": _SOFT},
    **{"labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "labelPadding": 6},
}
# Room for a page's font that is wider than the one the drawing was measured with.
ROOM = {"left": 10, "right": 8, "top": 5, "bottom": 4}
_CONFIG: dict[str, Any] = {
    "padding": ROOM,
    **{"background": None, "view": {"stroke": None}, "aria": False, "axis": _AXIS},
    "legend": {"labelColor": INK, "labelFontSize": 12, "labelLimit": 420, "title": None},
}


def svg_of(chart: ChartType, rows: Sequence[Mapping[str, Any]]) -> Markup:
    """The chart of `rows` as SVG to stand in a page. Texts among the rows are shown, never markup."""
    import vl_convert
    from markupsafe import Markup

    clean = [{k: harmless(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    spec = {**chart.to_dict(), "config": _CONFIG, "datasets": {"rows": clean}}
    return Markup(_tidy(vl_convert.vegalite_to_svg(json.dumps(spec))))


def _tidy(svg: str) -> str:
    """The drawing with what a page shows alone; the description of a mark becomes its `<title>`."""
    root = ElementTree.fromstring(svg)
    _tidy_element(root)
    root.set("class", "chart")
    root.set("role", "img")
    return ElementTree.tostring(root, encoding="unicode")


def _tidy_element(element: ElementTree.Element) -> None:
    element.tag = element.tag.partition("}")[2] or element.tag
    said = element.get("aria-label")
    for name in [name for name in element.attrib if name not in _ATTRIBUTES]:
        del element.attrib[name]
    for child in list(element):
        _tidy_element(child)
        empty = child.tag in ("g", "path") and not len(child) and not child.get("d", "").strip("M0,hvZ")
        if child.tag not in _TAGS or empty:
            element.remove(child)
    if said:
        element.insert(0, _title(said))


def _title(text: str) -> ElementTree.Element:
    title = ElementTree.Element("title")
    title.text = text
    return title
