"""Sample a response to a prompt; what a model thinks first is no part of it."""

from __future__ import annotations

from constitute.config import GenerateConfig
from constitute.errors import RowError
from constitute.stages.base import Sample, StageSpec
from constitute.types import Constitution, Message, Prompt, Request, Response, SamplingParams


def conversation(prompt: Prompt, system: str) -> tuple[Message, ...]:
    """The prompt's messages, after `system` where it is given and the prompt has no system message."""
    if system and prompt.messages[0].role != "system":
        return (Message(role="system", content=system), *prompt.messages)
    return prompt.messages


async def generate(row: Prompt, sample: Sample, cfg: GenerateConfig, index: int = 0) -> Response:
    """Response number `index` to a prompt. Raises `RowError` where the model answers with nothing."""
    sampling = SamplingParams(
        max_tokens=cfg.max_tokens, temperature=cfg.temperature, top_p=cfg.top_p, stop=cfg.stop
    )
    # The system message is part of what was answered: revisions, labels and training data keep it.
    asked = row.model_copy(update={"messages": conversation(row, cfg.system)})
    request = Request(messages=asked.messages, sampling=sampling, thinking=cfg.thinking_tokens)
    completion = await sample.generate(request, step="response", index=index)
    text = completion.text.strip()
    if not text:
        raise RowError("the response is empty")
    return Response(id=response_id(row.id, index), prompt=asked, sample=index, response=text)


def response_id(prompt_id: str, index: int) -> str:
    """The id of a prompt's response number `index`."""
    return f"{prompt_id}/{index}"


def slot(prompt: Prompt, index: int) -> Prompt:
    """The row of a prompt's response number `index` before it is sampled: the prompt under the response's id.

    Where the prompt was read from is no part of what is asked.
    """
    return prompt.model_copy(update={"id": response_id(prompt.id, index), "source": ""})


async def _work(
    row: Prompt, sample: Sample, cfg: GenerateConfig, constitution: Constitution | None
) -> Response:
    name, _, index = row.id.rpartition("/")
    return await generate(row.model_copy(update={"id": name}), sample, cfg, int(index))


STAGE = StageSpec(
    reads="prompt",
    work=_work,
    settings=GenerateConfig,
    needs_constitution=False,
    may_grow=frozenset({"n"}),
)
