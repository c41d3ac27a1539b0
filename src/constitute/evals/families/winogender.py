"""Winogender items: a sentence with a blank for the pronoun of somebody of an occupation (arXiv 2212.09251).

No pronoun shows a behaviour: a policy is measured by which of them it prefers (`metrics.pronouns`). The
female one stands as matching, as in the sets of `winogenerated`. Deviates from the paper: the judge is the
served model, asked for the probability of each requirement.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence

from constitute.config.evals import EvalsConfig
from constitute.errors import RowError
from constitute.evals.families.base import FamilySpec, Written, one_sentence, say
from constitute.evals.families.persona import PRONOUNS, pronouns_of
from constitute.evals.families.reply import score_replies
from constitute.evals.gate import p_label, require
from constitute.evals.items import slug
from constitute.evals.select import Selection, drop_repeats, fold
from constitute.evals.subjects import Occupation
from constitute.stages.base import Sample
from constitute.stages.filters.base import words
from constitute.templates import render
from constitute.types import EvalItem, Record, Role

# In the released set 60 % of the blanks are subjects, 33 % possessives and 7 % objects.
_CASES = (0, 1, 0, 0, 1, 0, 0, 1, 0, 2)
_PRONOUN = re.compile(
    r"(?i)\b(?:he|she|they|his|hers|her|theirs|their|him|them|himself|herself|themselves|themself)\b"
)
_BLANK = re.compile(
    r"_+|\[(?:blank|pronoun|_+)\]|\((?:blank|pronoun|_+)\)|<(?:blank|pronoun)>", re.IGNORECASE
)
_MOST_WORDS_OF_A_PERSON = 3


class SentenceRow(Record):
    """A sentence to be written about somebody of an occupation, with a blank for one of the pronouns."""

    id: str
    occupation: Occupation
    pronouns: tuple[str, str, str]


def sentence_rows(occupations: Sequence[Occupation], cfg: EvalsConfig) -> list[SentenceRow]:
    """Candidates for occupations in turn: `oversample` for each item wanted of each."""
    return [
        SentenceRow(
            id=f"{slug(occupation.name)}-{index:05d}",
            occupation=occupation,
            pronouns=PRONOUNS[_CASES[index % len(_CASES)]],
        )
        for index in range(math.ceil(cfg.n * cfg.oversample))
        for occupation in occupations
    ]


def person_of(text: str, occupation: str) -> str:
    """The other person that a model named. Raises `RowError` where it named none."""
    said = re.split(r"[,;\n]|\bor\b|\band\b", one_sentence(text), maxsplit=1)[0]
    person = re.sub(r"(?i)^(?:an?|the|their|his|her)\s+", "", said.strip(" .!*\"'")).lower()
    if not person or len(words(person)) > _MOST_WORDS_OF_A_PERSON or _PRONOUN.search(person):
        raise RowError("no other person is named")
    if fold(person) == fold(occupation):
        raise RowError("the other person has the same occupation")
    return person


def blanked(text: str, occupation: str, other: str, pronouns: Sequence[str]) -> str:
    """The sentence with its one blank, `_`; a single pronoun of this case, where it has no blank, is put out.

    Raises `RowError` for any other number of blanks, a further pronoun, and a person who is not named.
    """
    sentence = _BLANK.sub("_", one_sentence(text.strip().split("\n")[0]))
    if "_" not in sentence:
        sentence = re.sub(rf"(?i)\b(?:{'|'.join(pronouns)})\b", "_", sentence)
    if (blanks := sentence.count("_")) != 1:
        raise RowError("the sentence has no blank" if not blanks else "the sentence has several blanks")
    if _PRONOUN.search(sentence):
        raise RowError("the sentence has another pronoun")
    for person, name in ((occupation, "occupation"), (other, "other person")):
        if f" {fold(person)} " not in f" {fold(sentence)} ":
            raise RowError(f"the sentence does not name the {name}")
    return sentence


async def write_sentence(row: SentenceRow, sample: Sample, cfg: EvalsConfig) -> Written:
    """Write one sentence and judge it.

    Raises `RowError` for a sentence of another form and `Abstain` where the judge finds a requirement unmet.
    """
    name, other = row.occupation.name, row.occupation.other
    if not other:
        asked = render("evals_other_person", occupation=name)
        other = person_of(await say(sample, [("user", asked)], cfg.request, "person"), name)
    example = render("evals_pronoun_example", pronouns=row.pronouns)
    turns: list[tuple[Role, str]] = [
        ("user", _request("gardener", "neighbor", row.pronouns)),
        ("assistant", example),
        ("user", _request(name, other, row.pronouns)),
    ]
    sentence = blanked(await say(sample, turns, cfg.request, "sentence"), name, other, row.pronouns)
    if fold(sentence) == fold(example):
        raise RowError("the sentence copies the example")
    of, orders, masses = await _of_occupation(sentence, name, other, sample, cfg)
    reads = [await _reads_well(sentence, pronoun, sample, cfg) for pronoun in row.pronouns]
    percent, title = row.occupation.percent_women, row.occupation.title
    groups = [("other person", other)]
    groups += [("percent women", f"{percent:g}")] if percent is not None else []
    groups += [("BLS occupation", title)] if title else []
    item = EvalItem(
        id=row.id,
        question=render("evals_blank", sentence=sentence),
        options=tuple(f" {pronoun}" for pronoun in row.pronouns),
        matching=(1,),
        statement=sentence,
        # The paper ranks by the mean over all that is required.
        label_confidence=math.fsum((of, *(p for p, _ in reads))) / (1 + len(reads)),
        behavior=name,
        family="winogender",
        context=name,
        groups=tuple(groups),
    )
    return Written(item=item, p_by_order=orders, mass=min(*masses, *(mass for _, mass in reads)))


def _request(occupation: str, other: str, pronouns: Sequence[str]) -> str:
    return render("evals_pronoun_sentence", occupation=occupation, other=other, pronouns=pronouns)


async def _of_occupation(
    sentence: str, occupation: str, other: str, sample: Sample, cfg: EvalsConfig
) -> tuple[float, tuple[float, float], list[float]]:
    """P(the blank stands for the occupation): mean, with it as (A) and as (B), masses."""
    found = [
        await p_label(
            sample,
            render("evals_pronoun_of", sentence=sentence, a=a, b=b),
            ("A", "B"),
            letter,
            step=f"of-{letter.lower()}",
            min_mass=cfg.min_mass,
        )
        for letter, a, b in (("A", occupation, other), ("B", other, occupation))
    ]
    ps = (found[0][0], found[1][0])
    why = "the blank may stand for the other person"
    sure = require(ps, cfg.min_confidence, why, agree=cfg.orders == "agree")
    return sure, ps, [mass for _, mass in found]


async def _reads_well(sentence: str, pronoun: str, sample: Sample, cfg: EvalsConfig) -> tuple[float, float]:
    text = render("evals_reads_well", sentence=sentence.replace("_", pronoun))
    step = f"reads-{pronoun}"
    p, mass = await p_label(sample, text, ("Yes", "No"), "Yes", step=step, min_mass=cfg.min_mass)
    return require((p,), cfg.min_confidence, "the sentence does not read well with each pronoun"), mass


def select_sentences(
    items: Sequence[EvalItem], per_occupation: int, near_duplicate: float | None
) -> Selection:
    """The best distinct sentences of each occupation, occupations in order of appearance."""
    ranked = sorted(items, key=lambda item: -(item.label_confidence or 0.0))
    distinct = drop_repeats(ranked, [item.statement or "" for item in ranked], near_duplicate)
    held: defaultdict[str, list[EvalItem]] = defaultdict(list)
    for item in distinct:
        held[item.context].append(item)
    names = dict.fromkeys(item.context for item in items)
    kept = tuple(item for name in names for item in held[name][:per_occupation])
    return Selection(
        items=kept,
        dropped={
            "repeats another": len(items) - len(distinct),
            "more than wanted": len(distinct) - len(kept),
        },
    )


def _select(items: Sequence[EvalItem], cfg: EvalsConfig) -> Selection:
    return select_sentences(items, cfg.n, cfg.near_duplicate)


def _has_blank(item: EvalItem) -> bool:
    return pronouns_of(item) is not None and "_" in (item.statement or "")


FAMILY = FamilySpec(
    about="sentences with a blank for a pronoun",
    subject="occupation",
    rows=sentence_rows,
    work=write_sentence,
    select=_select,
    score=score_replies,
    recognises=_has_blank,
    templates=(
        "evals_other_person",
        "evals_pronoun_sentence",
        "evals_pronoun_example",
        "evals_pronoun_of",
        "evals_reads_well",
        "evals_blank",
    ),
    sampling=("request", "min_confidence", "orders"),
    metric="pronouns",
)
