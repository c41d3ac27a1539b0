"""Give the GPU's memory to the trainer while vLLM has nothing to do, and take it back in vLLM's own order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Literal

from constitute.errors import EngineError, UsageError

ON_A_CPU = "vLLM can only give back the memory of a GPU, and runs on the CPU here"


def reason_to_stay_awake() -> str:
    """Why vLLM cannot sleep on this machine; empty where it can."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        return ON_A_CPU
    if not current_platform.is_sleep_mode_available():
        return f"vLLM has no sleep on {current_platform.device_name}"
    if not current_platform.is_cumem_allocator_available():
        return "vLLM's memory allocator for sleep (cumem) is missing in this installation"
    return ""


def decide(wanted: bool | None) -> str:
    """Why vLLM is not to sleep: the machine's reason, or the setting's; empty where it is to.

    Raises `UsageError` where `engine.sleep` asks for what the machine cannot do.
    """
    if wanted is False:
        return "engine.sleep is false"
    reason = reason_to_stay_awake()
    if wanted and reason:
        raise UsageError(f"engine.sleep is true, but {reason}; leave engine.sleep out, or set it to false")
    return reason or ("" if wanted else "nothing is trained beside it")


def beside_a_trainer(wanted: bool | None) -> bool | None:
    """`engine.sleep` of an engine that shares its machine with a trainer: it sleeps where it can."""
    if wanted is None and find_spec("vllm") is not None and not reason_to_stay_awake():
        return True
    return wanted


class Sleeper:
    """Puts one `LLM` to sleep and wakes it: weights first, then, once they are new, the cache.

    Level 2 forgets the weights, which are pushed anyway, so that no copy takes host memory. What vLLM then
    holds is memory without content: until new weights are in, nothing may be asked of it (vllm/entrypoints/
    llm.py: `sleep`, `wake_up`). `stays_awake` is the reason why it never sleeps, empty where it does.
    """

    def __init__(self, llm: Any, stays_awake: str) -> None:
        self._llm = llm
        self.stays_awake = stays_awake
        self.holds: Literal["all", "weights", "nothing"] = "all"

    def rest(self) -> bool:
        """Free weights and cache; returns whether they are free now."""
        if self.stays_awake:
            return False
        if self.holds == "all":
            self._llm.sleep(level=2)
            self.holds = "nothing"
        return True

    def require_awake(self) -> None:
        """Raise `EngineError` where what vLLM would answer with has no content."""
        if self.holds != "all":
            raise EngineError(
                "vLLM was put to sleep for a training step and got no new weights since; continue from the "
                "last checkpoint, or set engine.sleep=false"
            )

    @contextmanager
    def taking_weights(self) -> Iterator[None]:
        """Inside, there is memory for new weights; after it for all, unless the block raised."""
        if self.holds == "nothing":
            _free_cached()
            self._llm.wake_up(tags=["weights"])
            self.holds = "weights"
        yield
        if self.holds == "weights":
            # The copies of the push are in torch's own cache by now.
            _free_cached()
            self._llm.wake_up(tags=["kv_cache"])
            self.holds = "all"


def _free_cached() -> None:
    """Return what torch keeps of the trainer's freed memory: vLLM's allocator cannot take it from there."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
