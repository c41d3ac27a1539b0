"""Have a model name rules for pairs that no principle explains, and test them on pairs it did not see.

The question is that of Inverse Constitutional AI (arXiv 2406.06560): which rule would make a reader prefer
the chosen answer. Deviates from the paper in the test: a rule is kept for what it does on held-out pairs, by
a sign test with Holm's correction over all rules that were tried, and not for a share on the pairs it was
written from.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from constitute.constitution.new import GivenWording, principle_of
from constitute.editing.lint.whole import alike
from constitute.editing.recover.ask import Asking, ByPrinciple
from constitute.editing.recover.cases import Case
from constitute.editing.recover.figures import Alone, alone
from constitute.errors import RowError
from constitute.pipeline.drive import run_jobs
from constitute.pipeline.sampler import Sampler
from constitute.pipeline.stage_run import StageRun
from constitute.strict_yaml import shorten
from constitute.templates import render
from constitute.types import Message, Principle, Record, Request, SamplingParams

BATCH, BATCHES, MOST = 5, 8, 12
# Characters of a prompt or an answer that are shown.
SHOWN = 600
WORDS = (3, 40)
SAID = SamplingParams(max_tokens=256, temperature=0.0)
_LINE = re.compile(
    r"\s*(?:[-*\u2022]|\(?\d{1,2}[.):])?\s*(?:\**rule(?: *\d+)?\**\s*[:.]\**)?\s*(.+?)\s*", re.I
)
_MARKED = re.compile(r"\s*(?:[-*\u2022]|\(?\d{1,2}[.):]|\**rule)", re.I)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
# Speaks of the pairs that were shown and not of replies to come.
_OF_THE_PAIRS = re.compile(
    r"\b(?:prompt:|pair \d|pairs|(?:preferred|chosen|rejected|other|first|second) (?:reply|response|answer)"
    r"|(?:reply|response|answer) (?:A|B|1|2)\b|(?:reply|response|answer) was (?:preferred|chosen))",
    re.I,
)


class Candidate(Record):
    """A rule that the model named in `named` batches, as a principle, and how it did on held-out pairs."""

    principle: Principle
    named: int
    tested: Alone
    kept: bool


class Proposed(Record):
    """Rules tested, and lines that are no rule or batches without an answer, by why."""

    candidates: tuple[Candidate, ...]
    batches: int
    refused: dict[str, int]

    @property
    def kept(self) -> tuple[Principle, ...]:
        return tuple(candidate.principle for candidate in self.candidates if candidate.kept)


async def propose(
    asking: Asking,
    unexplained: Sequence[Case],
    held_out: Sequence[Case],
    principles: Sequence[Principle],
    margin: float,
) -> Proposed:
    """Rules named from `unexplained` cases of the training side, each tested on all `held_out` cases."""
    shown = unexplained[: BATCH * BATCHES]
    batches = [shown[at : at + BATCH] for at in range(0, len(shown), BATCH)]
    said, failed = await _said(asking, batches)
    named, refused = rules_of(said, [principle.text for principle in principles])
    refused.update(failed)
    taken = {principle.id for principle in principles}
    drafts = [
        principle_of(GivenWording(text), taken).model_copy(
            update={"draft": True, "source": "proposed by a model from pairs no principle explains"}
        )
        for text in named
    ]
    tested: Sequence[Alone] = ()
    if drafts:
        votes = await asking.votes([case.pair for case in held_out], drafts)
        tested = alone(
            [with_votes(case, votes, drafts) for case in held_out], [draft.id for draft in drafts], margin
        )
    return Proposed(
        candidates=tuple(
            Candidate(principle=draft, named=named[draft.text], tested=row, kept=row.finding == "explains")
            for draft, row in zip(drafts, tested, strict=True)
        ),
        batches=len(batches),
        refused=dict(refused),
    )


async def _said(asking: Asking, batches: Sequence[Sequence[Case]]) -> tuple[list[str], Counter[str]]:
    """The answers, in the order of the batches, and why batches have none."""
    run = StageRun("propose", asking.engine, asking.store, asking.config.seed, asking.progress, True)
    found: dict[int, str] = {}
    failed: Counter[str] = Counter()

    async def one(at: int) -> None:
        question = Message(role="user", content=question_of(batches[at]))
        try:
            answer = await Sampler(run, f"batch/{at}").generate(
                Request(messages=(question,), sampling=SAID), step="propose"
            )
            lines = answer.text.splitlines()
            # A line that was cut says less than was meant.
            found[at] = "\n".join(lines[:-1] if answer.finish_reason == "length" else lines)
        except RowError as problem:
            failed[f"no answer: {problem}"] += 1
        asking.progress.advance("propose", "ok" if at in found else "failed")

    asking.progress.start("propose", len(batches))
    await run_jobs(range(len(batches)), one, max(1, asking.config.engine.in_flight))
    asking.progress.finish("propose")
    asking.asked += run.asked
    asking.reused += run.reused
    return [found[at] for at in sorted(found)], failed


def question_of(cases: Sequence[Case]) -> str:
    """The pairs, shortened, and the question which rule would make a reader prefer the first of each."""
    pairs = [
        {
            "prompt": shorten(case.pair.prompt.messages[-1].content, SHOWN),
            "preferred": shorten(case.preferred, SHOWN),
            "other": shorten(case.other, SHOWN),
        }
        for case in cases
    ]
    return render("propose_principles", pairs=pairs)


def rules_of(answers: Iterable[str], known: Sequence[str]) -> tuple[dict[str, int], Counter[str]]:
    """Rules by how many answers name them, the most often named first, and lines left out, by why.

    A rule near one before it (as `lint` finds near-duplicates) counts for that one; one near a text in
    `known` is left out, as are those beyond the first MOST.
    """
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for answer in answers:
        for text in dict.fromkeys(_rules(answer, refused)):
            counts[text] += 1
    ordered = sorted(counts, key=lambda text: -counts[text])
    # `alike` names the nearest earlier text: what is known stands first, then the rules.
    nearest = {found.later: found for found in alike((*known, *ordered))}
    named: dict[str, int] = {}
    for at, text in enumerate(ordered, len(known)):
        near = nearest.get(at)
        if near is None:
            named[text] = counts[text]
        elif near.earlier < len(known):
            refused["says what a principle says already"] += counts[text]
        else:
            named[ordered[near.earlier - len(known)]] += counts[text]
    kept = dict(sorted(named.items(), key=lambda item: -item[1])[:MOST])
    if len(named) > MOST:
        refused[f"beyond the {MOST} most often named"] += len(named) - MOST
    return kept, refused


def _rules(answer: str, refused: Counter[str]) -> Iterable[str]:
    """The rules of an answer: its lines that are marked as an item of a list or with "Rule"."""
    for line in filter(str.strip, answer.splitlines()):
        match = _LINE.fullmatch(line)
        if match is None or not _MARKED.match(line):
            refused["a line that is no item of a list"] += 1
            continue
        text = " ".join(match[1].replace("**", "").strip("\"'\u201c\u201d* ").split())
        if why := _unusable(text):
            refused[why] += 1
        else:
            yield text[0].upper() + text[1:]


def _unusable(text: str) -> str:
    """Why a text is no rule for replies to come; empty where it may be one."""
    words = len(text.split())
    if words < WORDS[0]:
        return f"fewer than {WORDS[0]} words"
    if words > WORDS[1]:
        return f"more than {WORDS[1]} words"
    if _CONTROL.search(text):
        return "holds a control character"
    if text.endswith((":", "?")):
        return "asks or announces and demands nothing"
    return "speaks of the pairs shown, not of replies to come" if _OF_THE_PAIRS.search(text) else ""


def with_votes(case: Case, votes: ByPrinciple, principles: Sequence[Principle]) -> Case:
    """The case with P(preferred) of each principle, from P(A) by pair and principle."""
    turned = []
    for principle in principles:
        p_a = votes[case.pair.id, principle.id]
        turned.append(p_a if p_a is None or case.first_preferred else 1.0 - p_a)
    return case.model_copy(update={"votes": tuple(turned)})
