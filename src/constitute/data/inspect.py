"""What a file of data holds and what would be used of it, before anything runs: `constitute data inspect`.

Rows are read one after the other; of each only numbers are kept, 8 bytes a length or hash.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any

from constitute.config.data import ReadConfig
from constitute.data.conversations import conversation_of
from constitute.data.pairs import PairsOfPrompts, comparison_of, preference_of
from constitute.data.prompts import READ, content_id, prompt_messages
from constitute.data.readers import FAMILIES
from constitute.data.readers.base import USES, Family, Unusable, Use
from constitute.data.readers.recognise import OWN, Piece, pieces, rows_for
from constitute.data.rows import Source, files_of, read_rows
from constitute.data.scripts import script_of
from constitute.data.thin import NearDuplicates
from constitute.files import BadLine, Row
from constitute.registry import registered
from constitute.stats import Estimate, share_of
from constitute.text import Reasons
from constitute.types import Message, Record


class Reason(Record):
    """Why so many rows, or pairs of them, are not used, and the first of them."""

    number: int
    reason: str
    first: str


class Used(Record):
    """How many rows a use makes of the data, and what it leaves out."""

    use: Use
    rows: int
    left_out: tuple[Reason, ...]


class Shape(Record):
    """A shape of rows, what it was recognised by, and the number of rows in it."""

    name: str
    about: str
    keys: tuple[str, ...]
    rows: int


class Lengths(Record):
    """Lengths of n texts: half are at most `median`, 95 % at most `p95`."""

    n: int
    median: int
    p95: int
    most: int


class Inspected(Record):
    """All that `inspect` says of one file, folder, glob or data set.

    `repeated` counts prompts, and pairs, that are equal to an earlier one; `near_prompts` prompts that are
    nearly the same as an earlier one or equal, None where that was not looked for. `longer_chosen` is the
    share of decided pairs in which the better answer is the longer one. `scripts` counts rows by the script
    most of their letters are of: a script is no language.
    """

    source: str
    files: int
    rows: int
    shapes: tuple[Shape, ...]
    bad: tuple[Reason, ...]
    uses: tuple[Used, ...]
    unit: str
    prompts: Lengths | None
    answers: Lengths | None
    repeated_prompts: int
    near_prompts: int | None
    repeated_pairs: int
    most_pairs_of_a_prompt: int
    ties: int
    longer_chosen: Estimate | None
    scripts: dict[str, int]


def _reasons(found: Reasons) -> tuple[Reason, ...]:
    return tuple(Reason(number=number, reason=reason, first=first) for number, reason, first in found.told())


class _Figures:
    """What is counted while rows go by."""

    def __init__(
        self, measure: Callable[[str], int], reading: ReadConfig, near: NearDuplicates | None
    ) -> None:
        self.measure, self.reading, self.near = measure, reading, near
        self.near_prompts = 0
        self.per_prompt: dict[Use, PairsOfPrompts] = {
            use: PairsOfPrompts(reading.per_prompt) for use in ("pairs", "preferences")
        }
        self.rows = 0
        self.shapes: Counter[str] = Counter()
        self.keys: dict[str, tuple[str, ...]] = {}
        self.bad = Reasons()
        self.used: Counter[Use] = Counter()
        self.left_out: dict[Use, Reasons] = {use: Reasons() for use in USES}
        self.lengths = {"prompts": array("Q"), "answers": array("Q")}
        self.hashes = {"prompts": array("Q"), "pairs": array("Q"), "asked": array("Q")}
        self.ties = self.longer = self.decided = 0
        self.scripts: Counter[str] = Counter()

    def add(self, piece: Piece) -> None:
        """Count a piece under every use."""
        self.rows += piece.rows
        texts: dict[str, None] = {}
        for use in USES:
            for row in rows_for(piece, use, self.reading):
                if isinstance(row, BadLine):
                    # A line that cannot be read is none for any use.
                    unread = piece.family == OWN
                    if not unread:
                        self.left_out[use].add(row.reason, row.where)
                    elif use == USES[0]:
                        self.bad.add(row.reason, row.where)
                    continue
                self._use(use, row, texts)
        if not (piece.family == OWN and all(isinstance(each, BadLine) for each in piece.content)):
            self.shapes[piece.family] += piece.rows
        if piece.family == OWN and OWN not in self.keys:
            first = next((each for each in piece.content if isinstance(each, Row)), None)
            if first is not None:
                self.keys[OWN] = tuple(first.value)
        for text in texts:
            self.lengths["answers"].append(self.measure(text))

    def _use(self, use: Use, row: Row, texts: dict[str, None]) -> None:
        try:
            _COUNT[use](self, row.value, texts)
        except Unusable as problem:
            self.left_out[use].add(str(problem), row.where)
        else:
            self.used[use] += 1

    def prompt(self, value: dict[str, Any], texts: dict[str, None]) -> None:
        messages = prompt_messages(value)
        self.hashes["prompts"].append(int(content_id(messages), 16))
        text = _joined(messages)
        self.lengths["prompts"].append(self.measure(text))
        self.scripts[script_of(text)] += 1
        if self.near is not None:
            self.near_prompts += self.near.like("", text) is not None

    def pair(self, value: dict[str, Any], texts: dict[str, None]) -> None:
        found = comparison_of(value)
        self.per_prompt["pairs"].take(found.prompt.messages)
        self.hashes["pairs"].append(int(found.id, 16))
        self.hashes["asked"].append(int(found.prompt.id, 16))
        self.ties += found.human == 0.5
        texts |= dict.fromkeys((found.a, found.b))

    def preference(self, value: dict[str, Any], texts: dict[str, None]) -> None:
        found = preference_of(value)
        self.per_prompt["preferences"].take(found.prompt)
        if found.chosen_prob != 0.5 and len(found.chosen) != len(found.rejected):
            self.decided += 1
            self.longer += (len(found.chosen) > len(found.rejected)) == (found.chosen_prob > 0.5)

    def conversation(self, value: dict[str, Any], texts: dict[str, None]) -> None:
        texts[conversation_of(value, "last")[0][-1].content] = None


_COUNT: dict[Use, Callable[[_Figures, dict[str, Any], dict[str, None]], None]] = {
    "prompts": _Figures.prompt,
    "pairs": _Figures.pair,
    "preferences": _Figures.preference,
    "conversations": _Figures.conversation,
}


def words(text: str) -> int:
    """The number of words of a text: what stands between blanks."""
    return len(text.split())


def inspect(
    source: Source,
    *,
    reading: ReadConfig = READ,
    limit: int | None = None,
    measure: Callable[[str], int] = words,
    unit: str = "words",
    near: float | None = None,
) -> Inspected:
    """Read `source`, or its first `limit` rows, and count what each use would make of it.

    `measure` gives the length of a text in `unit`; `near` is the Jaccard index of words in runs of five from
    which prompts are nearly the same. Raises `UsageError` or `DataError` for what is no data.
    """
    figures = _Figures(measure, reading, None if near is None else NearDuplicates(near))
    for piece in pieces(islice(read_rows(source), limit), reading):
        figures.add(piece)
    files = files_of(source)
    return Inspected(
        source=str(source),
        files=0 if files is None else len(files),
        rows=figures.rows,
        shapes=tuple(_shape(name, n, figures) for name, n in figures.shapes.most_common()),
        bad=_reasons(figures.bad),
        uses=tuple(
            Used(use=use, rows=figures.used[use], left_out=_reasons(figures.left_out[use])) for use in USES
        ),
        unit=unit,
        prompts=_lengths(figures.lengths["prompts"]),
        answers=_lengths(figures.lengths["answers"]),
        repeated_prompts=_repeated(figures.hashes["prompts"]),
        near_prompts=None if near is None else figures.near_prompts,
        repeated_pairs=_repeated(figures.hashes["pairs"]),
        most_pairs_of_a_prompt=_most(figures.hashes["asked"]),
        ties=figures.ties,
        longer_chosen=share_of(figures.longer, figures.decided) if figures.decided else None,
        scripts=dict(figures.scripts.most_common()),
    )


def _shape(name: str, rows: int, figures: _Figures) -> Shape:
    if name == OWN:
        keys = figures.keys.get(OWN, ())
        return Shape(name=OWN, about="rows in our own form, or in TRL's or HH's", keys=keys, rows=rows)
    family: Family = registered(FAMILIES, name, "read.shape")
    return Shape(name=name, about=family.about, keys=family.keys, rows=rows)


def _joined(messages: Iterable[Message]) -> str:
    return "\n".join(message.content for message in messages)


def _lengths(found: array[int]) -> Lengths | None:
    if not found:
        return None
    ordered: Sequence[int] = _sorted(found)
    n = len(ordered)
    median, p95 = (ordered[min(n - 1, int(share * n))] for share in (0.5, 0.95))
    return Lengths(n=n, median=median, p95=p95, most=ordered[-1])


def _arrow(found: array[int]) -> Any:
    """The numbers as an Arrow array, which counts and sorts them without an object for each."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.uint64(), len(found), [None, pa.py_buffer(found)])


def _sorted(found: array[int]) -> array[int]:
    import pyarrow.compute as pc

    numbers = _arrow(found)
    return array("Q", numbers.take(pc.sort_indices(numbers)).buffers()[1].to_pybytes()[: 8 * len(found)])


def _repeated(found: array[int]) -> int:
    import pyarrow.compute as pc

    return len(found) - int(pc.count_distinct(_arrow(found)).as_py()) if found else 0


def _most(found: array[int]) -> int:
    import pyarrow.compute as pc

    return int(pc.max(_arrow(found).value_counts().field("counts")).as_py()) if found else 0
