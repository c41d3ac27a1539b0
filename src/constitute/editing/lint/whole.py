"""Rules that read a constitution file as a whole: alike principles, lengths, tags, weights, errors."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping
from difflib import SequenceMatcher
from functools import lru_cache
from statistics import median
from typing import NamedTuple

from constitute.constitution.read import FORMS
from constitute.editing.lint.document import TEXTS, Document, Place, Remark, quoted
from constitute.editing.lint.words import COMMON, NEGATIONS

# Share of the weight of all words of two texts that both have. Of the packaged constitutions, whose
# principles are near relatives on purpose, the nearest two that differ in what they ask reach 0.53;
# rewordings that ask the same (another article, tense, plural) reach 0.8 and more.
NEAR = 0.75
# Words. A principle this long is a page of them in one vote; the longest of the published lists that
# constitutions are made from stay under 100.
LONGEST = 150
# Of each text of an example; the answers of Anthropic's HH pairs have 60 words on average.
LONGEST_EXAMPLE = 300
# Beside the file's own median, once there are enough to have one; short texts vary by chance.
TIMES, LEAST_WORDS, LEAST_ENTRIES = 4.0, 40, 5
TAG_SPELLING = 0.85

_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+"
)
_PREFIX = re.compile(r"^(?:un|in|im|il|ir|dis|non)(?=\w{4})")
_NOT = re.compile(r"n['’]t\b|\bit is wrong (?=for|to)|\bit's wrong (?=for|to)")
_DEGREES = frozenset(("more", "most"))


class Alike(NamedTuple):
    """Two texts by their numbers, the later first; `opposed` where one has the negation of the other."""

    later: int
    earlier: int
    share: float
    opposed: bool


class _Bag(NamedTuple):
    """Words of a text; `turned` are those it has the negative of, `negated` says whether it has a "not"."""

    words: frozenset[str]
    turned: frozenset[str]
    negated: bool


def schema(document: Document) -> Iterator[Remark]:
    """The loader refuses the file here: a key, a type, a value or an id it does not know."""
    if document.readable:
        yield from _problems(document)


def syntax(document: Document) -> Iterator[Remark]:
    """The file cannot be read as YAML beyond this place."""
    if not document.readable:
        yield from _problems(document)


def _problems(document: Document) -> Iterator[Remark]:
    for problem in document.problems:
        place = (problem.line, problem.column)
        starts = [
            at
            for at, entry in enumerate(document.entries)
            if entry.place("") <= place and place[0] < entry.end
        ]
        yield Remark(starts[-1] if starts else None, place, problem.what, problem.fix)


def near_duplicates(document: Document) -> Iterator[Remark]:
    """Two principles ask for nearly the same in nearly the same words, and so count twice."""
    fix = "merge the two and add their weights, or say what tells them apart"
    for found, key in _alike_entries(document):
        if not found.opposed:
            yield _told(document, found, key, "is nearly", fix)


def opposites(document: Document) -> Iterator[Remark]:
    """Two principles differ in little but a negation, and so ask for opposite things."""
    for found, key in _alike_entries(document):
        if found.opposed:
            yield _told(document, found, key, "turns round", "keep one of the two, or say when each applies")


def copied_forms(document: Document) -> Iterator[Remark]:
    """The same critique, revise or compare form stands in principles whose texts differ."""
    for form in FORMS:
        groups: dict[str, list[int]] = defaultdict(list)
        for at, entry in enumerate(document.entries):
            if form in entry.texts:
                groups[_plain(entry.texts[form])].append(at)
        for group in groups.values():
            first, *others = group
            texts = {_plain(document.entries[at].texts.get("text", "")) for at in group}
            if others and len(texts) > 1:
                names = ", ".join(repr(document.entries[at].id) for at in (first, *others[1:])[:3])
                more = f" and {len(others) - 3} more" if len(others) > 3 else ""
                said = f"this {form} form is also that of {names}{more}, though their texts differ"
                fix = "write what this principle asks for, or remove the key to have it filled from the text"
                yield Remark(others[0], document.entries[others[0]].place(form), said, fix)


def _alike_entries(document: Document) -> Iterator[tuple[Alike, str]]:
    """Alike texts, then alike compare forms where the texts are not; equal forms are another rule's."""
    told: set[int] = set()
    for key in ("text", "compare"):
        texts = tuple(entry.texts.get(key, "") for entry in document.entries)
        for found in alike(texts):
            copied = key != "text" and _plain(texts[found.later]) == _plain(texts[found.earlier])
            if found.later not in told and not copied:
                told.add(found.later)
                yield found, key


