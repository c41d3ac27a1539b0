"""Rules that read a constitution file as a whole: lengths, tags, weights, and what the loader refuses."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from difflib import SequenceMatcher
from statistics import median

from constitute.editing.lint.document import LABELS, TEXTS, Found, Place, Sheet, quoted

# Words. A principle this long is a page of them in one vote; the longest of the published lists that
# constitutions are made from stay under 100.
LONGEST = 150
# Beside the file's own median, once there are enough to have one; short texts vary by chance.
TIMES, LEAST_WORDS, LEAST_ENTRIES = 4.0, 40, 5
TAG_SPELLING = 0.85


def schema(sheet: Sheet) -> Iterator[Found]:
    """The loader refuses the file here: a key, a type, a value or an id it does not know."""
    if sheet.readable:
        yield from _problems(sheet)


def syntax(sheet: Sheet) -> Iterator[Found]:
    """The file cannot be read as YAML beyond this place."""
    if not sheet.readable:
        yield from _problems(sheet)


def _problems(sheet: Sheet) -> Iterator[Found]:
    for problem in sheet.problems:
        what, _, fix = problem.text.rpartition("; ")
        place = (problem.line, problem.column)
        starts = [
            at for at, entry in enumerate(sheet.entries) if entry.place("") <= place and place[0] < entry.end
        ]
        yield Found(starts[-1] if starts else None, place, what, fix)


def length(sheet: Sheet) -> Iterator[Found]:
    """A text is far longer than the file's others, or than a model can be asked to weigh at once."""
    fix = "shorten it, or split it into principles"
    for key in TEXTS:
        counts = {at: len(e.texts[key].split()) for at, e in enumerate(sheet.entries) if key in e.texts}
        middle = median(counts.values()) if counts else 0
        for at, count in counts.items():
            figure = {"words": count, "median": middle}
            place = sheet.entries[at].place(key)
            if count > LONGEST:
                said = f"the {key} has {count} words, more than {LONGEST}"
                yield Found(at, place, said, fix, figure)
            elif len(counts) >= LEAST_ENTRIES and count > max(LEAST_WORDS, TIMES * middle):
                said = f"the {key} has {count} words, the file's median is {middle:g}"
                yield Found(at, place, said, fix, figure)


def never_drawn(sheet: Sheet) -> Iterator[Found]:
    """A principle of weight 0 is never drawn and has no vote."""
    for at, entry in enumerate(sheet.entries):
        if entry.weight == 0.0:
            said = "the weight is 0: the principle is never drawn and never votes"
            yield Found(at, entry.place("weight"), said, "give it a weight above 0, or remove it")


def empty_tags(sheet: Sheet) -> Iterator[Found]:
    """A tag selects only principles of weight 0, so that choosing by it is refused."""
    for tag, uses in _uses(sheet, "tags").items():
        if all(sheet.entries[at].weight == 0.0 for at, _ in uses):
            at, place = uses[0]
            said = f"the tag {quoted(tag)} selects nothing that can be drawn: all with it have weight 0"
            yield Found(at, place, said, "give one of them a weight above 0, or remove the tag")


def single_tags(sheet: Sheet) -> Iterator[Found]:
    """A tag stands at one principle alone, in a file whose tags otherwise stand at several."""
    uses = _uses(sheet, "tags")
    several = [tag for tag, places in uses.items() if len(places) > 1]
    if 2 * len(several) < len(uses):
        return
    for tag, places in uses.items():
        if len(places) == 1:
            at, place = places[0]
            said = f"the tag {quoted(tag)} selects this principle alone"
            yield Found(at, place, said, "leave it if that is meant, or use a tag that others have")


def similar_tags(sheet: Sheet) -> Iterator[Found]:
    """Two tags, or values of applies_to, differ in spelling alone, so that one selects too little."""
    first: dict[str, tuple[int, Place]] = {}
    counts: Counter[str] = Counter()
    for key in LABELS:
        for label, uses in _uses(sheet, key).items():
            first.setdefault(label, uses[0])
            counts[label] += len(uses)
    names = sorted(counts, key=lambda label: (-counts[label], first[label][1]))
    for rank, label in enumerate(names):
        other = next((other for other in names[:rank] if _same_but_spelling(label, other)), None)
        if other is not None:
            at, place = first[label]
            said = f"{quoted(label)} is {quoted(other)} (used {_times(counts[other])}) but for its spelling"
            yield Found(at, place, said, f"write {quoted(other)}, or names that differ more")


def _uses(sheet: Sheet, key: str) -> dict[str, list[tuple[int, Place]]]:
    uses: dict[str, list[tuple[int, Place]]] = defaultdict(list)
    for at, entry in enumerate(sheet.entries):
        for label, place in entry.labels.get(key, ()):
            uses[label].append((at, place))
    return uses


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _same_but_spelling(a: str, b: str) -> bool:
    """Equal but for case, separators, a plural s, or about one letter in seven; digits must be equal."""
    a, b = (label.casefold().replace("_", "-").replace(" ", "-") for label in (a, b))
    if a == b:
        return True
    if [c for c in a if c.isdigit()] != [c for c in b if c.isdigit()] or min(len(a), len(b)) < 4:
        return False
    if a in (b + "s", b + "es") or b in (a + "s", a + "es"):
        return True
    # A prefix or suffix makes another word: legal and illegal, harm and harmful.
    if a.endswith(b) or b.endswith(a) or len(a) < 6 or abs(len(a) - len(b)) > 1:
        return False
    return SequenceMatcher(None, a, b, autojunk=False).ratio() >= TAG_SPELLING
