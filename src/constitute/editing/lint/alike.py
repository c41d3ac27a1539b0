"""Find principles that say nearly the same, or the same turned round, and forms copied between principles."""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from functools import lru_cache
from typing import NamedTuple

from constitute.constitution.read import FORMS
from constitute.editing.lint.document import Found, Sheet, quoted
from constitute.editing.lint.words import COMMON, NEGATIONS

# Share of the weight of all words of two texts that both have. Of the packaged constitutions, whose
# principles are near relatives on purpose, the nearest two that differ in what they ask reach 0.53;
# rewordings that ask the same (another article, tense, plural, spelling) reach 0.8 and more.
NEAR = 0.75
SPELLING = 0.8

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


def near_duplicates(sheet: Sheet) -> Iterator[Found]:
    """Two principles ask for nearly the same in nearly the same words, and so count twice."""
    fix = "merge the two and add their weights, or say what tells them apart"
    for found, key in _alike_entries(sheet):
        if not found.opposed:
            yield _told(sheet, found, key, "is nearly", fix)


def opposites(sheet: Sheet) -> Iterator[Found]:
    """Two principles differ in little but a negation, and so ask for opposite things."""
    for found, key in _alike_entries(sheet):
        if found.opposed:
            yield _told(sheet, found, key, "turns round", "keep one of the two, or say when each applies")


def copied_forms(sheet: Sheet) -> Iterator[Found]:
    """The same critique, revise or compare form stands in principles whose texts differ."""
    for form in FORMS:
        groups: dict[str, list[int]] = defaultdict(list)
        for at, entry in enumerate(sheet.entries):
            if form in entry.texts:
                groups[_plain(entry.texts[form])].append(at)
        for group in groups.values():
            first, *others = group
            texts = {_plain(sheet.entries[at].texts.get("text", "")) for at in group}
            if others and len(texts) > 1:
                names = ", ".join(repr(sheet.entries[at].id) for at in (first, *others[1:])[:3])
                more = f" and {len(others) - 3} more" if len(others) > 3 else ""
                said = f"this {form} form is also that of {names}{more}, though their texts differ"
                fix = "write what this principle asks for, or remove the key to have it filled from the text"
                yield Found(others[0], sheet.entries[others[0]].place(form), said, fix)


def _alike_entries(sheet: Sheet) -> Iterator[tuple[Alike, str]]:
    """Alike texts, then alike compare forms where the texts are not; equal forms are another rule's."""
    told: set[int] = set()
    for key in ("text", "compare"):
        texts = tuple(entry.texts.get(key, "") for entry in sheet.entries)
        for found in alike(texts):
            copied = key != "text" and _plain(texts[found.later]) == _plain(texts[found.earlier])
            if found.later not in told and not copied:
                told.add(found.later)
                yield found, key


def _told(sheet: Sheet, found: Alike, key: str, does: str, fix: str) -> Found:
    later, earlier = sheet.entries[found.later], sheet.entries[found.earlier]
    whose = f"{earlier.id or 'another'!r} on line {earlier.place(key)[0]}"
    said = f"this {key} {does} that of {whose}: {quoted(earlier.texts[key])}"
    return Found(found.later, later.place(key), said, fix, {"similarity": round(found.share, 3)})


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


