"""Score prompts: let the model answer each, and judge whether its reply breaks the principle.

`yes_no` asks; `likelihood` compares how likely the principle makes the reply, for models that are too small
to be asked. Each gives P(the reply breaks the principle), from log-probabilities.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from constitute.config import LabelConfig, RunConfig
from constitute.constitution.draw import draw
from constitute.constitution.identity import constitution_hash
from constitute.errors import Abstain
from constitute.pipeline.jobs import Session, reasons
from constitute.prompts.ask import words_of
from constitute.prompts.methods import Shot
from constitute.registry import registered
from constitute.stages.base import Sample
from constitute.stages.labels.likelihood import METHOD as LIKELIHOOD
from constitute.stages.labels.likelihood import sigmoid, worth
from constitute.stages.labels.read import read
from constitute.stages.labels.yes_no import METHOD as YES_NO
from constitute.stages.labels.yes_no import NO_YES, yes_no_turn
from constitute.templates import template_hash
from constitute.types import Constitution, Message, Principle, Prompt, Record, Request

Scorer = Callable[[tuple[Message, ...], str, Principle, Sample, LabelConfig], Awaitable[float]]


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
    name: str, shots: Sequence[Shot], constitution: Constitution, session: Session
) -> tuple[list[Shot], dict[str, int]]:
    """The prompts with a score, those that had none tried on the model; and why some have none still."""
    by_id = {p.id: p for p in constitution.principles}
    # The same prompt may be written under another principle later: that is another trial.
    trials: dict[str, Trial] = {}
    for shot in shots:
        if shot.score is None:
            principle = words_of(by_id.get(shot.principle_id) or draw(constitution, shot.id, 0))
            trials[shot.id] = Trial(id=f"{shot.id}/{principle.id}", text=shot.text, principle=principle)
    if not trials:
        return list(shots), {}
    config = session.config

    async def work(row: Trial, sample: Sample) -> Tried:
        return await _try(row, sample, config)

    settings = {
        "reply": config.write_prompts.reply.model_dump(mode="json"),
        "score": config.write_prompts.score,
        "likelihood": config.label.likelihood.model_dump(mode="json"),
        "templates": score_templates(config),
        "min_mass": config.label.min_mass,
        "constitution": constitution_hash(constitution),
    }
    outcomes = await session.outcomes(
        f"prompts-score/{name}", settings, list(trials.values()), work, keep_truncated=True
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
    broken = await scorer(config.write_prompts.score)(asked, reply, row.principle, sample, config.label)
    return Tried(reply=reply, score=broken)


async def by_yes_no(
    asked: tuple[Message, ...], reply: str, principle: Principle, sample: Sample, cfg: LabelConfig
) -> float:
    """P(No) to whether the reply keeps to the principle."""
    turns = yes_no_turn(Prompt(id="asked", messages=asked), reply, principle)
    reading = await read(sample, (turns, "yes-no", principle), NO_YES, cfg, "for the reply")
    return reading.shares[0]


async def by_likelihood(
    asked: tuple[Message, ...], reply: str, principle: Principle, sample: Sample, cfg: LabelConfig
) -> float:
    """1 - P(the principle was followed), where both are as likely beforehand; `label.likelihood` says how."""
    said = await worth(Prompt(id="asked", messages=asked), reply, principle, sample, cfg)
    return sigmoid(-cfg.likelihood.sharpness * said)


# Name -> (how a reply is scored, the templates of its questions).
SCORERS: dict[str, tuple[Scorer, Callable[[LabelConfig], tuple[str, ...]]]] = {
    "yes_no": (by_yes_no, YES_NO.templates),
    "likelihood": (by_likelihood, LIKELIHOOD.templates),
}


def scorer(name: str) -> Scorer:
    """The scorer of that name; raises `UsageError` naming the nearest one that exists."""
    found: Scorer = registered(SCORERS, name, "write_prompts.score")[0]
    return found


def score_templates(config: RunConfig) -> dict[str, str]:
    """The hashes of the templates that scores depend on."""
    scorer(config.write_prompts.score)
    names = SCORERS[config.write_prompts.score][1](config.label)
    return {name: template_hash(name) for name in names}
