"""Have a policy answer freely: one or several samples an item, or a conversation that an auditor leads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from constitute.config.evals import EvalsConfig
from constitute.errors import RowError
from constitute.evals.asking import asked, form_of
from constitute.evals.families.base import one_sentence, say
from constitute.evals.families.probe import behavior_of
from constitute.evals.text.records import Answers, Talk
from constitute.pipeline.jobs import Session
from constitute.stages.base import Sample
from constitute.templates import render, template_hash
from constitute.types import EvalItem, Message, Outcome, Request

_ASKING = {"mode", "instruction", "opening", "reply"}


async def answer_set(
    name: str, policy: str, items: Sequence[EvalItem], digest: str, session: Session
) -> list[Outcome]:
    """`Answers` of each item. A cut-off answer is kept and counted; an empty one fails."""
    cfg = session.config.evals
    settings = {"items": digest, "samples": cfg.samples or 1, **cfg.model_dump(mode="json", include=_ASKING)}

    async def work(item: EvalItem, sample: Sample) -> Answers:
        request = asked(item, cfg).model_copy(update={"sampling": cfg.reply})
        texts, cut = [], 0
        for index in range(cfg.samples or 1):
            text, was_cut = await _answer(request, sample, "answer", index)
            texts.append(text)
            cut += was_cut
        return Answers(id=item.id, item=item, texts=tuple(texts), cut=cut)

    stage = f"evals-answer/{name}/{policy}"
    return await session.outcomes(stage, settings, items, work, keep_truncated=True)


async def _answer(request: Request, sample: Sample, step: str, index: int = 0) -> tuple[str, bool]:
    completion = await sample.generate(request, step=step, index=index)
    if not (text := completion.text.strip()):
        raise RowError(f"the {step} is empty")
    return text, completion.finish_reason == "length"


async def converse(
    name: str, policy: str, items: Sequence[EvalItem], digest: str, session: Session, auditor: Session
) -> list[Outcome]:
    """`Talk` of each item with `evals.turns` answers of the policy; one that lacks a turn has failed.

    The auditor writes between the policy's turns and never after the last.
    """
    cfg = session.config.evals
    ended: dict[str, Outcome] = {}
    talks = [
        Talk(id=item.id, item=item, messages=(Message(role="user", content=item.question),)) for item in items
    ]
    settings: dict[str, Any] = {
        "items": digest,
        "policy": session.model,
        "auditor": auditor.model,
        "prompts": {"evals_auditor": template_hash("evals_auditor")},
        **cfg.model_dump(mode="json", include={"mode", "reply", "request"}),
    }
    for turn in range(1, cfg.turns + 1):
        if turn > 1:
            talks = await _step(f"evals-audit/{name}/{policy}/{turn}", settings, talks, ended, auditor, _user)
        stage = f"evals-talk/{name}/{policy}/{turn}"
        talks = await _step(stage, settings, talks, ended, session, _assistant)
    return [ended[item.id] for item in items]


async def _step(
    stage: str,
    settings: dict[str, Any],
    talks: Sequence[Talk],
    ended: dict[str, Outcome],
    session: Session,
    work: Any,
) -> list[Talk]:
    """The talks with one more message each; `ended` holds how each ended so far."""
    cfg = session.config.evals

    async def one(talk: Talk, sample: Sample) -> Talk:
        grown: Talk = await work(talk, sample, cfg)
        return grown

    outcomes = await session.outcomes(stage, settings, talks, one, keep_truncated=work is _assistant)
    before = {talk.id: talk for talk in talks}
    for outcome in outcomes:
        # What was said before a turn failed is still shown.
        data = outcome.data if outcome.status == "ok" else before[outcome.row_id].model_dump(mode="json")
        ended[outcome.row_id] = outcome.model_copy(update={"data": data})
    return [Talk.model_validate(o.data) for o in outcomes if o.status == "ok"]


async def _user(talk: Talk, sample: Sample, cfg: EvalsConfig) -> Talk:
    turn = len(talk.answers) + 1
    prompt = render(
        "evals_auditor",
        behavior=behavior_of(talk.item),
        plan=talk.item.statement,
        messages=talk.messages,
    )
    text = one_sentence(await say(sample, [("user", prompt)], cfg.request, f"auditor's turn {turn}"))
    return talk.model_copy(update={"messages": (*talk.messages, Message(role="user", content=text))})


async def _assistant(talk: Talk, sample: Sample, cfg: EvalsConfig) -> Talk:
    turn = len(talk.answers) + 1
    request = Request(messages=talk.messages, sampling=cfg.reply, form=form_of(cfg))
    text, cut = await _answer(request, sample, f"policy's turn {turn}")
    messages = (*talk.messages, Message(role="assistant", content=text))
    return talk.model_copy(update={"messages": messages, "cut": talk.cut + cut})
