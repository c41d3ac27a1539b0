"""Render an HTML page that runs nothing: every text escaped, no style but our own, let in by its hash."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from constitute import __version__
from constitute.text import harmless

_HERE = Path(__file__).parent


def render_page(
    template: str,
    styles: Sequence[str],
    filters: Mapping[str, Callable[..., Any]],
    rules: str = "",
    **values: Any,
) -> str:
    """The template filled with `values`, its style sheets inline; no control character reaches the page.

    Beside `filters`, the filter `clip` cuts a text that has no end. `rules` are added to the style sheets as
    they stand, so nothing but our own words may be in them.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    css = "".join((_HERE / name).read_text(encoding="utf-8") for name in styles) + rules
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: harmless(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update({"clip": clip, **filters})
    page = environment.get_template(template)
    # Our own style sheet must not be escaped, or its hash would not hold.
    return page.render(**values, css=Markup(css), style_hash=digest, version=__version__)


def clip(text: object, limit: int = 4000) -> str:
    """Harmless text of at most `limit` characters; what is cut is counted in its place."""
    shown = harmless(str(text))
    return shown if len(shown) <= limit else f"{shown[:limit]}… ({len(shown) - limit} more characters)"
