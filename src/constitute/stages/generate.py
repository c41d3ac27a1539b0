"""Sample a response to a prompt."""

from __future__ import annotations

import random

from constitute.config import GenerateConfig
from constitute.errors import RowError
from constitute.stages.base import Sample
from constitute.types import Message, Prompt, Request, Response, SamplingParams


def conversation(prompt: Prompt, system: str) -> tuple[Message, ...]:
    """The prompt's messages, after `system` where it is given and the prompt has no system message."""
    if system and prompt.messages[0].role != "system":
        return (Message(role="system", content=system), *prompt.messages)
    return prompt.messages


async def generate(
    row: Prompt, sample: Sample, rng: random.Random, cfg: GenerateConfig, index: int = 0
) -> Response:
    """Response number `index` to a prompt. Raises `RowError` where the model answers with nothing."""
    sampling = SamplingParams(
        max_tokens=cfg.max_tokens, temperature=cfg.temperature, top_p=cfg.top_p, stop=cfg.stop
    )
    # The system message is part of what was answered: revisions, labels and training data keep it.
    asked = row.model_copy(update={"messages": conversation(row, cfg.system)})
    request = Request(messages=asked.messages, sampling=sampling)
    completion = await sample.generate(request, step="response", index=index)
    text = completion.text.strip()
    if not text:
        raise RowError("the response is empty")
    return Response(id=response_id(row.id, index), prompt=asked, sample=index, response=text)


def response_id(prompt_id: str, index: int) -> str:
    """The id of a prompt's response number `index`."""
    return f"{prompt_id}/{index}"
