"""Judged answers as KTO learns them: tokens, a held-out part, an answer to another prompt for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from constitute.config.train import DPOConfig
from constitute.data.judged import JudgedAnswer
from constitute.engines.render import Renderer
from constitute.errors import DataError
from constitute.progress import Progress
from constitute.train.common.metrics import few_held_out
from constitute.train.reward.pairs import held_out_prompts, prompt_key, target

# Weight times number of desirable answers over that of undesirable ones (arXiv 2402.01306).
_BALANCE = (1.0, 1.5)


@dataclass(frozen=True)
class TokenAnswer:
    """An answer in tokens, its prompt included, and the answer of another row after the same prompt."""

    ids: list[int]
    mismatched: list[int]
    prompt_length: int
    row: JudgedAnswer


@dataclass(frozen=True)
class AnswerSplit:
    """Answers to train on and answers held out, and those left out by reason."""

    train: list[TokenAnswer]
    held_out: list[TokenAnswer]
    too_long: int
    weightless: int
    undecided: int

    @property
    def kinds_held_out(self) -> tuple[int, int]:
        """How many of the answers held out are desirable, and how many undesirable."""
        probs = [answer.row.desirable_prob for answer in self.held_out]
        return sum(prob > 0.5 for prob in probs), sum(prob < 0.5 for prob in probs)

    @property
    def doubt(self) -> str:
        """Why figures on the answers held out say little, for people; empty where they do not."""
        good, bad = self.kinds_held_out
        more = "give more answers, or raise train.dpo.held_out"
        if not self.held_out:
            return ""
        if min(good, bad):
            found = f"{good} desirable and {bad} undesirable answers"
            return few_held_out(found, min(good, bad), more, of=" of a kind")
        missing = " or ".join(name for name, n in (("desirable", good), ("undesirable", bad)) if not n)
        return (
            f"no {missing} answer is among the {len(self.held_out)} held out, so the held-out figures do not "
            f"show whether the policy tells the two kinds apart; {more}"
        )

    def counts(self) -> dict[str, int]:
        """The numbers of answers, as the summary names them."""
        desirable = sum(answer.row.desirable_prob > 0.5 for answer in self.train)
        good, bad = self.kinds_held_out
        return {
            "answers": len(self.train),
            "answers_desirable": desirable,
            "answers_held_out": len(self.held_out),
            "answers_held_out_desirable": good,
            "answers_held_out_undesirable": bad,
            "answers_too_long": self.too_long,
            "answers_weightless": self.weightless,
            "answers_undecided": self.undecided,
        }


def split_answers(
    answers: Sequence[JudgedAnswer], renderer: Renderer, config: DPOConfig, seed: int
) -> AnswerSplit:
    """Tokenise the answers and hold out a share of the prompts; a prompt is on one side only.

    Left out and counted: answers over `max_length`, of weight 0, and, under hard labels, those that are
    neither desirable nor undesirable.
    """
    weighty = [answer for answer in answers if answer.weight > 0]
    decided = [each for each in weighty if config.labels != "hard" or each.desirable_prob != 0.5]
    held = held_out_prompts((each.prompt for each in decided), config.held_out, seed)
    partners = other_answers(decided)
    split = AnswerSplit([], [], 0, len(answers) - len(weighty), len(weighty) - len(decided))
    too_long = 0
    for each, other in zip(decided, partners, strict=True):
        start = renderer.prompt_ids(each.prompt)
        ids = start + renderer.answer_ids(each.prompt, each.answer)
        if len(ids) > config.max_length:
            too_long += 1
            continue
        # Cut where it is too long: what it measures is a mean over tokens that nobody wrote for this prompt.
        mismatched = (start + renderer.answer_ids(each.prompt, other))[: config.max_length]
        side = split.held_out if prompt_key(each.prompt, seed) in held else split.train
        side.append(TokenAnswer(ids, mismatched, len(start), each))
    return replace(split, too_long=too_long)


def other_answers(answers: Sequence[JudgedAnswer]) -> list[str]:
    """For each row an answer to another prompt: of the next rows that share one, the one in the same place.

    After the last prompt comes the first. Where all rows share a prompt, each gets the next row's answer.
    """
    runs = [[row.answer for row in rows] for _, rows in groupby(answers, key=lambda row: row.prompt)]
    if len(runs) == 1:
        return [*runs[0][1:], runs[0][0]]
    after = [*runs[1:], runs[0]]
    return [
        following[place % len(following)]
        for run, following in zip(runs, after, strict=True)
        for place in range(len(run))
    ]


def check_both_kinds(split: AnswerSplit, config: DPOConfig, progress: Progress) -> None:
    """Raise `DataError` unless there are answers of both kinds to train on; note weights out of balance."""
    probs = [target(answer.row.desirable_prob, config.labels) for answer in split.train]
    good = sum(probs)
    bad = len(probs) - good
    if not good or not bad:
        left = (
            f"{split.too_long} are longer than {config.max_length} tokens, {split.weightless} have weight 0, "
            f"{split.undecided} are neither desirable nor undesirable and {len(split.held_out)} are held out"
        )
        raise DataError(
            f"KTO needs answers of both kinds, and all {len(probs)} to train on are "
            f"{'undesirable' if bad else 'desirable'} ({left}); add others, or set train.dpo.kto_threshold "
            "between the scores"
            if probs
            else f"no answer is left to train on: {left}; raise train.dpo.max_length or lower "
            "train.dpo.held_out"
        )
    balance = config.kto_desirable * good / (config.kto_undesirable * bad)
    if not _BALANCE[0] * 0.95 <= balance <= _BALANCE[1] * 1.05:
        progress.note(
            f"desirable answers count {balance:.2g} times as much as undesirable ones in all ({good:g} and "
            f"{bad:g}); KTO's authors keep this from {_BALANCE[0]:g} to {_BALANCE[1]:g}: set "
            f"train.dpo.kto_desirable={config.kto_undesirable * bad / good:.2g}"
        )
