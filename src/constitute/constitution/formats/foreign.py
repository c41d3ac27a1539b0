"""Files that are no text, or text of another kind, whatever their names say."""

from __future__ import annotations

import re

_HTML = re.compile(
    rb"\s*(?:<!--.{0,2000}?-->\s*)?<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL
)
SAVE = "save it as plain text or Markdown (.md)"


def foreign(data: bytes) -> str:
    """What a file of these bytes is, that no format reads, in a clause; empty where it may be ours."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.startswith(b"PK\x03\x04"):
        return _office(data)
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        return "this is a Word or other Office file of the old kind"
    if data.lstrip().startswith(b"{\\rtf"):
        return "this is rich text (RTF)"
    if data.startswith(b"%PDF"):
        return "this is a PDF"
    if _HTML.match(data[:4000]):
        return "this is a web page (HTML)"
    return ""


def _office(data: bytes) -> str:
    if b"word/" in data:
        return "this is a Word file"
    if b"application/vnd.oasis.opendocument.text" in data[:200]:
        return "this is an OpenDocument text"
    return "this is a zip file"
