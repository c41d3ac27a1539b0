"""Hugging Face's llm-swarm: `{"constitutions": [{"critic", "revision"}]}`."""

from __future__ import annotations

from typing import Any

from constitute.constitution.formats.base import Draft, Format, Found, Source, clean, pretty
from constitute.errors import DataError
from constitute.strict_yaml import shorten
from constitute.types import Constitution


def _detect(source: Source) -> bool:
    return isinstance(source.json, dict) and isinstance(source.json.get("constitutions"), list)


def _read(source: Source) -> Found:
    notes = []
    if source.json.get("system_chat"):
        notes.append(f"{source.path}: the few-shot examples under system_chat are not part of a constitution")
    rows = enumerate(source.json["constitutions"])
    return Found([_draft(row, source, f"constitutions[{i}]") for i, row in rows], notes=notes)


def _draft(row: Any, source: Source, where: str) -> Draft:
    if not isinstance(row, dict):
        what = f"{where} is {shorten(repr(row))}; it must hold 'critic' and 'revision'"
        raise DataError(f"{source.path}: {what}")
    critique = clean(row.get("critic"), source, f"{where}.critic")
    revise = clean(row.get("revision"), source, f"{where}.revision")
    return Draft(text=revise, critique=critique, revise=revise)


def _write(constitution: Constitution) -> str:
    pairs = [{"critic": p.critique, "revision": p.revise} for p in constitution.principles]
    return pretty({"constitutions": pairs, "system_chat": []})


LLM_SWARM = Format(
    about="llm-swarm JSON",
    detect=_detect,
    read=_read,
    write=_write,
    holds=frozenset({"critique", "revise"}),
)
