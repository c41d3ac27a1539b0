"""Bring another model's weights into a running engine, so that one serves base, SFT model and policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from constitute.engines import DEFERRED, open_engine, resolve_kind
from constitute.engines.base import Engine, RolloutEngine
from constitute.engines.identity import model_fingerprint
from constitute.errors import UsageError
from constitute.packaged import model_path
from constitute.progress import Progress, Silent

if TYPE_CHECKING:
    from constitute.config import EngineConfig
    from constitute.types import Request


def rollout_engine(engine: Engine) -> RolloutEngine:
    """The engine, known to take weights; raises `UsageError` for one that cannot, such as a plain server."""
    from constitute.engines.deferred import DeferredRollout

    if isinstance(engine, DeferredRollout):
        # To look for what a protocol asks for would open it.
        return engine
    if not isinstance(engine, RolloutEngine):
        raise UsageError(
            f"the engine of {engine.identity.name} cannot take new weights; use a local folder or Hub model "
            "with engine.kind vllm or transformers, or for PPO a server started with `constitute serve "
            "--rollouts` as engine.rollout_url"
        )
    return engine


# Share of a GPU's memory for an engine whose policy is trained on the same GPU (TRL's default for it).
BESIDE_A_TRAINER = 0.3


def open_sampler(policy: str, config: EngineConfig, progress: Progress | None = None) -> Engine:
    """What samples for the model `policy`: an engine opened here, or the server at `engine.rollout_url`.

    One opened here takes a part of a GPU (`engine.gpu_memory`), and gives that back while the trainer works,
    where it can (`engine.sleep`).
    The server gets the weights of the folder `policy`, by whose tokenizer prompts are rendered. Raises
    `UsageError` for a server that takes no weights, `EngineError` for one that does not answer or cannot
    hold the policy's weights.
    """
    if config.rollout_url is None:
        return open_engine(policy, _beside_a_trainer(policy, config), progress)
    from constitute.engines.openai.rollout import RolloutServer

    settings = config.model_copy(update={"tokenizer": config.tokenizer or policy})
    with (progress or Silent()).waiting(f"bringing the weights of {policy} into {config.rollout_url}"):
        server = RolloutServer(config.rollout_url, settings)
        try:
            # The server may still hold the weights of an earlier run.
            load_folder(server, policy)
        except BaseException:
            server.stop()
            raise
    return server


def _beside_a_trainer(policy: str, config: EngineConfig) -> EngineConfig:
    """The settings of an engine in the trainer's process: a part of the GPU, and asleep in between."""
    changed: dict[str, Any] = {"gpu_memory": config.gpu_memory or BESIDE_A_TRAINER}
    if resolve_kind(policy, config.kind) == "vllm":
        from constitute.engines.vllm.sleep import beside_a_trainer

        changed["sleep"] = beside_a_trainer(config.sleep)
    return config.model_copy(update=changed)


def rest(engine: object) -> bool:
    """Have an engine that can give back the GPU's memory until it is given weights; whether it did."""
    sleep = getattr(engine, "sleep", None)
    return sleep is not None and bool(sleep())


def sampler_when_asked(policy: str, config: EngineConfig, progress: Progress | None = None) -> Engine:
    """`open_sampler`, but a model that is opened here loads its weights when it is first asked."""
    if config.rollout_url is not None:
        return open_sampler(policy, config, progress)
    kind = resolve_kind(policy, config.kind)
    if kind not in DEFERRED:
        return open_sampler(policy, config, progress)
    from constitute.engines.deferred import DeferredRollout
    from constitute.engines.locate import require

    require(model_path(policy))
    return DeferredRollout(kind, policy, config, partial(open_sampler, policy, config, progress))


def server_prompts(policy: str, config: EngineConfig) -> Callable[[Request], tuple[int, ...]]:
    """What renders prompts as the server at `engine.rollout_url` would, without asking it."""
    from constitute.engines.render import Renderer, RenderSettings
    from constitute.engines.tokenizer import load_tokenizer, turn_ends

    name = config.tokenizer or policy
    path = model_path(name)
    tokenizer = load_tokenizer(path)
    return Renderer(tokenizer, name, turn_ends(path, tokenizer), RenderSettings.of(config)).ids


def load_folder(engine: Engine, model: str) -> None:
    """Replace the engine's weights by those in the model folder `model`, of the same architecture.

    The engine's identity changes with its weights, so no cached answer of the old model is used.
    Raises `UsageError` for a folder without safetensors.
    """
    folder = _folder(model)
    if not sorted(folder.glob("*.safetensors")):
        raise UsageError(f"{model} holds no *.safetensors; name the folder of a saved model")
    rollout_engine(engine).update_weights(_tensors(folder), fingerprint=model_fingerprint(model_path(model)))


def _folder(model: str) -> Path:
    """The folder of a local, packaged or downloaded model."""
    path = Path(model_path(model))
    if path.is_dir():
        return path
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(model, allow_patterns=["*.safetensors"], local_files_only=True))


def _tensors(folder: Path) -> Iterator[tuple[str, Any]]:
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            names: list[str] = file.keys()
            for name in names:
                yield name, file.get_tensor(name)