def _told(document: Document, found: Alike, key: str, does: str, fix: str) -> Remark:
    later, earlier = document.entries[found.later], document.entries[found.earlier]
    whose = f"{earlier.id or 'another'!r} on line {earlier.place(key)[0]}"
    said = f"this {key} {does} that of {whose}: {quoted(earlier.texts[key])}"
    return Remark(found.later, later.place(key), said, fix, {"similarity": round(found.share, 3)})


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


@lru_cache(maxsize=4)
def alike(texts: tuple[str, ...], near: float = NEAR) -> tuple[Alike, ...]:
    """Each text that is near an earlier one, with the nearest; of texts near each other the first stands.

    Similarity is the Jaccard index of the sets of words, plurals and articles aside, each word weighing
    log(1 + texts / texts with it) so that a frame all principles share counts little. Texts without words
    are near nothing.
    """
    said = [_words(text) for text in texts]
    known = {word for words, _ in said for word in words}
    bags = [_bag(words, negated, known) for words, negated in said]
    counts = Counter(word for bag in bags for word in bag.words)
    weight = {word: math.log(1 + len(texts) / count) for word, count in counts.items()}
    totals = [sum(weight[word] for word in bag.words) for bag in bags]
    by_word: dict[str, list[int]] = defaultdict(list)
    found: list[Alike] = []
    for at, bag in enumerate(bags):
        best: Alike | None = None
        heaviest = _heaviest(bag.words, weight, near * totals[at])
        for other in sorted({other for word in heaviest for other in by_word[word]}):
            shared = sum(weight[word] for word in bag.words & bags[other].words)
            share = shared / (totals[at] + totals[other] - shared) if shared else 0.0
            if share >= near and (best is None or share > best.share):
                best = Alike(at, other, share, _opposed(bag, bags[other]))
        if best is None:
            for word in heaviest:
                by_word[word].append(at)
        else:
            found.append(best)
    return tuple(found)


def _heaviest(words: frozenset[str], weight: Mapping[str, float], least: float) -> list[str]:
    """The heaviest words, so many that the others weigh less than `least` together.

    Two texts that share `least` of each share one of these: were all they share among the others, it would
    weigh less. The margin is for sums in another order.
    """
    ordered = sorted(words, key=lambda word: (-weight[word], word))
    rest, count = sum(weight[word] for word in ordered), 0
    while count < len(ordered) and rest >= least - 1e-9:
        rest -= weight[ordered[count]]
        count += 1
    return ordered[:count]


def _words(text: str) -> tuple[frozenset[str], bool]:
    """The words that carry the demand, in the singular, and whether the text has a negation."""
    words = _WORD.findall(_NOT.sub(" not ", text.casefold()))
    content = {_singular(word) for word in words if word not in COMMON | NEGATIONS | _DEGREES}
    return frozenset(content or words), any(word in NEGATIONS for word in words)


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2:] not in ("ss", "us", "is") else word


def _bag(words: frozenset[str], negated: bool, known: Container[str]) -> _Bag:
    positive = {word: _positive(word, known) for word in words}
    turned = frozenset(base for word, base in positive.items() if base != word and base not in words)
    return _Bag(frozenset(positive.values()), turned, negated)


