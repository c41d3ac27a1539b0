"""Turn a run's records into rows of training sets, in TRL's conversational formats and as HH text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from constitute.hh import format_hh
from constitute.types import LabelledPair, Message, Response

Row = dict[str, Any]


class NotExportable(ValueError):
    """A record that gives no training row; the message is the reason, and is counted."""


def sft_rows(response: Response, revisions: str) -> list[Row]:
    """Rows `{id, messages, principle_ids}` of one response, the system message kept.

    `revisions`: `last` imitates the last revision, `all` every revision (arXiv 2212.08073, section 3.1),
    `none` the response before any revision. Raises `NotExportable` for what holds no such text.
    """
    steps = response.steps
    answers: list[tuple[str, str, list[str]]]
    if revisions == "none":
        answers = [(response.id, response.response, [])]
    elif not steps:
        raise NotExportable("no revision")
    elif revisions == "last":
        answers = [(response.id, steps[-1].revision, [step.principle_id for step in steps])]
    else:
        answers = [
            (f"{response.id}/r{number}", step.revision, [step.principle_id])
            for number, step in enumerate(steps, 1)
        ]
    if not all(text.strip() for _, text, _ in answers):
        raise NotExportable("empty answer")
    return [
        {
            "id": identity,
            "messages": [*_turns(response.prompt.messages), _assistant(text)],
            "principle_ids": principles,
        }
        for identity, text, principles in answers
    ]


def best_of(response: Response, label: LabelledPair | None) -> tuple[str, str | None]:
    """`last` or `none`, as in `sft_rows`: what the label of response against last revision prefers.

    At P = 0.5 the revision stays. The second value says why a label could not choose, None where it did;
    the last revision then stands.
    """
    if not response.steps or response.final == response.response:
        return "last", None
    if label is None:
        return "last", "no label of its revision"
    row, p_a = label.comparison, label.label.p_a
    if (row.a, row.b) != (response.response, response.final):
        return "last", "its label is of other answers"
    return ("none" if p_a > 0.5 else "last"), None


def preference_row(pair: LabelledPair) -> Row:
    """Row `{id, prompt, chosen, rejected, chosen_prob, …}` of a labelled pair.

    `chosen` is the side with P >= 0.5 (A at exactly 0.5) and `chosen_prob` its P, as labelled.
    """
    sides = oriented(pair)
    return {
        "id": pair.id,
        "prompt": _turns(pair.comparison.prompt.messages),
        "chosen": [_assistant(sides.pop("chosen"))],
        "rejected": [_assistant(sides.pop("rejected"))],
        **sides,
    }


def oriented(pair: LabelledPair) -> Row:
    """Chosen and rejected text, their sources, the soft label of the chosen side, and who voted."""
    row, p_a = pair.comparison, pair.label.p_a
    if row.a == row.b:
        raise NotExportable("equal answers")
    flipped = p_a < 0.5
    if flipped:
        row = row.swap()
    return {
        "chosen": row.a,
        "rejected": row.b,
        # 1 - p is exact for p >= 0.5 and rounded to the nearest double (2**-54) below.
        "chosen_prob": 1.0 - p_a if flipped else p_a,
        "chosen_source": row.a_source,
        "rejected_source": row.b_source,
        "principle_ids": [vote.principle_id for vote in pair.label.votes],
    }


def sft_hh_rows(response: Response, revisions: str) -> list[Row]:
    """The rows of `sft_rows` as whole transcripts under `text`."""
    return [
        {
            "id": row["id"],
            "text": _transcript(response.prompt.messages, row["messages"][-1]["content"]),
            "principle_ids": row["principle_ids"],
        }
        for row in sft_rows(response, revisions)
    ]


def preference_hh_row(pair: LabelledPair) -> Row:
    """The row of `preference_row` with whole transcripts as `chosen` and `rejected`."""
    sides = oriented(pair)
    messages = pair.comparison.prompt.messages
    chosen, rejected = _transcript(messages, sides["chosen"]), _transcript(messages, sides["rejected"])
    return {"id": pair.id, **sides, "chosen": chosen, "rejected": rejected}


def _transcript(messages: Sequence[Message], answer: str) -> str:
    try:
        return format_hh(messages, answer)
    except ValueError as problem:
        raise NotExportable(str(problem)) from None


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]


def _assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
