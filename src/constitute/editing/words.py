"""Compare two texts word by word: what was kept, what is gone and what is new."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

# Comparing costs as many steps as there are pairs of equal words, and again for each change; texts with more
# pairs, such as those that repeat a few words without end, are shown as replaced whole.
MOST_ALIKE = 100_000
_TOKENS = re.compile(r"\s+|[\w'’-]+|[^\w\s]")


class Stretch(NamedTuple):
    """A stretch of one kind. Kept and gone ones together are the old text, kept and new ones the new."""

    kind: Literal["kept", "gone", "new"]
    text: str


def word_diff(old: str, new: str) -> list[Stretch]:
    """The stretches that turn `old` into `new`; of neighbouring changes, the gone one stands first.

    Kept white space between two changes belongs to both, so that a phrase is read as one.
    """
    first, second = _TOKENS.findall(old), _TOKENS.findall(new)
    if old != new and _alike(first, second) > MOST_ALIKE:
        return _changed(old, new)
    runs: list[Stretch] = []
    gone = added = ""
    for same, before, after in _merged(_blocks(first, second)):
        if same:
            runs += _changed(gone, added)
            runs.append(Stretch("kept", before))
            gone = added = ""
        else:
            gone, added = gone + before, added + after
    return runs + _changed(gone, added)


def plain(runs: Sequence[Stretch]) -> str:
    """The stretches as `kept [-gone-]{+new+}`."""
    marks = {"kept": "{}", "gone": "[-{}-]", "new": "{{+{}+}}"}
    return "".join(marks[run.kind].format(run.text) for run in runs)


def ansi(runs: Sequence[Stretch]) -> str:
    """The stretches for a terminal: gone ones red and struck through, new ones green and underlined."""
    codes = {"gone": "9;31", "new": "4;32"}
    return "".join(
        run.text if run.kind == "kept" else f"\x1b[{codes[run.kind]}m{run.text}\x1b[0m" for run in runs
    )


def brief(runs: Sequence[Stretch], words: int = 8) -> list[Stretch]:
    """The stretches with at most `words` words of what was kept on each side of a change."""
    shown: list[Stretch] = []
    for at, run in enumerate(runs):
        before, after = (words if at > 0 else 0), (words if at < len(runs) - 1 else 0)
        if run.kind == "kept" and len(run.text.split()) > before + after:
            head = "".join(re.findall(r"\s*\S+", run.text)[:before])
            tail = "".join(re.findall(r"\S+\s*", run.text)[-after:]) if after else ""
            run = Stretch(
                "kept", f"{head} … {tail}" if head and tail else f"{head} …" if head else f"… {tail}"
            )
        shown.append(run)
    return shown


def _alike(old: list[str], new: list[str]) -> int:
    """Pairs of equal words of the two texts."""
    counts = Counter(new)
    return sum(counts[word] for word in old if not word.isspace())


def _blocks(old: list[str], new: list[str]) -> Iterator[tuple[bool, str, str]]:
    # White space matches beside words that match, and never by itself: it is most of what texts share.
    for name, i, j, k, m in SequenceMatcher(str.isspace, old, new, autojunk=False).get_opcodes():
        yield name == "equal", "".join(old[i:j]), "".join(new[k:m])


def _merged(blocks: Iterator[tuple[bool, str, str]]) -> list[tuple[bool, str, str]]:
    """The blocks with white space between two changes made part of the change."""
    every = list(blocks)
    last = len(every) - 1
    return [
        (same and not (0 < at < last and before.isspace()), before, after)
        for at, (same, before, after) in enumerate(every)
    ]


def _changed(gone: str, added: str) -> list[Stretch]:
    runs = [Stretch("gone", gone), Stretch("new", added)]
    return [run for run in runs if run.text]
