"""Everything that answers: vLLM, transformers, servers over HTTP, a fake; `base` says what each promises.

To add an engine, write a module with a class `(model, config)` that implements `Engine`, and name it in
`ENGINES`. Nothing is imported before it is asked for. `render` turns conversations into token ids.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from constitute.errors import UsageError
from constitute.packaged import SMOLLM, model_path
from constitute.progress import Progress, Silent
from constitute.registry import nearest
from constitute.urls import is_url

if TYPE_CHECKING:
    from constitute.config import EngineConfig
    from constitute.engines.base import Engine

# Kind -> "module:class".
ENGINES: dict[str, str] = {
    "vllm": "constitute.engines.vllm.engine:VLLMEngine",
    "openai": "constitute.engines.openai.engine:OpenAIEngine",
    "transformers": "constitute.engines.transformers:TransformersEngine",
    "fake": "constitute.engines.fake:FakeEngine",
}

# Kind -> what opening `{model}` does, said before it is done; another kind is just opened.
OPENING: dict[str, str] = {
    "vllm": "loading {model} into vLLM (first answers in half a minute, on a busy machine longer)",
    "openai": "asking {model} what it can do",
    "transformers": "loading {model} (about ten seconds, a large model longer)",
}


# Kinds that take long to load, though their tokenizer alone tells the key of an answer.
DEFERRED = frozenset({"vllm", "transformers"})


def check_kind(kind: str) -> None:
    """Raise `UsageError` for an `engine.kind` that is neither `auto` nor in `ENGINES`."""
    known = ["auto", *ENGINES]
    if kind not in known:
        raise UsageError(f"no such engine: {kind!r}; {nearest(kind, known)}")


def resolve_kind(model: str, kind: str) -> str:
    """The engine kind for `model`: a URL is a server, else vLLM where installed, else transformers.

    Raises `UsageError` for an unknown kind and where kind and model contradict each other.
    """
    if kind == "auto":
        if is_url(model):
            return "openai"
        return "vllm" if find_spec("vllm") else "transformers"
    check_kind(kind)
    if is_url(model) and kind in ("vllm", "transformers"):
        raise UsageError(f"engine {kind!r} cannot use the server {model}; set engine.kind to openai or auto")
    if kind == "openai" and not is_url(model):
        raise UsageError(f"engine 'openai' needs the http(s):// URL of a server, not {model!r}")
    return kind


def open_engine(model: str, config: EngineConfig, progress: Progress | None = None) -> Engine:
    """Open `model`: a local folder, a Hub or packaged name, or the URL of an OpenAI-compatible server.

    `progress` is told what takes so long before it does.

    Raises `UsageError` for a model that does not exist, `EngineError` for a server that does not answer.
    """
    kind = resolve_kind(model, config.kind)
    _require_there(model, kind)
    module, name = ENGINES[kind].split(":")
    said = OPENING.get(kind, "opening {model}").replace("{model}", model)
    with (progress or Silent()).waiting(said):
        engine: Engine = getattr(import_module(module), name)(model, config)
    return engine


def _require_there(model: str, kind: str) -> None:
    """Refuse a local model that is not there before it is said to be loading."""
    if kind in DEFERRED:
        from constitute.engines.locate import require

        require(model_path(model))


def open_when_asked(model: str, config: EngineConfig, progress: Progress | None = None) -> Engine:
    """`open_engine`, but a local model loads its weights with the first question that reaches it.

    For a command whose questions a store may answer altogether. Raises as `open_engine` does, then or later.
    """
    kind = resolve_kind(model, config.kind)
    if kind not in DEFERRED:
        return open_engine(model, config, progress)
    _require_there(model, kind)
    with (progress or Silent()).waiting(f"reading the tokenizer of {model}"):
        from constitute.engines.deferred import DeferredEngine

        return DeferredEngine(kind, model, config, partial(open_engine, model, config, progress))


def named_model(model: str | None) -> str:
    """`model`, for a check before anything is opened; raises `UsageError` where none is named."""
    if model is None:
        raise UsageError(f"no model given; name one with --model, such as --model {SMOLLM}")
    return model


@asynccontextmanager
async def use_engine(
    model: str | None,
    config: EngineConfig,
    progress: Progress,
    given: Engine | None = None,
    opening: Callable[[str, EngineConfig, Progress], Engine] | None = None,
) -> AsyncIterator[Engine]:
    """Yield `given` and leave it open; without it, open `model` and close it after the block.

    It is opened by `open_engine`, or by `opening`, such as `open_when_asked`.

    Raises `UsageError` where neither is given, and whatever `open_engine` raises.
    """
    if given is not None:
        yield given
        return
    engine = (opening or open_engine)(named_model(model), config, progress)
    try:
        yield engine
    finally:
        await engine.close()
