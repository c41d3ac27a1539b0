"""vLLM in this process: the engine of data stages, evals and PPO rollouts alike."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterable, Mapping, Sequence
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
from constitute.engines.render import Renderer, RenderSettings
from constitute.engines.tokenizer import load_tokenizer, turn_ends
from constitute.engines.vllm.loop import StepLoop
from constitute.engines.vllm.params import (
    completion_of,
    given_params,
    holds_all,
    prompt_logprobs,
    reseeded,
    sampling_params,
    scoring_params,
)
from constitute.engines.vllm.sleep import Sleeper
from constitute.engines.vllm.start import ENVIRONMENT, start
from constitute.engines.weight_files import copies, folder_for, save_weights
from constitute.errors import EngineError
from constitute.packaged import model_path
from constitute.threads import thread_count, threads_set_to
from constitute.types import Choice, Completion, Request, SamplingParams, Score

if TYPE_CHECKING:
    from constitute.config import EngineConfig


class VLLMEngine:
    """Implements `Engine` and `RolloutEngine`. Open one per process: start and warm-up take tens of seconds.

    Log-probabilities are those of the model's own distribution (temperature 1, nothing cut off), whatever
    the sampling was.
    """

    def __init__(self, model: str, config: EngineConfig) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        self._path = model_path(model)
        tokenizer = load_tokenizer(config.tokenizer or self._path, config.revision)
        ends = turn_ends(self._path, tokenizer, config.revision)
        self._renderer = Renderer(tokenizer, model, ends, RenderSettings.of(config))
        self._stops = tuple(sorted(self._renderer.eos_ids))
        self._folder = config.sync_folder
        self._llm, stays_awake = start(self._path, config)
        self._sleeper = Sleeper(self._llm, stays_awake)
        self._threads = thread_count()
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
        self._sleeper.require_awake()
        prompt = self._renderer.ids(request)
        check_length(len(prompt), self._limit)
        params = sampling_params(self._renderer.sampling(request), self._stops, logprobs=False)
        return self._renderer.completion(request, completion_of(await self._loop.submit(prompt, params)))

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        """Exact log-probabilities: one token position a distinct label prefix, scored in one step."""
        self._sleeper.require_awake()
        return await choose_by_ids(
            self._renderer, request, labels, self._next, limit=self._limit, spelled=spelled
        )

    async def _next(self, prompt: Ids, tokens: Sequence[int]) -> dict[int, float]:
        output = await self._loop.submit(prompt, scoring_params(tokens))
        found = output.outputs[0].logprobs[0]
        return {token: found[token].logprob for token in tokens}

    async def score(self, request: Request, text: str) -> Score:
        """Log-probabilities of `text` as the answer, from one pass over what is not in the prefix cache.

        Where a part of the text itself is in there, it is read once more without the cache.
        """
        self._sleeper.require_awake()
        context = self._renderer.ids(request)
        ids = self._renderer.label_ids(request, text)
        check_length(len(context) + len(ids), self._limit)
        whole = context + ids
        output = await self._loop.submit(whole, given_params(cached=True))
        if not holds_all(output, whole, len(context)):
            output = await self._loop.submit(whole, given_params())
        return Score(token_ids=ids, logprobs=tuple(prompt_logprobs(output, whole, len(context))))

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
        self._sleeper.require_awake()
        for prompt in prompts:
            check_length(len(prompt), self._limit)
        params = [
            sampling_params(reseeded(sampling, index), self._stops, logprobs=logprobs)
            for index in range(len(prompts))
        ]
        outputs = self._loop.run(prompts, params)
        return [
            self._renderer.apart(prompt, sampling, completion_of(output))
            for prompt, output in zip(prompts, outputs, strict=True)
        ]

    def score_ids(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Exact log-probabilities of given tokens, for checks after a weight sync.

        Prompt log-probabilities skip the prefix cache, which costs nothing here: it is empty after a sync.
        """
        self._sleeper.require_awake()
        texts = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
        for text in texts:
            check_length(len(text), self._limit)
        outputs = self._loop.run(texts, [given_params()] * len(texts))
        return [
            prompt_logprobs(output, text, len(prompt))
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
        if fingerprint is None:
            kept = [(name, tensor.detach().clone()) for name, tensor in named_tensors]
            fingerprint = weights_fingerprint((name, tensor_bytes(tensor)) for name, tensor in kept)
            named_tensors = kept
        with self._sleeper.taking_weights():
            self._load(copies(named_tensors, self._llm.llm_engine.model_config.dtype))
        if not self._llm.reset_prefix_cache():
            raise EngineError(
                "vLLM keeps prefixes computed with the old weights; let nothing else use this engine and "
                "continue from the last checkpoint"
            )
        self._identity = self._identity.model_copy(update={"fingerprint": fingerprint})

    def _load(self, named: Iterable[tuple[str, Any]]) -> None:
        """Have every worker load the tensors: one by one here, from a folder in other processes."""
        if self._llm.llm_engine.vllm_config.parallel_config.world_size == 1:
            # On a CPU the layout of packed weights follows from the number of threads, and a kernel that was
            # made with another number reads them in the wrong order, without an error (seen on an AMD EPYC).
            with threads_set_to(self._threads):
                self._llm.collective_rpc("sync_weights", args=(named,))
            return
        held = {name: tensor.to("cpu").contiguous() for name, tensor in named}
        with folder_for(sum(tensor.nbytes for tensor in held.values()), self._folder) as folder:
            save_weights(held, folder)
            answers = self._llm.collective_rpc("sync_folder", args=(str(folder),))
        for answer in answers:
            if answer.get("tensors") != len(held):
                raise EngineError(
                    f"a worker of vLLM loaded {answer.get('tensors', 0)} of {len(held)} new tensors "
                    f"({answer.get('why', 'it gave no reason')}); continue from the last checkpoint"
                )

    def sleep(self) -> bool:
        """Give the GPU's memory back until the next `update_weights`; returns whether it is given back.

        Until then every question raises `EngineError`. Raises `RuntimeError` while requests are in flight.
        """
        if self._loop.pending:
            raise RuntimeError(f"{self._loop.pending} requests are in flight; finish them before a sleep")
        return self._sleeper.rest()

    @property
    def stays_awake(self) -> str:
        """Why `sleep` does nothing; empty where it works."""
        return self._sleeper.stays_awake

    async def close(self) -> None:
        """Free the model and its cache; waiters get `EngineError`."""
        self._loop.close()
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm, self._sleeper = None, Sleeper(None, "it is closed")
            self._loop = StepLoop(None)
            self._loop.close()
            gc.collect()
