"""Sycophancy items: somebody introduces themselves, and asks what to think of a view (arXiv 2212.09251, 3).

Each pair has one biography of somebody who holds the view and one of somebody who does not, and asks both the
same question; the answer that matches is the user's own. Deviates from the paper, which takes its questions
from surveys: here the question is whether one agrees with the view.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence

from constitute.config.evals import EvalsConfig
from constitute.errors import RowError, UsageError
from constitute.evals.families.base import FamilySpec, Written, say_or_cut, unquoted
from constitute.evals.families.persona import score_labels
from constitute.evals.gate import p_label, require
from constitute.evals.items import slug
from constitute.evals.select import Selection, drop_repeats
from constitute.stages.base import Sample
from constitute.stages.filters.base import words
from constitute.templates import render
from constitute.types import EvalItem, Record

_VIEW = re.compile(r"(?is)^(?:holds|believes|thinks|argues|agrees|says)\s+that\s+(?P<view>\S.*?)[.\s]*$")
_FIRST_PERSON = frozenset(("i", "i'm", "i've", "i'd", "i'll", "my", "me"))
_INTRODUCTION = re.compile(r"(?i)\b(?:hello|hi|hey|greetings|my name is|i am|i'm)\b")
_END = re.compile(r"[.!?][\"”']?(?=\s|$)")
_FEWEST_WORDS = 12


class BiographyRow(Record):
    """A biography to be written, of somebody who agrees with the view or not; `pair` holds both of them."""

    id: str
    behavior: str
    view: str
    agree: bool
    pair: str
    agree_first: bool


def view_of(behavior: str) -> str:
    """The view that a behaviour speaks of, as a sentence. Raises `UsageError` where it speaks of none."""
    found = _VIEW.match(behavior.strip())
    if found is None:
        raise UsageError(
            f"sycophancy needs a view to be asked about and {behavior!r} names none; "
            'give --behavior "holds that …", such as "holds that taxes are too high"'
        )
    view = " ".join(found["view"].split())
    return f"{view[0].upper()}{view[1:]}."


def biography_rows(behaviors: Sequence[str], cfg: EvalsConfig) -> list[BiographyRow]:
    """Pairs of candidates, `oversample` for each pair wanted; in every other pair (A) is to disagree."""
    pairs = math.ceil(cfg.n / 2 * cfg.oversample)
    return [
        BiographyRow(
            id=f"{(pair := f'{slug(behavior)}-{index:05d}')}-{'agrees' if agree else 'disagrees'}",
            behavior=behavior,
            view=view_of(behavior),
            agree=agree,
            pair=pair,
            agree_first=index % 2 == 0,
        )
        for behavior in behaviors
        for index in range(pairs)
        for agree in (True, False)
    ]


def biography_of(text: str, *, cut: bool = False) -> str:
    """The biography in an answer, without what a model says about it.

    Of one that was `cut` off its whole sentences stay. Raises `RowError` where it is none.
    """
    if cut:
        text = text[: max((end.end() for end in _END.finditer(text)), default=0)]
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip()) if part.strip()]
    while len(paragraphs) > 1 and not _INTRODUCTION.search(paragraphs[0].split(".")[0]):
        paragraphs = paragraphs[1:]
    said = unquoted(" ".join(paragraphs))
    own = words(said)
    if len(own) < _FEWEST_WORDS:
        raise RowError(f"the biography has fewer than {_FEWEST_WORDS} words")
    if not _FIRST_PERSON & set(own):
        raise RowError("the biography is not in the first person")
    if re.search(r"(?m)\([AB]\)", said):
        raise RowError("the biography holds a question's answers")
    return said


async def write_biography(row: BiographyRow, sample: Sample, cfg: EvalsConfig) -> Written:
    """Write one biography and judge whose view it shows.

    Raises `RowError` for a text that is no biography and `Abstain` where it does not show the view wanted.
    """
    prompt = render("evals_biography", view=row.view, agree=row.agree)
    said, cut = await say_or_cut(sample, [("user", prompt)], cfg.question, "biography")
    biography = biography_of(said, cut=cut)
    text = render("evals_biography_gate", biography=biography, view=row.view)
    wanted = "Yes" if row.agree else "No"
    p, mass = await p_label(sample, text, ("Yes", "No"), wanted, step="view", min_mass=cfg.min_mass)
    item = EvalItem(
        id=row.id,
        question=render("evals_opinion", biography=biography, view=row.view, agree_first=row.agree_first),
        options=(" (A)", " (B)") if row.agree == row.agree_first else (" (B)", " (A)"),
        matching=(0,),
        label_confidence=require((p,), cfg.min_confidence, "the biography does not show the view"),
        behavior=row.behavior,
        family="sycophancy",
        context=row.pair,
        groups=(("user", "agrees" if row.agree else "disagrees"),),
    )
    return Written(item=item, p_by_order=(p,), mass=mass)


def select_pairs(items: Sequence[EvalItem], pairs: int, near_duplicate: float | None) -> Selection:
    """The surest pairs of which neither text repeats another; half of them with each order of the answers."""
    held: defaultdict[str, list[EvalItem]] = defaultdict(list)
    for item in items:
        held[item.context].append(item)
    whole = [pair for pair in held.values() if len(pair) == 2]
    ranked = sorted(whole, key=lambda pair: -min(item.label_confidence or 0.0 for item in pair))
    texts = [item.question for pair in ranked for item in pair]
    new = drop_repeats([item for pair in ranked for item in pair], texts, near_duplicate)
    ids = {item.id for item in new}
    distinct = [pair for pair in ranked if all(item.id in ids for item in pair)]
    kept = [item for pair in distinct[:pairs] for item in pair]
    return Selection(
        items=tuple(kept),
        dropped={
            "the other of the pair is missing": len(items) - 2 * len(whole),
            "repeats another": 2 * (len(whole) - len(distinct)),
            "more than wanted": 2 * len(distinct) - len(kept),
        },
    )


def _select(items: Sequence[EvalItem], cfg: EvalsConfig) -> Selection:
    return select_pairs(items, (cfg.n + 1) // 2, cfg.near_duplicate)


def _has_a_user(item: EvalItem) -> bool:
    return bool(item.context) and dict(item.groups).get("user") in ("agrees", "disagrees")


FAMILY = FamilySpec(
    about="pairs of users with opposite views who ask what to think",
    subject="behavior",
    rows=biography_rows,
    work=write_biography,
    select=_select,
    score=score_labels,
    recognises=_has_a_user,
    templates=("evals_biography", "evals_biography_gate", "evals_opinion"),
    sampling=("question", "min_confidence"),
    keeps_cut=True,
)
