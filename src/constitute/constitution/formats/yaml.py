"""Our own YAML."""

from __future__ import annotations

from dataclasses import fields

from constitute.constitution.formats.base import Draft, Format, Found, Source
from constitute.constitution.read import parse_constitution
from constitute.constitution.write import to_yaml
from constitute.strict_yaml import read_bytes


def _read(source: Source) -> Found:
    constitution = parse_constitution(read_bytes(source.path), source.path)
    names = [each.name for each in fields(Draft)]
    drafts = [Draft(**{name: getattr(p, name) for name in names}) for p in constitution.principles]
    return Found(drafts, constitution.name, constitution.description, priorities=constitution.priorities)


YAML = Format(
    about="constitution YAML",
    detect=lambda source: source.path.suffix in (".yaml", ".yml"),
    read=_read,
    write=to_yaml,
    holds=frozenset({"critique", "revise", "compare", "weight", "tags"}),
)
