"""vLLM in this process: the engine of data stages, evals and PPO rollouts alike."""

from __future__ import annotations

import gc
import logging
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from constitute.engines.base import (
    Ability,
    Ids,
    ModelIdentity,
    as_bytes,
    check_length,
)
from constitute.engines.choosing import choose_by_ids
from constitute.engines.identity import local_identity, tensor_bytes, weights_fingerprint
from constitute.engines.locate import reason_of, require
from constitute.engines.render import Renderer, RenderSettings
from constitute.engines.tokenizer import load_tokenizer, turn_ends
from constitute.engines.vllm.loop import StepLoop
from constitute.errors import EngineError, UsageError
from constitute.packaged import model_path
from constitute.threads import use_threads
from constitute.types import Choice, Completion, Request, SamplingParams, Score

if TYPE_CHECKING:
    from constitute.config import EngineConfig

_GPU_MEMORY = 0.9
_GIB = 1 << 30
# Enough for 256 short conversations with a small model; a larger one says what it needs at start.
_CPU_CACHE_GIB = 1.0
# Prefixes are shared in whole blocks, and vLLM's 128 tokens on a CPU are most of a short question.
_CPU_BLOCK = 32
_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


class VLLMEngine:
    """Implements `Engine` and `RolloutEngine`. Open one per process: start and warm-up take tens of seconds.

    Log-probabilities are those of the model's own distribution (temperature 1, nothing cut off), whatever
    the sampling was.
    """

    def __init__(self, model: str, config: EngineConfig) -> None:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._path = model_path(model)
        tokenizer = load_tokenizer(config.tokenizer or self._path, config.revision)
        ends = turn_ends(self._path, tokenizer, config.revision)
        self._renderer = Renderer(tokenizer, model, ends, RenderSettings.of(config))
        self._stops = tuple(sorted(self._renderer.eos_ids))
        self._llm = _start(self._path, config)
        self._loop = StepLoop(self._llm.llm_engine)
        self._limit = int(self._llm.llm_engine.model_config.max_model_len)
        self._identity = local_identity("vllm", model, self._path, config.revision, self._renderer)

    @property
    def identity(self) -> ModelIdentity:
        return self._identity

    @property
    def context_length(self) -> int | None:
        return self._limit

    def prompt_ids(self, request: Request) -> tuple[int, ...]:
        """Token ids of the prompt; raises `RowError` for one the chat template refuses."""
        return self._renderer.ids(request)

    def rendered(self, request: Request) -> bytes:
        """Prompt token ids as bytes."""
        return as_bytes(self.prompt_ids(request))

    async def generate(self, request: Request) -> Completion:
        """One completion; text past the context's end is cut and finishes with "length"."""
        prompt = self._renderer.ids(request)
        check_length(len(prompt), self._limit)
        params = _sampling(self._renderer.sampling(request), self._stops, logprobs=False)
        return self._renderer.completion(request, _completion(await self._loop.submit(prompt, params)))

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        """Exact log-probabilities: one token position a distinct label prefix, scored in one step."""
        return await choose_by_ids(
            self._renderer, request, labels, self._next, limit=self._limit, spelled=spelled
        )

    async def _next(self, prompt: Ids, tokens: Sequence[int]) -> dict[int, float]:
        output = await self._loop.submit(prompt, _scoring(tokens))
        found = output.outputs[0].logprobs[0]
        return {token: found[token].logprob for token in tokens}

    async def score(self, request: Request, text: str) -> Score:
        """Log-probabilities of `text` as the answer, from one pass over what is not in the prefix cache.

        Where a part of the text itself is in there, it is read once more without the cache.
        """
        context = self._renderer.ids(request)
        ids = self._renderer.label_ids(request, text)
        check_length(len(context) + len(ids), self._limit)
        whole = context + ids
        output = await self._loop.submit(whole, _given(cached=True))
        if not holds_all(output, whole, len(context)):
            output = await self._loop.submit(whole, _given())
        return Score(token_ids=ids, logprobs=tuple(_prompt_logprobs(output, whole, len(context))))

    @property
    def lacks(self) -> Mapping[Ability, str]:
        """Nothing."""
        return {}

    @property
    def dtype(self) -> str:
        """The dtype of the weights."""
        return str(self._llm.llm_engine.model_config.dtype).removeprefix("torch.")

    def generate_ids(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, *, logprobs: bool
    ) -> list[Completion]:
        """Block for one completion a prompt; prompt i is seeded with `sampling.seed + i`.

        `logprobs` are of the sampled tokens at temperature 1, whatever the sampling temperature.
        """
        for prompt in prompts:
            check_length(len(prompt), self._limit)
        params = [
            _sampling(_reseeded(sampling, index), self._stops, logprobs=logprobs)
            for index in range(len(prompts))
        ]
        outputs = self._loop.run(prompts, params)
        return [
            self._renderer.apart(prompt, sampling, _completion(output))
            for prompt, output in zip(prompts, outputs, strict=True)
        ]

    def score_ids(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Exact log-probabilities of given tokens, for checks after a weight sync.

        Prompt log-probabilities skip the prefix cache, which costs nothing here: it is empty after a sync.
        """
        texts = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
        for text in texts:
            check_length(len(text), self._limit)
        outputs = self._loop.run(texts, [_given()] * len(texts))
        return [
            _prompt_logprobs(output, text, len(prompt))
            for prompt, text, output in zip(prompts, texts, outputs, strict=True)
        ]

    def update_weights(
        self, named_tensors: Iterable[tuple[str, Any]], *, fingerprint: str | None = None
    ) -> None:
        """Replace the weights and drop every cached prefix; the identity changes with them.

        Raises `RuntimeError` while requests are in flight: half an answer would be another model's.
        """
        if self._loop.pending:
            raise RuntimeError(
                f"{self._loop.pending} requests are in flight; finish them before a weight sync"
            )
        model = self._llm.llm_engine.model_config
        if fingerprint is None:
            kept = [(name, tensor.detach().clone()) for name, tensor in named_tensors]
            fingerprint = weights_fingerprint((name, tensor_bytes(tensor)) for name, tensor in kept)
            named_tensors = kept
        copies: Iterable[tuple[str, Any]] = _copies(named_tensors, model.dtype)
        if self._llm.llm_engine.vllm_config.parallel_config.world_size > 1:
            # Workers in other processes are sent what they load, whole.
            copies = list(copies)
        self._llm.collective_rpc("sync_weights", args=(copies,))
        if not self._llm.reset_prefix_cache():
            raise EngineError(
                "vLLM keeps prefixes computed with the old weights; let nothing else use this engine and "
                "continue from the last checkpoint"
            )
        self._identity = self._identity.model_copy(update={"fingerprint": fingerprint})

    async def close(self) -> None:
        """Free the model and its cache; waiters get `EngineError`."""
        self._loop.close()
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None
            self._loop = StepLoop(None)
            self._loop.close()
            gc.collect()


def _copies(named: Iterable[tuple[str, Any]], dtype: Any) -> Iterator[tuple[str, Any]]:
    """One tensor after another, as the engine holds it.

    The loader keeps a tensor until its layer is whole, and the caller may free or overwrite it as soon as
    the next one is asked for: only a copy is safe.
    """
    for name, tensor in named:
        yield name, tensor.detach().to(dtype if tensor.is_floating_point() else tensor.dtype, copy=True)


def _start(path: str, config: EngineConfig) -> Any:
    """A ready `LLM`; raises `UsageError` for a bad model or setting, `EngineError` where it cannot start."""
    # The stepping loop needs the engine in this process.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
    # vLLM uses deprecated torch names; users can do nothing about it.
    warnings.filterwarnings("ignore", category=FutureWarning, module="vllm")
    try:
        import torch
        from vllm import LLM
        from vllm.platforms import current_platform
    except ImportError as problem:
        raise UsageError(
            f"vLLM cannot be imported ({problem}); install constitute[vllm] (GPU) or constitute[cpu], or set "
            "engine.kind=transformers"
        ) from problem
    require(path)
    on_cpu = current_platform.is_cpu()
    use_threads(path, config.threads)
    set_num_threads = torch.set_num_threads
    cache = config.kv_cache_gib or (_CPU_CACHE_GIB if on_cpu else None)
    try:
        return LLM(
            model=path,
            tokenizer=config.tokenizer or path,
            revision=config.revision,
            # bf16 kernels die with SIGILL on CPUs that only claim to have them.
            dtype="float32" if on_cpu and config.dtype == "auto" else config.dtype,
            enforce_eager=on_cpu,
            # A seeded request whose prompt is split over two steps kills vLLM 0.31 on a CPU ("CPU Generator
            # does not use offset", v1/worker/gpu_model_runner.py), so prompts are never split there.
            enable_chunked_prefill=False if on_cpu else None,
            block_size=_CPU_BLOCK if on_cpu else None,
            max_model_len=config.context_length,
            max_num_seqs=min(config.in_flight, 1024),
            kv_cache_memory_bytes=int(cache * _GIB) if cache else None,
            gpu_memory_utilization=config.gpu_memory or _GPU_MEMORY,
            tensor_parallel_size=config.tensor_parallel,
            load_format="safetensors",
            trust_remote_code=False,
            enable_prefix_caching=True,
            disable_log_stats=True,
            use_tqdm_on_load=False,
            worker_extension_cls="constitute.engines.vllm.worker.WeightSync",
        )
    except (ValueError, OSError) as problem:
        raise UsageError(f"vLLM cannot load {path!r}: {_our_words(reason_of(problem))}") from problem
    except (RuntimeError, NotImplementedError) as problem:
        raise EngineError(
            f"vLLM cannot start with {path!r}: {reason_of(problem)}; run `constitute doctor`"
        ) from problem
    finally:
        # On a CPU vLLM puts a function in its place that does nothing; trainers in this process need it.
        torch.set_num_threads = set_num_threads


def _our_words(reason: str) -> str:
    """vLLM's reason; where it is about the length of the context, its first sentence and our setting."""
    if "max_model_len" not in reason:
        return reason
    return f"{reason.split('. ')[0]}; lower engine.context_length, or leave it out for the model's own"


def _sampling(sampling: SamplingParams, ends: Sequence[int], *, logprobs: bool) -> Any:
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


def _scoring(tokens: Sequence[int]) -> Any:
    from vllm import SamplingParams as VLLMSampling
    from vllm.sampling_params import RequestOutputKind

    return VLLMSampling(
        max_tokens=1,
        temperature=0.0,
        logprob_token_ids=list(tokens),
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _given(*, cached: bool = False) -> Any:
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


def _prompt_logprobs(output: Any, tokens: Sequence[int], start: int) -> list[float]:
    return [output.prompt_logprobs[place][tokens[place]].logprob for place in range(start, len(tokens))]


def _reseeded(sampling: SamplingParams, index: int) -> SamplingParams:
    if sampling.seed is None:
        return sampling
    return sampling.model_copy(update={"seed": sampling.seed + index})


def _completion(output: Any) -> Completion:
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
