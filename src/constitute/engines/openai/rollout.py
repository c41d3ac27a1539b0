"""PPO rollouts from a vLLM server: token ids over HTTP, new weights through a folder or from GPU to GPU."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from constitute.engines.base import Ability, ModelIdentity, check_length
from constitute.engines.identity import tensor_bytes, weights_fingerprint
from constitute.engines.openai import wire_in, wire_out
from constitute.engines.openai.engine import OpenAIEngine
from constitute.engines.openai.http import Transport
from constitute.engines.openai.probe import Server, probe
from constitute.engines.openai.reach import Access
from constitute.engines.vllm.transfer import (
    Client,
    Opener,
    Taker,
    Transfer,
    open_vllm,
    own_gpu,
    taker_of,
    way_to,
)
from constitute.engines.weight_files import copies, dtype_named, folder_for, require_loaded, save_weights
from constitute.errors import EngineError, PromptTooLong, RowError, UsageError
from constitute.progress import process_count
from constitute.types import Choice, Completion, Request, SamplingParams, Score

if TYPE_CHECKING:
    from constitute.config import EngineConfig

T = TypeVar("T")
_RESETS = 20
_RESET_PAUSE_S = 0.25


class RolloutServer:
    """Implements `Engine` and `RolloutEngine`; the server was started with `constitute serve --rollouts`.

    Log-probabilities are those of the model's own distribution (temperature 1, nothing cut off), whatever
    the sampling was. Raises `UsageError` at once for a server that does not take weights.
    """

    # It samples in another process, so that a learner can work meanwhile.
    overlaps = True

    def __init__(self, url: str, config: EngineConfig) -> None:
        access = Access(os.environ.get(config.api_key_env, ""), config.api_key_env)
        self._server = probe(url, access, config.served_name)
        self._config = config
        self._transport = Transport([self._server], access, config)
        self._asked = 0
        self._transfer: Transfer | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rollouts", daemon=True)
        self._thread.start()
        try:
            self._taker = self._wait(self._require_extension())
            self._transfer = self._joined(open_vllm)
            # New weights reach one server alone.
            self._engine = OpenAIEngine(url, config.model_copy(update={"endpoints": ()}))
            if not self._engine.sends_ids:
                raise UsageError(
                    f"no tokenizer for {self._server.model} is at hand; set engine.tokenizer to the "
                    "policy's folder"
                )
            self._fingerprint = self._engine.identity.fingerprint
        except BaseException:
            self.stop()
            raise

    @property
    def identity(self) -> ModelIdentity:
        return self._engine.identity.model_copy(update={"fingerprint": self._fingerprint})

    @property
    def context_length(self) -> int | None:
        return self._engine.context_length

    def prompt_ids(self, request: Request) -> tuple[int, ...] | None:
        """Token ids of the prompt; raises `RowError` for one the chat template refuses."""
        return self._engine.prompt_ids(request)

    def rendered(self, request: Request) -> bytes:
        """Prompt token ids as bytes."""
        return self._engine.rendered(request)

    async def generate(self, request: Request) -> Completion:
        """One completion; raises `PromptTooLong`, `RowError` or `EngineError`."""
        with self._asking():
            return await self._engine.generate(request)

    async def choose(self, request: Request, labels: Sequence[str], *, spelled: bool = False) -> Choice:
        """Exact log-probabilities of the labels, as `OpenAIEngine` scores them."""
        with self._asking():
            return await self._engine.choose(request, labels, spelled=spelled)

    async def score(self, request: Request, text: str) -> Score:
        """Log-probabilities of `text` as the answer, as `OpenAIEngine` scores it."""
        with self._asking():
            return await self._engine.score(request, text)

    @property
    def lacks(self) -> Mapping[Ability, str]:
        """What the server cannot do."""
        return self._engine.lacks

    @property
    def dtype(self) -> str:
        """The dtype of the server's weights."""
        return self._taker.dtype

    def generate_ids(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingParams, *, logprobs: bool
    ) -> list[Completion]:
        """Block for one completion a prompt; prompt i is seeded with `sampling.seed + i`.

        `logprobs` are of the sampled tokens at temperature 1, whatever the sampling temperature.
        """
        limit = self.context_length
        for prompt in prompts:
            check_length(len(prompt), limit)

        async def one(place: int) -> Completion:
            seed = None if sampling.seed is None else sampling.seed + place
            seeded = sampling.model_copy(update={"seed": seed})
            payload = wire_out.rollout_payload(
                self._server.model, prompts[place], seeded, limit, logprobs=logprobs
            )
            body = await self._transport.post("/v1/completions", payload)
            sampled = wire_in.read_rollout(body, logprobs=logprobs)
            return self._engine.apart(prompts[place], seeded, sampled)

        with self._asking():
            return self._wait(self._all(one, len(prompts)))

    def score_ids(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Exact log-probabilities of given tokens, for checks after a weight sync."""
        texts = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
        for text in texts:
            check_length(len(text), self.context_length)

        async def one(place: int) -> list[float]:
            payload = wire_out.given_payload(self._server.model, texts[place])
            body = await self._transport.post("/v1/completions", payload)
            return wire_in.read_given(body, texts[place], len(prompts[place]))

        return self._wait(self._all(one, len(texts)))

    def update_weights(
        self, named_tensors: Iterable[tuple[str, Any]], *, fingerprint: str | None = None
    ) -> None:
        """Replace the server's weights and drop every cached prefix; the identity changes with them.

        They go in the server's dtype: from GPU to GPU where `engine.sync` says so, else through a private
        folder (`engine.sync_folder`) that is removed afterwards. Raises `RuntimeError` while requests are in
        flight, `EngineError` where the server cannot load them.
        """
        if self._asked:
            raise RuntimeError(f"{self._asked} requests are in flight; finish them before a weight sync")
        dtype = dtype_named(self._taker.dtype)
        if fingerprint is None:
            kept = [(name, tensor.detach().to("cpu", copy=True)) for name, tensor in named_tensors]
            fingerprint = weights_fingerprint((name, tensor_bytes(tensor)) for name, tensor in kept)
            named_tensors = kept
        # Until all new weights are loaded, it is unknown which ones answer.
        self._fingerprint = f"unfinished-{fingerprint}"
        if self._transfer is not None:
            self._transfer.send(named_tensors, dtype, fingerprint)
        else:
            self._through_a_folder(named_tensors, dtype)
        self._wait(self._forget_prefixes())
        self._fingerprint = fingerprint

    def _through_a_folder(self, named_tensors: Iterable[tuple[str, Any]], dtype: Any) -> None:
        named = {name: tensor.contiguous() for name, tensor in copies(named_tensors, dtype, "cpu")}
        with folder_for(sum(tensor.nbytes for tensor in named.values()), self._config.sync_folder) as folder:
            save_weights(named, folder)
            self._wait(self._load(folder, len(named)))

    def _joined(self, opener: Opener) -> Transfer | None:
        """What sends weights from GPU to GPU; None where they go through a folder."""
        gpu = own_gpu()
        way = way_to(self._taker, self._config.sync, gpu, process_count())
        if way == "files":
            return None
        client = Client(self._taker.base, lambda path, body: self._wait(self._transport.once(path, body)))
        return Transfer(way, client, self._taker.workers, device="cuda", opener=opener)

    async def close(self) -> None:
        """Close the connections; the server goes on, with the weights it has."""
        await self._engine.close()
        self.stop()

    def stop(self) -> None:
        """Close the connections of the blocking calls and end their thread."""
        if self._loop.is_closed():
            return
        if self._transfer is not None:
            self._transfer.close()
        self._wait(self._transport.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self._asked += 1
        try:
            yield
        finally:
            self._asked -= 1

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Block for `work` done in the thread's event loop; interrupting the wait cancels it."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    async def _all(self, one: Callable[[int], Awaitable[T]], count: int) -> list[T]:
        """`one(0) ... one(count - 1)`, `engine.in_flight` at once; the first error cancels the rest."""
        # A request's time limit begins when it is sent, not while it waits for its turn.
        room = asyncio.Semaphore(self._config.in_flight)

        async def in_turn(place: int) -> T:
            async with room:
                return await one(place)

        tasks = [asyncio.ensure_future(in_turn(place)) for place in range(count)]
        try:
            return await asyncio.gather(*tasks)
        except PromptTooLong:
            raise
        except RowError as problem:
            # PPO needs every rollout of a batch.
            raise EngineError(f"a rollout failed: {problem}; continue from the last checkpoint") from problem
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _require_extension(self) -> Taker:
        """What the server says of how it takes weights."""
        status, body = 404, None
        if self._server.is_vllm:
            status, body = await self._transport.once("/collective_rpc", {"method": "takes_weights"})
        if status != 200:
            raise UsageError(_takes_none(self._server, status))
        results = body.get("results") if isinstance(body, dict) else None
        return taker_of(self._server.base, self._server.model, results)

    async def _load(self, folder: Path, count: int) -> None:
        """Have every worker load `folder`."""
        base = self._server.base
        status, body = await self._transport.once(
            "/collective_rpc", {"method": "sync_folder", "args": [str(folder)]}
        )
        if status == 404:
            raise UsageError(_takes_none(self._server, status))
        results = body.get("results") if status == 200 and isinstance(body, dict) else None
        if not results:
            raise EngineError(
                f"{base} did not load the new weights (status {status}: {wire_in.message_of(body)}); restart "
                "it and continue from the last checkpoint"
            )
        for result in results:
            require_loaded(base, folder, count, result)

    async def _forget_prefixes(self) -> None:
        """Empty the prefix cache; raises `EngineError` where it does not get empty."""
        base = self._server.base
        for _ in range(_RESETS):
            status, body = await self._transport.once("/reset_prefix_cache", {})
            if status == 200 and isinstance(body, dict) and body.get("success"):
                return
            await asyncio.sleep(_RESET_PAUSE_S)
        raise EngineError(
            f"{base} keeps answers of the old weights in its prefix cache (status {status}: "
            f"{wire_in.message_of(body)}); let nothing else use the server and continue from the last "
            "checkpoint"
        )


def _takes_none(server: Server, status: int) -> str:
    return (
        f"the server at {server.base} takes no new weights (/collective_rpc answers {status}); start it with "
        f"`constitute serve {server.model} --rollouts`"
    )
