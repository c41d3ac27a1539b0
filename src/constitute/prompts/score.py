"""Score prompts: let the model answer each, and ask whether its reply keeps to the principle."""

from __future__ import annotations

from collections.abc import Sequence

from constitute.config import RunConfig
from constitute.constitution.draw import draw
from constitute.constitution.identity import constitution_hash
from constitute.errors import Abstain
from constitute.pipeline.jobs import Session, reasons
from constitute.prompts.ask import words_of
from constitute.prompts.methods import Shot
from constitute.stages.base import Sample
from constitute.stages.labels.read import read
from constitute.stages.labels.yes_no import NO_YES, yes_no_turn
from constitute.templates import template_hash
from constitute.types import Constitution, Message, Principle, Prompt, Record, Request

TEMPLATE = "yes_no"


class Trial(Record):
    """A prompt, put to the model to see whether its reply keeps to the principle."""

    id: str
    text: str
    principle: Principle


class Tried(Record):
    """A model's reply, and P(it does not keep to the principle) as the judge says."""

    reply: str
    score: float


async def scored(
    shots: Sequence[Shot], constitution: Constitution, session: Session
) -> tuple[list[Shot], dict[str, int]]:
    """The prompts with a score, those that had none tried on the model; and why some have none still."""
    by_id = {p.id: p for p in constitution.principles}
    # The same prompt may be written under another principle later: that is another trial.
    trials: dict[str, Trial] = {}
    for shot in shots:
        if shot.score is None:
            principle = words_of(by_id.get(shot.principle_id) or draw(constitution, shot.id, 0))
            trials[shot.id] = Trial(id=f"{shot.id}/{principle.id}", text=shot.text, principle=principle)
    config = session.config

    async def work(row: Trial, sample: Sample) -> Tried:
        return await _try(row, sample, config)

    settings = {
        "reply": config.write_prompts.reply.model_dump(mode="json"),
        "template": template_hash(TEMPLATE),
        "min_mass": config.label.min_mass,
        "constitution": constitution_hash(constitution),
    }
    outcomes = await session.outcomes(
        "prompts-score", settings, list(trials.values()), work, keep_truncated=True
    )
    scores = {o.row_id: Tried.model_validate(o.data).score for o in outcomes if o.status == "ok"}
    told = [
        shot.model_copy(update={"score": scores.get(trials[shot.id].id)}) if shot.score is None else shot
        for shot in shots
    ]
    return told, reasons(outcomes)


async def _try(row: Trial, sample: Sample, config: RunConfig) -> Tried:
    """Let the model answer the prompt and judge the answer. Raises `RowError` and `Abstain`."""
    asked = (Message(role="user", content=row.text),)
    request = Request(messages=asked, sampling=config.write_prompts.reply)
    said = await sample.generate(request, step="reply", principle=row.principle)
    if not (reply := said.text.strip()):
        raise Abstain("the reply is empty")
    turns = yes_no_turn(Prompt(id=row.id, messages=asked), reply, row.principle)
    reading = await read(sample, (turns, "yes-no", row.principle), NO_YES, config.label, "of the reply")
    return Tried(reply=reply, score=reading.shares[0])
