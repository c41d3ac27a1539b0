"""Stack Exchange questions (HuggingFaceH4/stack-exchange-preferences): answers scored by their votes."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from constitute.config.data import ReadConfig
from constitute.data.readers.base import (
    Answer,
    Family,
    Item,
    Value,
    alone,
    asked,
    number_of,
    objects_of,
    text_of,
)

_PARAGRAPHS = {"p", "div", "blockquote", "ul", "ol", "h1", "h2", "h3", "h4", "pre", "hr"}


def _read(row: Value, config: ReadConfig) -> Item:
    """`pm_score` is round(log2(1 + votes)), one more for the accepted answer, and -1 below 0 votes."""
    answers = tuple(
        Answer(plain(text_of(each, "text")), number_of(each, "pm_score"))
        for each in objects_of(row, "answers")
    )
    return Item(asked(plain(text_of(row, "question"))), answers)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.inside = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.parts += {"pre": ["\n\n```\n"], "li": ["\n- "], "br": ["\n"]}.get(
            tag, ["\n\n"] if tag in _PARAGRAPHS else ["`"] if tag == "code" and not self.inside else []
        )
        self.inside += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        self.inside -= tag == "pre"
        self.parts += {"pre": ["\n```\n\n"]}.get(
            tag, ["\n\n"] if tag in _PARAGRAPHS else ["`"] if tag == "code" and not self.inside else []
        )

    def handle_data(self, data: str) -> None:
        # White space in HTML is one blank, and code is as it is.
        self.parts.append(data.rstrip("\n") if self.inside else re.sub(r"\s+", " ", data))


def plain(text: str) -> str:
    """The text of a page: paragraphs apart, lists with dashes, code in backticks; links leave their words."""
    parser = _Text()
    parser.feed(text)
    parser.close()
    lines = "".join(parser.parts).strip().split("\n")
    fenced, out = False, []
    for line in lines:
        fenced ^= line == "```"
        out.append(line if fenced else line.strip())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out))


FAMILY = Family(
    "Stack Exchange: questions with answers scored by votes",
    ("question", "answers"),
    alone(_read),
    fits=lambda row: (
        isinstance(row["answers"], list)
        and any(isinstance(each, dict) and "pm_score" in each for each in row["answers"])
    ),
)
