"""Settings of the engine: how to run or reach a model."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from constitute.types import Record


class EngineConfig(Record):
    """How to run or reach a model. `auto` reads the kind from the model's name: a URL is a server."""

    kind: str = Field(default="auto", description="auto, or a name in constitute.engines.ENGINES")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    revision: str | None = None
    context_length: int | None = Field(default=None, ge=16, description="tokens; None takes the model's own")
    in_flight: int = Field(default=256, ge=1, le=65536, description="requests kept with the engine at once")
    threads: int | None = Field(
        default=None,
        ge=1,
        description="CPU threads; None takes OMP_NUM_THREADS, else every core, and one to sample from a "
        "model below 10 M parameters",
    )
    kv_cache_gib: float | None = Field(default=None, gt=0, description="GiB of key-value cache, CPU")
    gpu_memory: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="fraction of GPU memory, vLLM; 0.9 if None, 0.3 beside a trainer",
    )
    sleep: bool | None = Field(
        default=None,
        description="give vLLM's GPU memory to the trainer while nothing is sampled; None does so beside a "
        "trainer on a GPU",
    )
    tensor_parallel: int = Field(default=1, ge=1)
    tokenizer: str | None = Field(default=None, description="tokenizer folder or name for a served model")
    chat_template_kwargs: dict[str, Any] = Field(
        default={}, description="variables given to the chat template, such as reasoning_effort: low"
    )
    plain: bool = Field(
        default=False, description="take a model without a chat template and ask it in plain text"
    )
    date: str | None = Field(
        default=None,
        pattern=r"^\d{4}-\d{2}-\d{2}$",
        description="the day that chat templates which write one are told; None takes the day a run began",
    )
    served_name: str | None = Field(default=None, description="model name on a server with several")
    api_key_env: str = Field(default="OPENAI_API_KEY", description="environment variable with the key")
    timeout_s: float = Field(default=600.0, gt=0, description="seconds for one request, retries apart")
    retries: int = Field(default=4, ge=0, le=20)
    endpoints: tuple[str, ...] = Field(
        default=(), description="further servers of the same model; requests are balanced over all"
    )
    requests_per_minute: int | None = Field(default=None, ge=1, description="ceiling over all endpoints")
    tokens_per_minute: int | None = Field(default=None, ge=1, description="ceiling over all endpoints")
    stall_s: float = Field(
        default=120.0,
        gt=0,
        description="seconds without any answer before one token is asked for, and as long for that",
    )
    rollout_url: str | None = Field(
        default=None,
        pattern="^https?://",
        description="server PPO samples from (`constitute serve --rollouts`), not an engine in this process",
    )
    sync: Literal["auto", "files", "nccl", "ipc"] = Field(
        default="auto",
        description="how new weights reach that server; auto is what it was started with (`serve --sync`)",
    )
    sync_folder: str | None = Field(
        default=None,
        description="folder that hands new weights to that server; None takes /dev/shm or the temporary one",
    )
