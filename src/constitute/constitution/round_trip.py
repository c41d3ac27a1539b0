"""A constitution file as ruamel.yaml's round trip holds it, with the comments beside and below each value."""

from __future__ import annotations

import re
from collections import Counter
from io import StringIO
from typing import Any, NamedTuple

from constitute.constitution.read import read_constitution
from constitute.errors import DataError
from constitute.types import Constitution

BOM = "\ufeff"
BY_HAND = "this file is laid out in a way that cannot be edited safely; edit it by hand"


class File:
    """A file as ruamel's round trip reads it; `root` may be changed."""

    def __init__(self, data: bytes) -> None:
        text = data.decode()
        self._mark = BOM if text.startswith(BOM) else ""
        lines = Counter(re.findall(r"\r\n|\r|\n", text))
        self._end = lines.most_common(1)[0][0] if lines else "\n"
        self._text = text.removeprefix(BOM).replace("\r\n", "\n").replace("\r", "\n")
        self.root = _yaml().load(self._text)

    def bytes(self, wanted: Constitution) -> bytes:
        """The changed file; `DataError` where it is not `wanted`, or lacks a comment."""
        listed, yaml, out = self.root["principles"], _yaml(), StringIO()
        if not listed.fa.flow_style():
            # Where the dash of a principle stands, and where its keys do.
            dash, keys = listed.lc.col, listed.lc.data[0][1]
            yaml.indent(mapping=2, sequence=max(keys, dash + 2), offset=dash)
        yaml.explicit_start = bool(re.search(r"^---", self._text, re.MULTILINE))
        yaml.dump(self.root, out)
        text = out.getvalue()
        if not self._text.endswith("\n"):
            text = text.rstrip("\n")
        kept = all(text.count(c) >= n for c, n in Counter(_hashes(self._text)).items())
        data = (self._mark + text.replace("\n", self._end)).encode()
        if not kept or read_constitution(data)[0] != wanted:
            raise DataError(BY_HAND)
        return data


def _yaml() -> Any:
    from ruamel.yaml import YAML

    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = 2**30
    return yaml


def _hashes(text: str) -> list[str]:
    """From each line of a file, what may be a comment: the first # after white space, and what follows."""
    return [found[1].rstrip() for found in re.finditer(r"(?:^|(?<=\s))(#.*)", text, re.MULTILINE)]


def loaded(text: str) -> Any:
    """The value of the only key of a YAML mapping, as the round trip holds it."""
    return next(iter(_yaml().load(text + "\n").values()))


class Place(NamedTuple):
    """A value in a mapping or a list of the round trip, which hold the comments after each value."""

    container: Any
    key: Any

    @classmethod
    def last(cls, container: Any) -> Place:
        """The last value of a list or mapping, as deep as it goes: there stand the comments below it."""
        key = len(container) - 1 if isinstance(container, list) else next(reversed(container))
        value: Any = container[key]
        deeper = bool(value) and not isinstance(value, str | float | int) and not value.fa.flow_style()
        return cls.last(value) if deeper else cls(container, key)

    def tail(self) -> tuple[str, str]:
        """The comment on the value's own line, and the lines below it up to the next key."""
        slots = self.container.ca.items.get(self.key)
        token = slots[self._slot] if slots else None
        text: str = token.value if token else ""
        if self._is_block:
            # The first line below a block is held without its indentation.
            indent = token.start_mark.column if token and text.startswith("#") else 0
            return (getattr(self.value, "comment", None) or "").strip(), " " * indent + text
        beside, _, below = text.partition("\n")
        return beside, below

    def set_tail(self, beside: str, below: str) -> None:
        """Put comments after the value in place of those that are there."""
        from ruamel.yaml.error import CommentMark
        from ruamel.yaml.tokens import CommentToken

        header = None
        if self._is_block:
            # The first line of a block has its comment beside | or >, and ends with the block's own line end.
            header = f" {beside}" if beside else None
            self.value.comment = header
            text = below
        else:
            text = f"{beside}\n{below}" if beside or below else ""
        self.container.ca.items.pop(self.key, None)
        if text or header:
            slots: list[Any] = [None, None, None, [header] if header else None]
            slots[self._slot] = CommentToken(text, CommentMark(0), None) if text else None
            self.container.ca.items[self.key] = slots

    @property
    def _slot(self) -> int:
        return 0 if isinstance(self.container, list) else 2

    @property
    def value(self) -> Any:
        return self.container[self.key]

    @property
    def _is_block(self) -> bool:
        from ruamel.yaml.scalarstring import FoldedScalarString, LiteralScalarString

        return isinstance(self.value, (FoldedScalarString, LiteralScalarString))
