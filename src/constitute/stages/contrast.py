"""Answer each prompt in pairs: once under a principle, once under its opposite (RLCD, arXiv 2307.12950).

The principle stands in the system turn of the question and in no row: pairs, labels and training sets have
the prompt as it was. Deviates from the paper in drawing a principle of the constitution for each pair, in
naming it in a system turn instead of beginning the answer, and in leaving the label to a judge unless
`label.method` is `construction`.
"""

from __future__ import annotations

import hashlib
import json

from constitute.config import ContrastConfig
from constitute.constitution.draw import draw
from constitute.stages.base import Sample, StageSpec
from constitute.stages.generate import conversation, generate, response_id
from constitute.stages.labels.likelihood import FOLLOW, OPPOSITE, instructed
from constitute.types import Constitution, Contrast, Message, Principle, Prompt, Response


def contrast_of(prompt_id: str, index: int, constitution: Constitution) -> Contrast:
    """What answer number `index` is asked to do.

    The principle is the one that is drawn for the pair's id, so `label.principles=one` asks about the same
    one. Which of the two answers follows it is as good as a coin by the pair's id.
    """
    first = index - index % 2
    pair_id = f"{response_id(prompt_id, first)}-{first + 1}"
    coin = hashlib.sha256(json.dumps([pair_id, "contrast"]).encode()).digest()[0] & 1
    return Contrast(principle_id=draw(constitution, pair_id, 0).id, follows=coin == index % 2)


def asked_to(messages: tuple[Message, ...], principle: Principle, follows: bool) -> tuple[Message, ...]:
    """The conversation with the principle, or its opposite, at the end of its system turn.

    The opposite is the principle's own `opposite` where it has one, put as a principle is; else the template
    `follow_opposite` turns the principle's text round.
    """
    if follows:
        return instructed(messages, FOLLOW, principle)
    if principle.opposite:
        return instructed(messages, FOLLOW, principle.model_copy(update={"text": principle.opposite}))
    return instructed(messages, OPPOSITE, principle)


async def contrast(row: Prompt, sample: Sample, cfg: ContrastConfig, constitution: Constitution) -> Response:
    """The answer in a slot of a prompt. Raises `RowError` as `generate` does."""
    name, _, index = row.id.rpartition("/")
    found = contrast_of(name, int(index), constitution)
    principle = next(each for each in constitution.principles if each.id == found.principle_id)
    plain = conversation(row, cfg.system)
    told = row.model_copy(update={"id": name, "messages": asked_to(plain, principle, found.follows)})
    made = await generate(told, sample, cfg, int(index))
    prompt = made.prompt.model_copy(update={"messages": plain})
    return made.model_copy(update={"prompt": prompt, "contrast": found})


def _shows(cfg: ContrastConfig, constitution: Constitution | None) -> dict[str, str]:
    """A digest of the opposites that the constitution's hash leaves out, as no judge reads them."""
    principles = () if constitution is None else constitution.principles
    written = {each.id: each.opposite for each in principles if each.opposite}
    if not written:
        return {}
    text = json.dumps(written, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return {"opposites": hashlib.sha256(text.encode()).hexdigest()}


def _templates(cfg: ContrastConfig) -> tuple[str, ...]:
    return (FOLLOW, OPPOSITE)


STAGE = StageSpec(
    reads="prompt",
    work=contrast,
    settings=ContrastConfig,
    templates=_templates,
    shows=_shows,
    may_grow=frozenset({"n"}),
)
