"""Settings of the engine and of the data stages; each default stands here and nowhere else."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from constitute.types import Record


class EngineConfig(Record):
    """How to run or reach a model. `auto` reads the kind from the model's name: a URL is a server."""

    kind: str = Field(default="auto", description="auto, or a name in constitute.engines.ENGINES")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    revision: str | None = None
    context_length: int | None = Field(default=None, ge=16, description="tokens; None takes the model's own")
    in_flight: int = Field(default=256, ge=1, le=65536, description="requests kept with the engine at once")
    kv_cache_gib: float | None = Field(default=None, gt=0, description="GiB of key-value cache, CPU")
    gpu_memory: float = Field(default=0.9, gt=0, le=1, description="fraction of GPU memory, vLLM")
    tensor_parallel: int = Field(default=1, ge=1)
    tokenizer: str | None = Field(default=None, description="tokenizer folder or name for a served model")
    served_name: str | None = Field(default=None, description="model name on a server with several")
    api_key_env: str = Field(default="OPENAI_API_KEY", description="environment variable with the key")
    timeout_s: float = Field(default=600.0, gt=0, description="seconds for one request, retries apart")
    retries: int = Field(default=4, ge=0, le=20)
    stall_s: float = Field(default=120.0, gt=0, description="seconds without any answer before giving up")
    rollout_url: str | None = Field(
        default=None,
        pattern="^https?://",
        description="server PPO samples from (`constitute serve --rollouts`), not an engine in this process",
    )
    sync_folder: str | None = Field(
        default=None,
        description="folder that hands new weights to that server; None takes /dev/shm or the temporary one",
    )


class GenerateConfig(Record):
    """Sampling of the responses. A response cut at `max_tokens` fails unless `keep_truncated`."""

    n: int = Field(default=1, ge=1, le=1024)
    max_tokens: int = Field(default=256, ge=1, le=131072)
    temperature: float = Field(default=1.0, ge=0, le=10)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stop: tuple[str, ...] = ()
    system: str = Field(default="", description="system message put before prompts that have none")
    keep_truncated: bool = False


class ReviseConfig(Record):
    """Rounds of critique and revision (arXiv 2212.08073, section 3.1)."""

    rounds: int = Field(default=1, ge=1, le=64)
    critique: bool = Field(default=True, description="False revises without a critique first")
    max_tokens: int = Field(default=256, ge=1, le=131072)
    temperature: float = Field(default=1.0, ge=0, le=10)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stop: tuple[str, ...] = ()
    keep_truncated: bool = False


# Layout of the question that compares two answers -> its template.
LAYOUTS = {"shared": "compare", "paper": "compare_paper"}


class LabelConfig(Record):
    """Preference labels.

    `pairs`: two samples of a prompt, the first response against its last revision, or both kinds.
    `principles`: one or k drawn for each pair, or all with their weights.
    `layout`: the principle after both answers, so that all principles of a pair share what comes before,
    or before them as in arXiv 2212.08073 (section 4.1).
    """

    pairs: Literal["samples", "revision", "both"] = "samples"
    principles: Literal["one", "all"] | Annotated[int, Field(ge=1)] = "one"
    layout: Literal["shared", "paper"] = "shared"
    method: str = Field(default="choice", description="how a vote is taken, a name in LABEL_METHODS")
    min_mass: float = Field(default=0.1, ge=0, le=1, description="P(A)+P(B) below it abstains")


class ExportConfig(Record):
    """Data sets written from a run."""

    format: Literal["jsonl", "parquet", "hh"] = "jsonl"
    revisions: Literal["last", "all", "best", "none"] = "last"
    """Which answers SFT rows imitate: the last revision, every revision, the one of the response and
    the last revision that the run's labels prefer, or the response."""
