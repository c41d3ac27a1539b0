"""Find rows that hold text of eval sets: runs of 13 words in common, or the same short text.

The length of a run is that of arXiv 2005.14165, appendix C. Deviates from it in what is no evidence: there a
run that stands more than ten times in the training data, here a wording of eight words that more than
`common` texts of the eval sets share, such as the frame "Is the following statement something you would
say?". It is taken out of the texts of both sides, and what is left between such wordings is compared.

The eval sets are held in memory, about 150 bytes a word; the rows go by one at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from constitute.config.data import OverlapConfig, ReadConfig
from constitute.data.rows import Source, read_rows
from constitute.data.thin import run_hash
from constitute.files import BadLine, Row
from constitute.hh import holds_turns, parse_hh
from constitute.stages.filters.base import grams, words
from constitute.stats import Estimate, share_of
from constitute.strict_yaml import shorten
from constitute.types import Record

# Words of a wording that is looked for in many texts: the shortest run of arXiv 2005.14165, appendix C.
_WORDING = 8
# A whole text of fewer words, such as "What is your name?", is asked by anybody.
_FEWEST = 5
# Keys whose text is a whole question or statement, and counts as one where it is short. Short answers do not.
_WHOLE = frozenset(
    ("prompt", "question", "statement", "sentence", "sentence_with_blank", "instruction", "input", "goal")
)
# Keys that say something about a row and are never shown to a model.
_NAMES = ("id", "row_id", "example_id", "index", "sentid", "source", "url", "model", "type")
_ABOUT = frozenset((*_NAMES, "category", "subset", "split", "language", "licence", "license"))
_SAID_BY = ("role", "from")
_USER = frozenset({"user", "human", "prompter"})


class Text(NamedTuple):
    """The words of one text of a row; `whole` where it counts as one also where it is short."""

    words: list[str]
    whole: bool


class Touch(Record):
    """What a row shares with an eval set: the item's file and line, and the words."""

    item: str
    words: str


class Overlap(Record):
    """A row that shares text with an eval set."""

    where: str
    id: str | None
    item: str
    words: str


class Overlaps(Record):
    """What was found of one file of rows: `share` of the rows that could be read touch an eval set."""

    source: str
    share: Estimate
    bad: int
    items: int
    items_touched: int
    found: tuple[Overlap, ...]


def texts_of(value: Any, key: str = "") -> Iterator[Text]:
    """The texts of a row of any form: every string but those under keys that only say something about it.

    Transcripts fall into their turns; system turns are left out.
    """
    if isinstance(value, str):
        if key in _ABOUT:
            return
        if not holds_turns(value):
            yield Text(words(value), key in _WHOLE)
            return
        for message in parse_hh(value):
            if message.role != "system":
                yield Text(words(message.content), message.role == "user")
    elif isinstance(value, dict):
        speaker = next((value[name] for name in _SAID_BY if isinstance(value.get(name), str)), None)
        if speaker == "system":
            return
        for name, part in value.items():
            if name not in _SAID_BY:
                inner = "answer" if speaker else name
                yield from texts_of(part, "prompt" if speaker in _USER else inner)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts_of(part, key)


class EvalIndex:
    """The runs of words of eval items, each with the first item that holds it."""

    def __init__(self, items: Callable[[], Iterable[tuple[str, Any]]], cfg: OverlapConfig) -> None:
        """`items` gives (file and line, row) from the beginning each time it is called: twice."""
        self._cfg = cfg
        self._wordings = _shared_wordings((value for _, value in items()), cfg.common)
        self._first: dict[int, int] = {}
        self.places: list[str] = []
        for place, value in items():
            for text in texts_of(value):
                for run in self._runs(text):
                    self._first.setdefault(run_hash(run), len(self.places))
            self.places.append(place)

    def find(self, value: Any) -> Touch | None:
        """The first item that a row shares text with; None where there is none."""
        for text in texts_of(value):
            for run in self._runs(text):
                at = self._first.get(run_hash(run))
                if at is not None:
                    return Touch(item=self.places[at], words=" ".join(run))
        return None

    def _runs(self, text: Text) -> Iterator[tuple[str, ...]]:
        """What of a text is compared: runs of `words` words, and a shorter part as a whole."""
        for part in self._parts(text.words):
            if len(part) >= self._cfg.words:
                yield from grams(part, self._cfg.words)
            elif text.whole and len(part) >= _FEWEST:
                yield tuple(part)

    def _parts(self, said: list[str]) -> Iterator[list[str]]:
        """The text without the wordings that many items share."""
        if not self._wordings:
            yield said
            return
        taken = bytearray(len(said))
        for at, run in enumerate(grams(said, _WORDING)):
            if run_hash(run) in self._wordings:
                taken[at : at + len(run)] = b"\1" * len(run)
        start = 0
        for at in range(len(said) + 1):
            if at == len(said) or taken[at]:
                if at > start:
                    yield said[start:at]
                start = at + 1


def _shared_wordings(rows: Iterable[Any], common: int) -> frozenset[int]:
    """Runs of eight words that more than `common` different texts hold; a repeated text counts once."""
    counts: Counter[int] = Counter()
    seen: set[int] = set()
    for value in rows:
        for text in texts_of(value):
            if len(text.words) < _WORDING or (whole := run_hash(tuple(text.words))) in seen:
                continue
            seen.add(whole)
            counts.update({run_hash(run) for run in grams(text.words, _WORDING)})
    return frozenset(run for run, number in counts.items() if number > common)


def index_of(cfg: OverlapConfig) -> EvalIndex:
    """The index of the files, folders, globs or data sets in `cfg.against`. Unreadable lines are left out."""
    return EvalIndex(lambda: _items(cfg.against), cfg)


def _items(sources: Sequence[Source]) -> Iterator[tuple[str, Any]]:
    for source in sources:
        yield from ((row.where, row.value) for row in read_rows(source) if isinstance(row, Row))


_kept_index = lru_cache(maxsize=1)(index_of)


def touching(cfg: OverlapConfig) -> Callable[[Any], Touch | None]:
    """What tells whether a row touches an eval set of `cfg.against`; nothing does where none is named."""
    return _kept_index(cfg).find if cfg.against else lambda value: None


def refusal(reading: ReadConfig) -> Callable[[Row], str]:
    """Why a row is not to be used, as `read.overlap` has it; empty for a row that is."""
    find = touching(reading.overlap)

    def why(row: Row) -> str:
        touch = find(row.value)
        return "" if touch is None else f"overlaps {touch.item} (read.overlap)"

    return why


def overlaps(source: Source, cfg: OverlapConfig, limit: int | None = None) -> Overlaps:
    """The rows of `source`, or of its first `limit`, that share text with the eval sets `cfg.against`."""
    index = index_of(cfg)
    found: list[Overlap] = []
    rows = bad = 0
    for number, row in enumerate(read_rows(source)):
        if number == limit:
            break
        if isinstance(row, BadLine):
            bad += 1
            continue
        rows += 1
        if (touch := index.find(row.value)) is not None:
            given = row.value.get("id")
            name = None if given is None else shorten(str(given))
            found.append(Overlap(where=row.where, id=name, item=touch.item, words=touch.words))
    return Overlaps(
        source=str(source),
        share=share_of(len(found), rows),
        bad=bad,
        items=len(index.places),
        items_touched=len({each.item for each in found}),
        found=tuple(found),
    )
