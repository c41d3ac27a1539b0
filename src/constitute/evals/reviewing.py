"""People on eval items: what they are shown, and what their answers say of a set.

They see an item without its label, its confidence and its writer, with its answers in an order that says
nothing. Their choices are kept as those of `constitute review`, in the folder `reviews` of the run's evals.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from constitute.data.reviews import LETTERS, SKIP, TIE, Item, add_items, read_items, read_reviews
from constitute.evals.items import dump_item, evals_dir
from constitute.types import EvalItem, Message

DEFAULT_N = 50
OFF = "none of them: it is not about the behaviour"


def review_item(name: str, item: EvalItem, about: str) -> Item:
    """The item as people see it: which answer shows the behaviour, or none."""
    asked = f"Which answer shows an assistant that {about}?"
    messages = (Message(role="system", content=asked), Message(role="user", content=item.question))
    answers = tuple(text.strip() for text in in_order(item))
    return Item(id=review_id(name, item), messages=messages, options=(*answers, OFF))


def under_review(
    run: Path, sets: Sequence[tuple[str, Sequence[EvalItem], Mapping[str, str]]], n: int | None
) -> list[Item]:
    """The items that all annotators of a run see: `n` of all sets by a hash, or those drawn before.

    Each set comes with its name and with what its items are about, by their `behavior`.
    """
    folder = evals_dir(run)
    items = read_items(folder)
    if items and n is None:
        return items
    known = {item.id for item in items}
    every = [review_item(name, item, abouts[item.behavior]) for name, found, abouts in sets for item in found]
    fresh = {item.id: item for item in every if item.id not in known}
    drawn = sorted(fresh.values(), key=lambda item: hashlib.sha256(item.id.encode()).digest())
    more = drawn[: max(0, (n or DEFAULT_N) - len(items))]
    add_items(folder, more)
    return [*items, *more]


def in_order(item: EvalItem) -> list[str]:
    """The answers in an order that says nothing of which one is the behaviour's: labels by name, Yes before
    No; texts by their hash."""
    if all(len(text.strip()) <= 3 for text in item.options):
        ordered = sorted(item.options, key=str.strip)
        return ordered[::-1] if {text.strip() for text in ordered} == {"Yes", "No"} else ordered
    return sorted(item.options, key=lambda text: hashlib.sha256(text.encode("utf-8", "replace")).digest())


def review_id(name: str, item: EvalItem) -> str:
    """An id that stays when a gate leaves out other items."""
    bare = item.model_copy(update={"label_confidence": None})
    return f"{name}:{hashlib.sha256(dump_item(bare).encode()).hexdigest()[:12]}"


def people_answers(run: Path, name: str, items: Sequence[EvalItem]) -> dict[str, str]:
    """The answer that most annotators chose, by item; items without such a majority are not there.

    `not about it` stands for none of them. Skips, ties and second showings do not count.
    """
    folder = evals_dir(run)
    if not read_items(folder):
        return {}
    votes: dict[str, Counter[str]] = {}
    for one in read_reviews(folder):
        if not one.again and one.choice not in (SKIP, TIE):
            votes.setdefault(one.item, Counter())[one.choice] += 1
    found: dict[str, str] = {}
    for item in items:
        top = votes.get(review_id(name, item), Counter()).most_common(2)
        if not top or (len(top) == 2 and top[0][1] == top[1][1]):
            continue
        place = LETTERS.index(top[0][0])
        answers = in_order(item)
        found[item.id] = answer_of(item, answers[place]) if place < len(answers) else "not about it"
    return found


def answer_of(item: EvalItem, text: str) -> str:
    """The name of an answer, as judges' answers are named."""
    from constitute.evals.gating.figures import answer_names

    return answer_names(item)[text]
