"""Start vLLM in this process, with settings that fit the machine."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING, Any

from constitute.engines.locate import reason_of, require
from constitute.engines.vllm.sleep import decide
from constitute.errors import EngineError, UsageError
from constitute.threads import use_threads

if TYPE_CHECKING:
    from constitute.config import EngineConfig

_GPU_MEMORY = 0.9
_GIB = 1 << 30
# Enough for 256 short conversations with a small model; a larger one says what it needs at start.
_CPU_CACHE_GIB = 1.0
# Prefixes are shared in whole blocks, and vLLM's 128 tokens on a CPU are most of a short question.
_CPU_BLOCK = 32
ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


def start(path: str, config: EngineConfig) -> tuple[Any, str]:
    """A ready `LLM`, and why it never sleeps (empty where it does).

    Raises `UsageError` for a bad model or setting, `EngineError` where vLLM cannot start.
    """
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
    stays_awake = decide(config.sleep)
    try:
        llm = LLM(
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
            enable_sleep_mode=not stays_awake,
            use_tqdm_on_load=False,
            worker_extension_cls="constitute.engines.vllm.worker.WeightSync",
        )
    except (ValueError, OSError) as problem:
        raise UsageError(f"vLLM cannot load {path!r}: {our_words(reason_of(problem))}") from problem
    except (RuntimeError, NotImplementedError) as problem:
        raise EngineError(
            f"vLLM cannot start with {path!r}: {reason_of(problem)}; run `constitute doctor`"
        ) from problem
    finally:
        # On a CPU vLLM puts a function in its place that does nothing; trainers in this process need it.
        torch.set_num_threads = set_num_threads
    return llm, stays_awake


def our_words(reason: str) -> str:
    """vLLM's reason; where it is about the length of the context, its first sentence and our setting."""
    if "max_model_len" not in reason:
        return reason
    return f"{reason.split('. ')[0]}; lower engine.context_length, or leave it out for the model's own"
