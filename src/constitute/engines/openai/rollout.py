"""PPO rollouts from a vLLM server: token ids over HTTP, new weights through a folder both sides can read."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from constitute.engines.base import Ability, ModelIdentity, check_length
from constitute.engines.identity import tensor_bytes, weights_fingerprint
from constitute.engines.openai import wire
from constitute.engines.openai.engine import OpenAIEngine
from constitute.engines.openai.http import Transport
from constitute.engines.openai.probe import Server, probe
from constitute.errors import EngineError, PromptTooLong, RowError, UsageError
from constitute.types import Choice, Completion, Request, SamplingParams, Score

if TYPE_CHECKING:
    from constitute.config import EngineConfig

T = TypeVar("T")
_RESETS = 20
_RESET_PAUSE_S = 0.25
_SHARED_MEMORY = Path("/dev/shm")
# Room left in shared memory after the weights: other programs live there too.
_SPARE_BYTES = 1 << 30


class RolloutServer:
    """Implements `Engine` and `RolloutEngine`; the server was started with `constitute serve --rollouts`.

    Log-probabilities are those of the model's own distribution (temperature 1, nothing cut off), whatever
    the sampling was. Raises `UsageError` at once for a server that does not take weights.
    """

    def __init__(self, url: str, config: EngineConfig) -> None:
        key = os.environ.get(config.api_key_env, "")
        self._server = probe(url, key=key, key_env=config.api_key_env, served_name=config.served_name)
        self._config = config
        self._transport = Transport(self._server, key, config)
        self._asked = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rollouts", daemon=True)
        self._thread.start()
        try:
            self._wait(self._require_extension())
            self._engine = OpenAIEngine(url, config)
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
            payload = wire.rollout_payload(
                self._server.model, prompts[place], seeded, limit, logprobs=logprobs
            )
            body = await self._transport.post("/v1/completions", payload)
            return wire.read_rollout(body, logprobs=logprobs)

        return self._wait(self._all(one, len(prompts)))

    def score_ids(
        self, prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]
    ) -> list[list[float]]:
        """Exact log-probabilities of given tokens, for checks after a weight sync."""
        texts = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
        for text in texts:
            check_length(len(text), self.context_length)

        async def one(place: int) -> list[float]:
            payload = wire.given_payload(self._server.model, texts[place])
            body = await self._transport.post("/v1/completions", payload)
            return wire.read_given(body, texts[place], len(prompts[place]))

        return self._wait(self._all(one, len(texts)))

    def update_weights(
        self, named_tensors: Iterable[tuple[str, Any]], *, fingerprint: str | None = None
    ) -> None:
        """Replace the server's weights and drop every cached prefix; the identity changes with them.

        The weights pass through a private folder (`engine.sync_folder`), removed afterwards. Raises
        `RuntimeError` while requests are in flight, `EngineError` where the server cannot load them.
        """
        if self._asked:
            raise RuntimeError(f"{self._asked} requests are in flight; finish them before a weight sync")
        # A tensor may be freed or overwritten as soon as the next one is asked for.
        named = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in named_tensors}
        if fingerprint is None:
            fingerprint = weights_fingerprint((name, tensor_bytes(tensor)) for name, tensor in named.items())
        # Until all new weights are loaded, it is unknown which ones answer.
        self._fingerprint = f"unfinished-{fingerprint}"
        with _folder_for(sum(tensor.nbytes for tensor in named.values()), self._config.sync_folder) as folder:
            _save(named, folder)
            self._wait(self._load(folder, len(named)))
        self._fingerprint = fingerprint

    async def close(self) -> None:
        """Close the connections; the server goes on, with the weights it has."""
        await self._engine.close()
        self.stop()

    def stop(self) -> None:
        """Close the connections of the blocking calls and end their thread."""
        if self._loop.is_closed():
            return
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

    async def _require_extension(self) -> None:
        status = 404
        if self._server.is_vllm:
            status, _ = await self._transport.once("/collective_rpc", {"method": "takes_weights"})
        if status != 200:
            raise UsageError(_takes_none(self._server, status))

    async def _load(self, folder: Path, count: int) -> None:
        """Have every worker load `folder`, then empty the prefix cache."""
        base = self._server.base
        status, body = await self._transport.once(
            "/collective_rpc", {"method": "sync_folder", "args": [str(folder)]}
        )
        if status == 404:
            raise UsageError(_takes_none(self._server, status))
        results = body.get("results") if status == 200 and isinstance(body, dict) else None
        if not results:
            raise EngineError(
                f"{base} did not load the new weights (status {status}: {wire.message_of(body)}); restart it "
                "and continue from the last checkpoint"
            )
        for result in results:
            _require_loaded(base, folder, count, result)
        for _ in range(_RESETS):
            status, body = await self._transport.once("/reset_prefix_cache", {})
            if status == 200 and isinstance(body, dict) and body.get("success"):
                return
            await asyncio.sleep(_RESET_PAUSE_S)
        raise EngineError(
            f"{base} keeps answers of the old weights in its prefix cache (status {status}: "
            f"{wire.message_of(body)}); let nothing else use the server and continue from the last checkpoint"
        )


def _takes_none(server: Server, status: int) -> str:
    return (
        f"the server at {server.base} takes no new weights (/collective_rpc answers {status}); start it with "
        f"`constitute serve {server.model} --rollouts`"
    )


def _require_loaded(base: str, folder: Path, count: int, result: Any) -> None:
    """Raise `EngineError` unless a worker's answer says that it loaded all `count` tensors."""
    answer = result if isinstance(result, dict) else {"error": "load", "why": str(result)}
    if answer.get("error") == "unreadable":
        raise EngineError(
            f"the server at {base} cannot read {folder} ({answer.get('why')}); set engine.sync_folder to a "
            "folder that it and this process share, and run both as one user"
        )
    if answer.get("tensors") != count:
        why = str(answer.get("why", answer))[:300]
        raise EngineError(
            f"the server at {base} did not load the new weights ({why}) and may hold half of "
            "them; restart it on the policy's folder and continue from the last checkpoint"
        )


@contextmanager
def _folder_for(size: int, wanted: str | None) -> Iterator[Path]:
    """A new folder for `size` bytes that only this user can read; it is removed after the block."""
    parent = Path(wanted) if wanted else _roomy(size)
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="constitute-weights-", dir=parent))
    except OSError as problem:
        raise EngineError(
            f"no folder for new weights can be made in {parent} ({problem.strerror}); set engine.sync_folder"
        ) from problem
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _roomy(size: int) -> Path:
    """Shared memory where it has room, else the folder of temporary files."""
    writable = _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK)
    if writable and shutil.disk_usage(_SHARED_MEMORY).free >= size + _SPARE_BYTES:
        return _SHARED_MEMORY
    return Path(tempfile.gettempdir())


def _save(named: dict[str, Any], folder: Path) -> None:
    """Write the tensors as one safetensors file; raises `EngineError` where that fails."""
    from safetensors.torch import save_file

    try:
        save_file(named, folder / "model.safetensors")
    except Exception as problem:
        raise EngineError(
            f"new weights cannot be written to {folder} ({problem}); free space or set engine.sync_folder"
        ) from problem