@lru_cache(maxsize=4)
def alike(texts: tuple[str, ...], near: float = NEAR) -> tuple[Alike, ...]:
    """Each text that is near an earlier one, with the nearest; of texts near each other the first stands.

    Similarity is the Jaccard index of the sets of words, plurals and articles aside, each word weighing
    log(1 + texts / texts with it) so that a frame all principles share counts little; spellings that
    differ in a letter or two are one word. Empty texts are left out. Only texts that share one of their
    rarest words are compared (prefix filtering, Chaudhuri, Ganti and Kaushik 2006).
    """
    said = [_words(text) for text in texts]
    spelling = _spelling(Counter(word for words, _ in said for word in words))
    bags = [_bag(words, negated, spelling) for words, negated in said]
    counts = Counter(word for bag in bags for word in bag.words)
    weight = {word: math.log(1 + len(texts) / count) for word, count in counts.items()}
    order = {word: rank for rank, word in enumerate(sorted(counts, key=lambda word: (counts[word], word)))}
    totals = [sum(weight[word] for word in bag.words) for bag in bags]
    index: dict[str, list[int]] = defaultdict(list)
    found: list[Alike] = []
    for at, bag in enumerate(bags):
        rarest = _rarest(sorted(bag.words, key=order.__getitem__), weight, (1 - near) * totals[at])
        best: Alike | None = None
        for other in sorted({other for word in rarest for other in index[word]}):
            common = bag.words & bags[other].words
            shared = sum(map(weight.__getitem__, common))
            share = shared / (totals[at] + totals[other] - shared)
            if share >= near and (best is None or share > best.share):
                best = Alike(at, other, share, _opposed(bag, bags[other]))
        if best is not None:
            found.append(best)
            continue
        for word in rarest:
            index[word].append(at)
    return tuple(found)


def _words(text: str) -> tuple[frozenset[str], bool]:
    """The words that carry the demand, in the singular, and whether the text has a negation."""
    words = _WORD.findall(_NOT.sub(" not ", text.casefold()))
    content = {_singular(word) for word in words if word not in COMMON | NEGATIONS | _DEGREES}
    return frozenset(content or words), any(word in NEGATIONS for word in words)


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2:] not in ("ss", "us", "is") else word


def _bag(words: frozenset[str], negated: bool, spelling: Mapping[str, tuple[str, bool]]) -> _Bag:
    known = {spelling[word] for word in words}
    turned = frozenset(word for word, negative in known if negative and (word, False) not in known)
    return _Bag(frozenset(word for word, _ in known), turned, negated)


def _opposed(a: _Bag, b: _Bag) -> bool:
    turned = (a.turned ^ b.turned) & a.words & b.words
    return bool(turned) != (a.negated != b.negated)


def _rarest(words: Sequence[str], weight: Mapping[str, float], enough: float) -> list[str]:
    """The first of `words`, rarest first, that together weigh more than `enough`."""
    passed = 0.0
    for number, word in enumerate(words, 1):
        passed += weight[word]
        # A hair's width, so that rounding never leaves out a word that is needed.
        if passed > enough + 1e-9:
            return list(words[:number])
    return list(words)


def _spelling(counts: Mapping[str, int]) -> dict[str, tuple[str, bool]]:
    """Each word's commonest spelling, and whether it is the negative of that: illegal of legal."""
    base = {word: plain for word in counts if (plain := _plain_form(word, counts))}
    spelling: dict[str, tuple[str, bool]] = {}
    by_start: dict[str, list[str]] = defaultdict(list)
    for word in sorted(counts.keys() - base.keys(), key=lambda word: (-counts[word], word)):
        near = next((other for other in by_start[word[:3]] if _misspelt(word, other)), None)
        spelling[word] = (near or word, False)
        if near is None:
            by_start[word[:3]].append(word)
    for word, plain in sorted(base.items()):
        spelling[word] = (spelling.get(plain, (plain, False))[0], True)
    return spelling


def _plain_form(word: str, known: Container[str]) -> str:
    """The word without its negative prefix, or with -ful for -less, where that is known too; else empty."""
    forms = (_PREFIX.sub("", word, count=1), re.sub(r"(?<=\w{3})less$", "ful", word))
    return next((form for form in forms if form != word and form in known), "")


def _misspelt(a: str, b: str) -> bool:
    if min(len(a), len(b)) < 5 or abs(len(a) - len(b)) > 2 or any(letter.isdigit() for letter in a + b):
        return False
    return SequenceMatcher(None, a, b, autojunk=False).ratio() >= SPELLING
