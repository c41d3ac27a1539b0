"""Plain transformers: the portable fallback where vLLM is not installed, and the reference in tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from constitute.engines.base import Ability, Ids, ModelIdentity, as_bytes, branches, check_length
from constitute.engines.choosing import choose_by_ids
from constitute.engines.decoding import Sampled, next_batch, sample_batch, score_batch
from constitute.engines.identity import local_identity, tensor_bytes, weights_fingerprint
from constitute.engines.locate import reason_of, require
from constitute.engines.render import Renderer, RenderSettings
from constitute.engines.tokenizer import load_tokenizer, turn_ends
from constitute.errors import EngineError, UsageError
from constitute.packaged import model_path
from constitute.threads import use_threads
from constitute.types import Choice, Completion, Request, SamplingParams, Score

if TYPE_CHECKING:
    from constitute.config import EngineConfig

# Rows in one forward pass, and seconds to wait for more of them.
_BATCH = 64
_WINDOW_S = 0.005

Kind = Literal["sample", "score", "next"]


class Job(NamedTuple):
    """A completion to sample, one to score, or tokens to score as the next one."""

    kind: Kind
    prompt: Ids
    tokens: Ids = ()
    sampling: SamplingParams = SamplingParams()


Waiting = tuple[Job, "asyncio.Future[Any]"]


class TransformersEngine:
    """Implements `Engine` and `RolloutEngine`; requests waiting together share a padded batch.

    Log-probabilities are those of the model's own distribution (temperature 1, nothing cut off).
    """

    def __init__(self, model: str, config: EngineConfig) -> None:
        self._path = model_path(model)
        tokenizer = load_tokenizer(config.tokenizer or self._path, config.revision)
        ends = turn_ends(self._path, tokenizer, config.revision)
        self._renderer = Renderer(tokenizer, model, ends, RenderSettings.of(config))
        self._model: Any = _load(self._path, config)
        use_threads(self._path, config.threads)
        settings = self._model.config.get_text_config()
        own = getattr(settings, "max_position_embeddings", None)
        self._limit: int | None = config.context_length or own
        self._ends = self._renderer.eos_ids
        # Padded columns are masked out, so any valid id will do where a model has no pad token.
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._batch = min(_BATCH, config.in_flight)
        self._waiting: list[Waiting] = []
        self._driver: asyncio.Task[None] | None = None
        self._identity = local_identity("transformers", model, self._path, config.revision, self._renderer)

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
        job = Job("sample", prompt, sampling=self._renderer.sampling(request))
        completion: Completion = await self._submit(job)
        return self._renderer.completion(request, completion.model_copy(update={"logprobs": ()}))

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        """Exact log-probabilities: a pass for each distinct beginning of the labels, or each label if fewer.

        Labels of many tokens, such as whole replies, are teacher-forced.
        """
        if not spelled:
            context = self._renderer.ids(request)
            ids = [self._renderer.label_ids(request, label) for label in labels]
            if len(branches(ids)) > len(ids):
                check_length(len(context) + max(map(len, ids)) - 1, self._limit)
                scores = await asyncio.gather(*(self._submit(Job("score", context, label)) for label in ids))
                return Choice(labels=tuple(labels), logprobs=tuple(sum(score) for score in scores))
        return await choose_by_ids(
            self._renderer, request, labels, self._next, limit=self._limit, spelled=spelled
        )

    async def _next(self, prompt: Ids, tokens: Sequence[int]) -> dict[int, float]:
        found = await self._submit(Job("next", prompt, tuple(tokens)))
        return dict(zip(tokens, found, strict=True))

    async def score(self, request: Request, text: str) -> Score:
        """Log-probabilities of `text` as the answer, teacher-forced."""
        context = self._renderer.ids(request)
        ids = self._renderer.label_ids(request, text)
        check_length(len(context) + len(ids) - 1, self._limit)
        return Score(token_ids=ids, logprobs=tuple(await self._submit(Job("score", context, ids))))

    @property
    def lacks(self) -> Mapping[Ability, str]:
        """Nothing."""
        return {}

    @property
    def dtype(self) -> str:
        """The dtype of the weights."""
        return str(self._model.dtype).removeprefix("torch.")

    def generate_ids(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, *, logprobs: bool
    ) -> list[Completion]:
        """Block for one completion a prompt; prompt i is seeded with `sampling.seed + i`.

        `logprobs` are of the sampled tokens at temperature 1, whatever the sampling temperature.
        """
        jobs: list[Job] = []
        for index, prompt in enumerate(prompts):
            check_length(len(prompt), self._limit)
            seed = None if sampling.seed is None else sampling.seed + index
            seeded = sampling.model_copy(update={"seed": seed})
            jobs.append(Job("sample", tuple(prompt), sampling=seeded))
        completions: list[Completion] = [
            self._renderer.apart(prompt, sampling, completion)
            for prompt, completion in zip(prompts, self._in_batches(jobs, self._sample), strict=True)
        ]
        return completions if logprobs else [c.model_copy(update={"logprobs": ()}) for c in completions]

    def score_ids(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Exact log-probabilities of given tokens."""
        jobs = [
            Job("score", tuple(prompt), tuple(completion))
            for prompt, completion in zip(prompts, completions, strict=True)
        ]
        return self._in_batches(jobs, self._score)

    def update_weights(
        self, named_tensors: Iterable[tuple[str, Any]], *, fingerprint: str | None = None
    ) -> None:
        """Copy new weights in; raises `EngineError` where names do not fit the model."""
        if self._waiting or (self._driver is not None and not self._driver.done()):
            raise RuntimeError("requests are in flight; finish them before a weight sync")
        named = {name: tensor.detach().clone() for name, tensor in named_tensors}
        if not set(named) <= set(self._model.state_dict()):
            named = self._own_names(named)
        missing, unexpected = self._model.load_state_dict(named, strict=False)
        tied = set(getattr(self._model, "all_tied_weights_keys", None) or ())
        if unexpected or set(missing) - tied:
            raise EngineError(
                f"new weights do not fit the model: missing {sorted(set(missing) - tied)[:3]}, "
                f"unexpected {list(unexpected)[:3]}; push a checkpoint of the same architecture"
            )
        if fingerprint is None:
            fingerprint = weights_fingerprint((name, tensor_bytes(tensor)) for name, tensor in named.items())
        self._identity = self._identity.model_copy(update={"fingerprint": fingerprint})

    def _own_names(self, named: dict[str, Any]) -> dict[str, Any]:
        """Checkpoint tensors as this model holds them: transformers keeps a layer's experts in one tensor."""
        tied = set(getattr(self._model, "all_tied_weights_keys", None) or ())
        model, loading = type(self._model).from_pretrained(
            None,
            config=self._model.config,
            state_dict=named,
            dtype=self._model.dtype,
            output_loading_info=True,
        )
        if loading["missing_keys"] or loading["unexpected_keys"]:
            return named
        return {name: tensor for name, tensor in model.state_dict().items() if name not in tied}

    async def close(self) -> None:
        """Free the model; whatever still waits gets `EngineError`."""
        for _, future in self._waiting:
            if not future.done():
                future.set_exception(EngineError("the engine was closed; open it again to go on"))
        self._waiting = []
        self._model = None

    async def _submit(self, job: Job) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        if self._model is None:
            raise EngineError("the engine was closed; open it again to go on")
        self._waiting.append((job, future))
        if self._driver is None or self._driver.done() or self._driver.get_loop() is not loop:
            self._driver = loop.create_task(self._drive())
        return await future

    async def _drive(self) -> None:
        while self._waiting:
            await asyncio.sleep(_WINDOW_S)
            # One kind of work a batch: whatever the oldest request wants.
            kind = self._waiting[0][0].kind if self._waiting else "sample"
            batch: list[Waiting] = []
            left: list[Waiting] = []
            for item in self._waiting:
                fits = item[0].kind == kind and len(batch) < self._batch
                (batch if fits else left).append(item)
            self._waiting = left
            live = [(job, future) for job, future in batch if not future.done()]
            if not live:
                continue
            work = {"sample": self._sample, "score": self._score, "next": self._score_next}[kind]
            try:
                answers = await asyncio.to_thread(work, [job for job, _ in live])
            except Exception as problem:
                # Every waiting request must end. A RuntimeError, as of memory, becomes one sentence.
                trouble = isinstance(problem, RuntimeError)
                error = EngineError(f"transformers stopped: {problem}; lower engine.in_flight")
                for _, future in live:
                    if not future.done():
                        future.set_exception(error if trouble else problem)
                continue
            for (_, future), answer in zip(live, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    def _in_batches(self, jobs: Sequence[Job], work: Callable[[Sequence[Job]], list[Any]]) -> list[Any]:
        return [
            answer
            for start in range(0, len(jobs), self._batch)
            for answer in work(jobs[start : start + self._batch])
        ]

    def _score(self, jobs: Sequence[Job]) -> list[Any]:
        return score_batch(
            self._model, [job.prompt for job in jobs], [job.tokens for job in jobs], pad=self._pad
        )

    def _score_next(self, jobs: Sequence[Job]) -> list[Any]:
        return next_batch(
            self._model, [job.prompt for job in jobs], [job.tokens for job in jobs], pad=self._pad
        )

    def _sample(self, jobs: Sequence[Job]) -> list[Any]:
        samplings = [job.sampling for job in jobs]
        prompts = [job.prompt for job in jobs]
        rows = sample_batch(
            self._model,
            prompts,
            samplings,
            ends=self._ends,
            pad=self._pad,
            limit=self._limit,
            stopped=partial(self._stopped, prompts, samplings),
        )
        return [self._completion(*each) for each in zip(prompts, samplings, rows, strict=True)]

    def _stopped(
        self,
        prompts: Sequence[Sequence[int]],
        samplings: Sequence[SamplingParams],
        row: int,
        tokens: Sequence[int],
    ) -> bool:
        stop = samplings[row].stop
        return bool(stop) and any(word in self._renderer.decode(prompts[row], tokens) for word in stop)

    def _completion(self, prompt: Sequence[int], sampling: SamplingParams, row: Sampled) -> Completion:
        spoken = row.tokens[:-1] if row.tokens and row.tokens[-1] in self._ends else row.tokens
        text = self._renderer.decode(prompt, spoken)
        places = [text.index(word) for word in sampling.stop if word in text]
        return Completion(
            text=text[: min(places)] if places else text,
            token_ids=tuple(row.tokens),
            logprobs=tuple(row.logprobs),
            finish_reason="length" if row.finish == "length" else "stop",
            prompt_tokens=len(prompt),
        )


def _load(path: str, config: EngineConfig) -> Any:
    import os

    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    device = "cuda" if torch.cuda.is_available() else "cpu"
    # bf16 matrix products die with SIGILL on CPUs that only claim to have them.
    dtype = "float32" if device == "cpu" and config.dtype == "auto" else config.dtype
    require(path)
    # Bars on stderr would mix with the progress line.
    disable_progress_bar()
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(
            path,
            revision=config.revision,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as problem:
        raise UsageError(f"cannot load model {path!r}: {reason_of(problem)}") from problem
    return model.to(device).eval()
