"""Runs inside vLLM's worker: take new weights so that every kernel sees them."""

from __future__ import annotations

from typing import Any


class WeightSync:
    """Mixed into vLLM's worker class (`worker_extension_cls`), so `self` is that worker."""

    def sync_weights(self: Any, named: list[tuple[str, Any]]) -> None:
        """Load checkpoint tensors in place and rebuild what vLLM derived from the old ones.

        `load_weights` would not do: on a CPU the linears are prepacked at load time. With tied
        embeddings the pack of `lm_head` is rebuilt by nobody else, and stays stale without an error.
        On a GPU nothing is packed for unquantised layers and `reload_weights` is the whole path.
        """
        from vllm.platforms import current_platform

        self.reload_weights(weights_iterator=iter(named))
        model = self.model_runner.get_model()
        head: Any = getattr(model, "lm_head", None)
        tied = getattr(self.model_runner.model_config.hf_text_config, "tie_word_embeddings", False)
        if current_platform.is_cpu() and tied and hasattr(head, "cpu_linear"):
            from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

            dispatch_cpu_unquantized_gemm(head, remove_weight=False)
