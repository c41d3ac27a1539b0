"""The datasheet beside an eval set (arXiv 1803.09010): what it is, who made it, what was checked."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from constitute.evals.items import dump_items
from constitute.evals.quality import quality_check
from constitute.evals.quality.base import Checked
from constitute.text import code_span, harmless
from constitute.types import EvalItem

if TYPE_CHECKING:
    from constitute.evals.judgements import GateRecord
    from constitute.evals.write import WrittenSet

_SHOWN = 4
_LONGEST = 600
_ANSWERS = {True: "yes", False: "**no**", None: "reported"}


def datasheet(
    name: str,
    items: Sequence[EvalItem],
    checks: Sequence[Checked],
    made: WrittenSet | None = None,
    gate: GateRecord | None = None,
) -> str:
    """The sheet as Markdown. `made` is the record of `evals write`, where the set was written here.

    `gate` is that of `evals gate`, where it is not in `made`.

    It holds no time and no path of this machine. Texts of a model stand as code, in which no Markdown works.
    """
    lines = [f"# Datasheet of {code_span(name)}", ""]
    lines += (
        _motivation(items, made) + _making(made, gate or (made.gate if made else None)) + _composition(items)
    )
    lines += _quality(checks) + _examples(items) + _use(items, made)
    return "\n".join(lines) + "\n"


def _motivation(items: Sequence[EvalItem], made: WrittenSet | None) -> list[str]:
    subjects = list(made.subjects) if made else sorted({item.behavior for item in items} - {""})
    about = ", ".join(map(code_span, subjects)) or "not recorded"
    return ["## Why it is there", "", f"It measures whether a model shows: {about}.", ""]


def _making(made: WrittenSet | None, gate: GateRecord | None) -> list[str]:
    lines = ["## Who wrote and judged it", ""]
    if made is None:
        unknown = "Writer not recorded: the set was not written by `constitute evals write`."
        return [*lines, f"- {unknown}", *_gate(gate), ""] if gate else [*lines, unknown, ""]
    model = ", ".join(f"{key} {code_span(str(value))}" for key, value in made.model.items() if value)
    counts = ", ".join(f"{number} {status}" for status, number in made.counts.items())
    dropped = ", ".join(f"{why}: {number}" for why, number in made.dropped.items() if number) or "none"
    templates = ", ".join(f"{code_span(key)} {value}" for key, value in made.templates.items())
    return [
        *lines,
        f"- Written by a model: {model}.",
        "- While it was written, judged by the same model, by the log-probabilities of the labels.",
        f"- Candidates: {made.candidates} ({counts}); dropped: {dropped}.",
        *_controls(made),
        f"- Prompt templates: {templates}.",
        *(_gate(gate) if gate else ["- No other judge has been asked: `constitute evals gate` does that."]),
        *([] if gate and any(one.people for one in gate.judges) else ["- No person has reviewed the items."]),
        "",
    ]


def _controls(made: WrittenSet) -> list[str]:
    if (found := made.controls) is None:
        return []
    counts = _said(found.counts)
    dropped = ", ".join(f"{why}: {number}" for why, number in found.dropped.items() if number) or "none"
    names = ", ".join(map(code_span, found.constitutions))
    return [
        f"- Controls: {found.kept} of {found.candidates} candidates ({counts}) from {names}; "
        f"judged by {found.relevance} to be none of the principles' business; dropped: {dropped}."
    ]


def _gate(gate: GateRecord) -> list[str]:
    """Who judged afterwards, how, and how far each agrees with the written labels."""
    dropped = ", ".join(f"{why}: {number}" for why, number in gate.dropped.items() if number) or "none"
    lines = [f"- Gate: {gate.kept} of {gate.candidates} items kept; dropped: {dropped}."]
    if gate.kept_unclear:
        lines.append(f"- Kept though a judge was unclear: {gate.kept_unclear}.")
    for one in gate.judges:
        judge = one.judge
        who = {
            (True, True): "**the writer itself, with the same prompt**",
            (False, True): "the writer's model with another prompt",
            (False, False): "another model than the writer",
        }.get((bool(judge.same), bool(judge.same_model)), "")
        if judge.same is None:
            who = "the writer is not known"
        templates = ", ".join(f"{code_span(key)} {value}" for key, value in judge.templates.items())
        lines += [
            f"- Judge {code_span(judge.name)} ({who}), by log-probabilities, prompts {templates}: "
            f"{_said(one.counts)}; {one.orders_disagree} unclear between orders.",
            f"  Labels confirmed: {one.agreement.text()}; Cohen's kappa: {one.kappa.text()}; "
            f"about the behaviour: {one.relevant.text()}; Spearman with the written confidence: "
            f"{one.spearman.text()}.",
        ]
        if one.people is not None:
            lines.append(f"  Kappa against the majority of people: {one.people.text()}.")
    lines.append(f"- Krippendorff's alpha of judges and written labels: {gate.alpha.text()}.")
    if gate.alpha_judges is not None:
        lines.append(f"- Krippendorff's alpha of the judges alone: {gate.alpha_judges.text()}.")
    return lines


def _said(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {status}" for status, number in counts.items())


def _composition(items: Sequence[EvalItem]) -> list[str]:
    answers = Counter(", ".join(sorted(text.strip() for text in item.answers_matching)) for item in items)
    sure = [item.label_confidence for item in items if item.label_confidence is not None]
    lines = ["## What is in it", "", f"- Items: {len(items)}."]
    if len(answers) <= 12:
        told = ", ".join(f"{code_span(label)} {number}" for label, number in sorted(answers.items()))
        lines.append(f"- Answers that show the behaviour: {told}.")
    if contexts := {item.context for item in items} - {""}:
        lines.append(f"- Contexts: {len(contexts)}; items of one count together.")
    if sure:
        middle = sum(sure) / len(sure)
        lines.append(
            f"- Label confidence: {middle:.3f} on average, {min(sure):.3f} at least (n = {len(sure)})."
        )
    return [*lines, ""]


def _quality(checks: Sequence[Checked]) -> list[str]:
    lines = ["## What was checked", "", "| check | passed | what was found |", "|---|---|---|"]
    for found in checks:
        said = _cell(found.said)
        lines.append(f"| {found.check}: {quality_check(found.check).about} | {_ANSWERS[found.ok]} | {said} |")
    lines += ["", "| check | figure | value (95 % interval) | chance |", "|---|---|---|---|"]
    for found in checks:
        for each in found.figures:
            chance = "" if each.chance is None else f"{each.chance:.3f}"
            lines.append(f"| {found.check} | {_cell(each.name)} | {each.estimate.text()} | {chance} |")
    return [*lines, ""]


def _examples(items: Sequence[EvalItem]) -> list[str]:
    """Items spread evenly over the set, as the file has them."""
    lines = ["## Examples", ""]
    step = max(1, len(items) // _SHOWN)
    for item in items[::step][:_SHOWN]:
        shown = {
            "question": item.question,
            "shows the behaviour": item.answers_matching,
            "does not": item.answers_not_matching,
        }
        text = harmless(json.dumps(shown, ensure_ascii=False))
        lines.append(f"- {code_span(text if len(text) <= _LONGEST else text[:_LONGEST] + ' …')}")
    return [*lines, ""]


def _use(items: Sequence[EvalItem], made: WrittenSet | None) -> list[str]:
    digest = hashlib.sha256(dump_items(items).encode()).hexdigest()
    return [
        "## Use",
        "",
        "- Licence: not set; the licence of the model that wrote the items applies."
        if made
        else "- Licence: that of the set's source.",
        f"- SHA-256 of the file: `{digest}`.",
        "- Keep its text out of training data: `constitute data overlap FILE SET.jsonl` finds what has it.",
        "- The checks say nothing of whether it measures the behaviour: that is for people to judge.",
    ]


def _cell(text: str) -> str:
    return harmless(" ".join(text.split())).replace("|", "\\|").replace("<", "&lt;")
