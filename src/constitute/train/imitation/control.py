"""Conditions at inference: tokens that are added to a model, and chat templates that ask for the good mode.

Whoever loads the saved folder, vLLM and transformers included, gets the good mode: its chat template writes
the token, or the request, that good answers were learned under.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch

GOOD, BAD = "<|good|>", "<|bad|>"


def reward_tokens(quantiles: int) -> list[str]:
    """The tokens of Quark, the worst first."""
    return [f"<|reward_{number}|>" for number in range(1, quantiles + 1)]


def opening(template: str, token: str) -> str:
    """`template`, with `token` where the answer begins. Earlier answers stay as they are."""
    # Jinja drops one newline at the end of a template, which would stand before the token.
    return template.removesuffix("\n") + "{% if add_generation_prompt %}" + token + "{% endif %}"


def asking(template: str, request: str) -> str:
    """`template`, with `request` after what the user said last, as `asked` puts it."""
    added = json.dumps(f"\n\n{request}")
    return (
        "{% if messages and messages[-1].role == 'user' and messages[-1].content is string %}"
        "{% set messages = messages[:-1] + [{'role': 'user', 'content': messages[-1].content + "
        + added
        + "}] %}{% endif %}"
        + template
    )


def asked(content: str, request: str) -> str:
    """What the user says with the request, as `asking` renders it."""
    return f"{content}\n\n{request}"


def with_template(tokenizer: Any, template: str) -> Any:
    """A copy of the tokenizer with another chat template."""
    found = copy.deepcopy(tokenizer)
    found.chat_template = template
    return found


def add_tokens(tokenizer: Any, network: Any, names: Sequence[str]) -> list[int]:
    """Add control tokens to tokenizer and network, each with a vector of its own; returns their ids.

    A vector is drawn from the mean and the deviation of the others, by the token's name alone: equal vectors
    would say nothing until they are trained apart, and adapters never train them.
    """
    from tokenizers import AddedToken

    tokenizer.add_tokens(
        [AddedToken(name, special=True, normalized=False) for name in names], special_tokens=True
    )
    ids = [int(tokenizer.convert_tokens_to_ids(name)) for name in names]
    known = network.get_input_embeddings().weight.shape[0]
    if max(ids) >= known:
        network.resize_token_embeddings(max(ids) + 1, mean_resizing=False)
    vectors, outputs = network.get_input_embeddings().weight, network.get_output_embeddings().weight
    with torch.no_grad():
        others = vectors[: min(ids)].float()
        mean, spread = others.mean(dim=0), others.std(dim=0)
        centre = outputs[: min(ids)].float().mean(dim=0)
        for name, place in zip(names, ids, strict=True):
            seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
            noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(seed))
            if outputs is not vectors:
                outputs[place] = centre.to(outputs.dtype)
            vectors[place] = (mean + spread * noise.to(mean.device)).to(vectors.dtype)
    return ids
