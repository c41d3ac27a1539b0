"""Inverse Constitutional AI (arXiv 2406.06560): lists of principles, its constitution, annotated pairs."""

from __future__ import annotations

import json
import re
from typing import Any

from constitute.constitution.formats.base import Draft, Format, Found, Source, clean, instruction
from constitute.constitution.formats.lists import read_text
from constitute.hh import is_hh
from constitute.types import Constitution

_NUMBERED = re.compile(r"\d+\. +(\S.*)")


def _detect(source: Source) -> bool:
    value = source.json
    if isinstance(value, list):
        return bool(value) and all(isinstance(v, str) and not is_hh(v) for v in value)
    if isinstance(value, dict):
        return isinstance(value.get("annotators"), dict) or _is_numbered(value)
    return isinstance(value, str)


def _is_numbered(value: dict[str, Any]) -> bool:
    return bool(value) and all(key.isdigit() and isinstance(v, str) for key, v in value.items())


def _read(source: Source) -> Found:
    value = source.json
    if isinstance(value, str):
        return _from_text(value, source)
    if isinstance(value, list):
        return Found([_draft(text, source, f"[{i}]") for i, text in enumerate(value)])
    if isinstance(value.get("annotators"), dict):
        annotators = [a for a in value["annotators"].values() if isinstance(a, dict)]
        kept = [a.get("description") for a in annotators if a.get("type") == "principle"]
        return Found([_draft(text, source, "annotators") for text in kept])
    return Found([_draft(text, source, key) for key, text in value.items()])


def _from_text(text: str, source: Source) -> Found:
    lines = [_NUMBERED.fullmatch(line) for line in text.strip().split("\n")]
    if not all(lines):
        return read_text(text, source)
    return Found([_draft(line[1], source, f"principle {n}") for n, line in enumerate(lines, 1) if line])


def _draft(text: Any, source: Source, where: str) -> Draft:
    return instruction(clean(text, source, where))


def _write(constitution: Constitution) -> str:
    rows = [f"{i}. {' '.join(p.text.split())}" for i, p in enumerate(constitution.principles, 1)]
    return json.dumps("\n".join(rows), ensure_ascii=False) + "\n"


ICAI = Format(about="ICAI JSON", detect=_detect, read=_read, write=_write)
