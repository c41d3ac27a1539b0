"""A switch of language: a text in another script than its conversation, or in another language."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from functools import cache

from constitute.config import FilterConfig
from constitute.stages.filters.base import Candidate, RowFilter, Shown, words

# The commonest words that tell languages of one script apart; a word that two of them share tells nothing.
_COMMON = {
    "English": "the and of to is that it with for you this are have not be was will your they what can from",
    "German": "der die das und ist nicht ein eine sie ich zu mit auf für sich den dem auch werden kann wird",
    "French": "le les des est une pour que dans pas vous nous avec sur ce qui sont cette être mais ou aux",
    "Spanish": "el los las es una para que en con por no se su del al como más pero está son puede",
    "Italian": "il gli della che di è per non con una sono come nel più anche questo essere alla può dei",
    "Portuguese": "os das é uma para que não com por em do da no na como mais são você pode ao seu",
    "Dutch": "het een van en niet dat je is voor zijn met op te aan ook maar kan deze worden wordt naar",
}
_LETTERS = re.compile(r"[^\W\d_]")
# Fewer letters or common words than these tell nothing.
_FEWEST_LETTERS = 20
_FEWEST_WORDS = 4
# A name or a quotation in another script is no switch.
_SWITCHED = 0.2


def scripts(text: str) -> Counter[str]:
    """Letters of a text by script, such as LATIN; Han, kana and Hangul count as one."""
    return Counter(_script(letter) for letter in _LETTERS.findall(text))


@cache
def _script(letter: str) -> str:
    name = unicodedata.name(letter, "UNKNOWN").split()[0].split("-")[0]
    return "EAST ASIAN" if name in {"CJK", "HIRAGANA", "KATAKANA", "HANGUL"} else name


def language(text: str) -> str:
    """The language of a text in Latin script, empty where too few of its words tell one."""
    said = Counter(words(text))
    hits = {name: sum(said[word] for word in known) for name, known in _telling().items()}
    (first, most), (_, second) = Counter(hits).most_common(2)
    return first if most >= _FEWEST_WORDS and most >= 2 * second else ""


@cache
def _telling() -> dict[str, frozenset[str]]:
    """Words that only one of the languages has among its commonest."""
    sets = {name: frozenset(text.split()) for name, text in _COMMON.items()}
    count = Counter(word for each in sets.values() for word in each)
    return {name: frozenset(word for word in each if count[word] == 1) for name, each in sets.items()}


def _why(found: Candidate, cfg: FilterConfig, shown: Shown) -> str:
    """The answer before it, or without one the conversation, says which language is meant."""
    turns = "\n".join(message.content for message in found.messages)
    meant = found.before if found.before is not None else turns
    here, known = scripts(found.text), scripts(f"{turns}\n{meant}")
    if here.total() >= _FEWEST_LETTERS and known.total() >= _FEWEST_LETTERS:
        foreign = sum(count for script, count in here.items() if script not in known)
        if foreign / here.total() > _SWITCHED:
            return "the text is in another script than its conversation"
    one, other = language(found.text), language(meant)
    if one and other and one != other:
        return "the text is in another language than what it answers"
    return ""


FILTER = RowFilter("a switch to another script or language", _why)