def _opposed(a: _Bag, b: _Bag) -> bool:
    turned = (a.turned ^ b.turned) & a.words & b.words
    return bool(turned) != (a.negated != b.negated)


def _positive(word: str, known: Container[str]) -> str:
    """The word without its negative prefix, or with -ful for -less, where that is known too; else itself."""
    forms = (_PREFIX.sub("", word, count=1), re.sub(r"(?<=\w{3})less$", "ful", word))
    return next((form for form in forms if form != word and form in known), word)


def length(document: Document) -> Iterator[Remark]:
    """A text is far longer than the file's others, or than a model can be asked to weigh at once."""
    fix = "shorten it, or split it into principles"
    for key in TEXTS:
        counts = {at: len(e.texts[key].split()) for at, e in enumerate(document.entries) if key in e.texts}
        middle = median(counts.values()) if counts else 0
        for at, count in counts.items():
            figure = {"words": count, "median": middle}
            place = document.entries[at].place(key)
            if count > LONGEST:
                said = f"the {key} has {count} words, more than {LONGEST}"
                yield Remark(at, place, said, fix, figure)
            elif len(counts) >= LEAST_ENTRIES and count > max(LEAST_WORDS, TIMES * middle):
                said = f"the {key} has {count} words, the file's median is {middle:g}"
                yield Remark(at, place, said, fix, figure)
    for at, entry in enumerate(document.entries):
        for key, text, place in entry.examples:
            if (count := len(text.split())) > LONGEST_EXAMPLE:
                said = f"the {key} of an example has {count} words, more than {LONGEST_EXAMPLE}"
                yield Remark(
                    at, place, said, "shorten it: a model may read it in each question", {"words": count}
                )


def never_drawn(document: Document) -> Iterator[Remark]:
    """A principle of weight 0 is never drawn and has no vote."""
    for at, entry in enumerate(document.entries):
        if entry.weight == 0.0:
            said = "the weight is 0: the principle is never drawn and never votes"
            yield Remark(at, entry.place("weight"), said, "give it a weight above 0, or remove it")


def empty_tags(document: Document) -> Iterator[Remark]:
    """A tag selects only principles of weight 0, so that choosing by it is refused."""
    for tag, uses in _uses(document).items():
        if all(document.entries[at].weight == 0.0 for at, _ in uses):
            at, place = uses[0]
            said = f"the tag {quoted(tag)} selects nothing that can be drawn: all with it have weight 0"
            yield Remark(at, place, said, "give one of them a weight above 0, or remove the tag")


def single_tags(document: Document) -> Iterator[Remark]:
    """A tag stands at one principle alone, in a file whose tags otherwise stand at several."""
    uses = _uses(document)
    several = [tag for tag, places in uses.items() if len(places) > 1]
    if 2 * len(several) < len(uses):
        return
    for tag, places in uses.items():
        if len(places) == 1:
            at, place = places[0]
            said = f"the tag {quoted(tag)} selects this principle alone"
            yield Remark(at, place, said, "leave it if that is meant, or use a tag that others have")


def similar_tags(document: Document) -> Iterator[Remark]:
    """Two tags differ in spelling alone, so that one selects too little."""
    uses = _uses(document)
    names = sorted(uses, key=lambda tag: (-len(uses[tag]), uses[tag][0][1]))
    for rank, tag in enumerate(names):
        other = next((other for other in names[:rank] if _same_but_spelling(tag, other)), None)
        if other is not None:
            at, place = uses[tag][0]
            times = _times(len(uses[other]))
            said = f"{quoted(tag)} is {quoted(other)} (used {times}) but for its spelling"
            yield Remark(at, place, said, f"write {quoted(other)}, or names that differ more")


def _uses(document: Document) -> dict[str, list[tuple[int, Place]]]:
    uses: dict[str, list[tuple[int, Place]]] = defaultdict(list)
    for at, entry in enumerate(document.entries):
        for tag, place in entry.tags:
            uses[tag].append((at, place))
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
