"""Files that are no text, or text of another kind, whatever their names say."""

from __future__ import annotations

import re

from constitute.constitution.formats.base import Source

_HTML = re.compile(
    rb"\s*(?:<!--.{0,2000}?-->\s*)?<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
_SAVE = "save it as plain text or Markdown (.md) and import that"


def foreign(source: Source) -> str:
    """What a file is that no format reads, and what to do; empty where it may be one of ours."""
    data = source.data.removeprefix(b"\xef\xbb\xbf")
    if data.startswith(b"PK\x03\x04"):
        return f"{_office(data)}; {_SAVE}"
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        return f"this is a Word or other Office file of the old kind; {_SAVE}"
    if data.lstrip().startswith(b"{\\rtf"):
        return f"this is rich text (RTF); {_SAVE}"
    if data.startswith(b"%PDF"):
        return f"this is a PDF; {_SAVE}"
    if _HTML.match(data[:4000]):
        return f"this is a web page (HTML); {_SAVE}"
    return ""


def _office(data: bytes) -> str:
    if b"word/" in data:
        return "this is a Word file"
    if b"application/vnd.oasis.opendocument.text" in data[:200]:
        return "this is an OpenDocument text"
    return "this is a zip file"
