"""What vLLM is asked with, and what its outputs say; pure functions around its own classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from constitute.types import Completion, SamplingParams


def sampling_params(sampling: SamplingParams, ends: Sequence[int], *, logprobs: bool) -> Any:
    from vllm import SamplingParams as VLLMSampling
    from vllm.sampling_params import RequestOutputKind

    return VLLMSampling(
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        stop=list(sampling.stop) or None,
        stop_token_ids=list(ends),
        seed=sampling.seed,
        logprobs=0 if logprobs else None,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def scoring_params(tokens: Sequence[int]) -> Any:
    from vllm import SamplingParams as VLLMSampling
    from vllm.sampling_params import RequestOutputKind

    return VLLMSampling(
        max_tokens=1,
        temperature=0.0,
        logprob_token_ids=list(tokens),
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def given_params(*, cached: bool = False) -> Any:
    """Parameters that return the log-probability of every token of the prompt.

    With `cached`, of every token after the prefix that is in the cache and the one that follows it.
    """
    from vllm import SamplingParams as VLLMSampling
    from vllm.sampling_params import RequestOutputKind

    return VLLMSampling(
        max_tokens=1,
        temperature=0.0,
        prompt_logprobs=0,
        # None skips the cache, as its tokens have no log-probabilities (vllm/sampling_params.py).
        skip_reading_prefix_cache=False if cached else None,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def holds_all(output: Any, tokens: Sequence[int], start: int) -> bool:
    """Whether an output that read the prefix cache has the log-probability of every token from `start`.

    Where a prefix was in the cache, the places before its end hold memory that was never written, so it has
    to end before `start - 1`, the place that predicts the first of these tokens.
    """
    if output.num_cached_tokens is None or output.num_cached_tokens > start - 1:
        return False
    return all(tokens[place] in output.prompt_logprobs[place] for place in range(start, len(tokens)))


def prompt_logprobs(output: Any, tokens: Sequence[int], start: int) -> list[float]:
    return [output.prompt_logprobs[place][tokens[place]].logprob for place in range(start, len(tokens))]


def reseeded(sampling: SamplingParams, index: int) -> SamplingParams:
    if sampling.seed is None:
        return sampling
    return sampling.model_copy(update={"seed": sampling.seed + index})


def completion_of(output: Any) -> Completion:
    answer = output.outputs[0]
    ids = tuple(answer.token_ids)
    scores: tuple[float, ...] = ()
    if answer.logprobs:
        scores = tuple(place[token].logprob for place, token in zip(answer.logprobs, ids, strict=True))
    return Completion(
        text=answer.text,
        token_ids=ids,
        logprobs=scores,
        finish_reason="length" if answer.finish_reason == "length" else "stop",
        prompt_tokens=len(output.prompt_token_ids),
    )
