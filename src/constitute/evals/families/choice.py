"""Choice items: a question with two answers, one of which shows the behaviour (arXiv 2212.09251, section 4).

The writer is shown gold items as its own earlier turns. For the label (B) their answers change places, as in
the paper. Deviates from the paper: the judge is the served model, asked with the answers in both orders.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from constitute.config.evals import EvalsConfig
from constitute.evals.families.base import FamilySpec, Written, say_or_cut
from constitute.evals.families.lettered import lettered
from constitute.evals.families.persona import has_labels, score_labels
from constitute.evals.gate import p_label, require
from constitute.evals.items import slug
from constitute.evals.select import Selection, alternating, drop_repeats
from constitute.evals.subjects import Seed, Shot
from constitute.stages.base import Sample
from constitute.templates import render
from constitute.types import EvalItem, Record, Role

_LABELS = ("A", "B")


class ChoiceRow(Record):
    """A question to be written, of which the answer with `label` shows the behaviour; `phrase` says which."""

    id: str
    behavior: str
    phrase: str
    label: str
    shots: tuple[Shot, ...]


def choice_rows(seeds: Sequence[Seed], cfg: EvalsConfig) -> list[ChoiceRow]:
    """Candidates for each label in turn, `oversample` for each wanted, each with examples of its own."""
    per_label = math.ceil(cfg.n / 2 * cfg.oversample)
    return [
        ChoiceRow(
            id=(name := f"{slug(seed.behavior)}-{label.lower()}-{index:05d}"),
            behavior=seed.behavior,
            phrase=seed.phrase,
            label=label,
            shots=drawn(name, seed.shots, cfg.shown),
        )
        for seed in seeds
        for index in range(per_label)
        for label in _LABELS
    ]


def drawn(row_id: str, shots: Sequence[Shot], n: int) -> tuple[Shot, ...]:
    """At most `n` of the examples, in an order of the row's own: the same whatever others there are."""
    return tuple(sorted(shots, key=lambda shot: _digest(row_id, shot))[:n])


def _digest(row_id: str, shot: Shot) -> bytes:
    return hashlib.sha256(f"{row_id}\n{shot.model_dump_json()}".encode()).digest()


def in_letters(stem: str, showing: str, other: str, label: str) -> str:
    """The question with its answers; the one that shows the behaviour has that label."""
    a, b = (showing, other) if label == "A" else (other, showing)
    return render("evals_lettered", stem=stem, a=a, b=b)


async def write_choice(row: ChoiceRow, sample: Sample, cfg: EvalsConfig) -> Written:
    """Write one question and judge it.

    Raises `RowError` for a text without a question and two answers, `Abstain` where the judge is not sure.
    """
    turns: list[tuple[Role, str]] = []
    for number, shot in enumerate((*row.shots, None)):
        asked = render("evals_choice", behavior=row.phrase, label=row.label, first=number == 0)
        turns.append(("user", asked))
        if shot is not None:
            turns.append(("assistant", in_letters(shot.stem, shot.showing, shot.other, row.label)))
    text, cut = await say_or_cut(sample, turns, cfg.question, "question")
    stem, a, b = lettered(text, cut=cut)
    showing, other = (a, b) if row.label == "A" else (b, a)
    label, by_order, label_mass = await _label(row, (stem, showing, other), sample, cfg)
    about, about_mass = await _about(row, (stem, showing, other), sample, cfg)
    item = EvalItem(
        id=row.id,
        question=in_letters(stem, showing, other, row.label),
        options=(" (A)", " (B)") if row.label == "A" else (" (B)", " (A)"),
        matching=(0,),
        # The paper ranks by the mean over all that is required.
        label_confidence=(label + about) / 2,
        behavior=row.behavior,
        family="choice",
    )
    return Written(item=item, p_by_order=by_order, mass=min(label_mass, about_mass))


async def _label(
    row: ChoiceRow, said: tuple[str, str, str], sample: Sample, cfg: EvalsConfig
) -> tuple[float, tuple[float, float], float]:
    """P(somebody with the behaviour chooses the answer): mean, for it as (A) and as (B), least mass."""
    found = [
        await p_label(
            sample,
            render("evals_choice_gate", behavior=row.phrase, question=in_letters(*said, letter)),
            ("A", "B"),
            letter,
            step=f"label-{letter.lower()}",
            min_mass=cfg.min_mass,
        )
        for letter in _LABELS
    ]
    ps = (found[0][0], found[1][0])
    sure = require(ps, cfg.min_confidence, "label not sure", agree=cfg.orders == "agree")
    return sure, ps, min(mass for _, mass in found)


async def _about(
    row: ChoiceRow, said: tuple[str, str, str], sample: Sample, cfg: EvalsConfig
) -> tuple[float, float]:
    """P(the question is about the behaviour): mean over the orders of its answers, least mass."""
    found = [
        await p_label(
            sample,
            render("evals_choice_about", behavior=row.phrase, question=in_letters(*said, letter)),
            ("Yes", "No"),
            "Yes",
            step=f"about-{letter.lower()}",
            min_mass=cfg.min_mass,
        )
        for letter in _LABELS
    ]
    sure = math.fsum(p for p, _ in found) / 2
    return require((sure,), cfg.min_relevance, "not about the behaviour"), min(mass for _, mass in found)


def select_choices(items: Sequence[EvalItem], per_label: int, near_duplicate: float | None) -> Selection:
    """The surest distinct items of each label, equally many, alternating (A) and (B)."""
    ranked = sorted(items, key=lambda item: -(item.label_confidence or 0.0))
    kept = drop_repeats(ranked, [item.question for item in ranked], near_duplicate)
    first, second = ([item for item in kept if item.options[0] == f" ({label})"] for label in _LABELS)
    chosen, unused = alternating(first, second, per_label)
    return Selection(items=chosen, dropped={"repeats another": len(items) - len(kept), **unused})


def _select(items: Sequence[EvalItem], cfg: EvalsConfig) -> Selection:
    return select_choices(items, (cfg.n + 1) // 2, cfg.near_duplicate)


def _has_letters(item: EvalItem) -> bool:
    return has_labels(item) and all(text.strip().startswith("(") for text in item.options)


FAMILY = FamilySpec(
    about="questions with two answers, few-shot",
    subject="examples",
    rows=choice_rows,
    work=write_choice,
    select=_select,
    score=score_labels,
    recognises=_has_letters,
    templates=("evals_choice", "evals_lettered", "evals_choice_gate", "evals_choice_about", "evals_keeps"),
    sampling=("question", "min_confidence", "min_relevance", "orders"),
    keeps_cut=True,
)
