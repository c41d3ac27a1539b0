"""Runs inside vLLM's worker: take new weights so that every kernel sees them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


class WeightSync:
    """Mixed into vLLM's worker class (`worker_extension_cls`), so `self` is that worker."""

    def sync_weights(self: Any, named: Iterable[tuple[str, Any]]) -> None:
        """Load checkpoint tensors in place and rebuild what vLLM derived from the old ones.

        `load_weights` would not do: on a CPU the linears are prepacked at load time. With tied
        embeddings the pack of `lm_head` is rebuilt by nobody else, and stays stale without an error.
        On a GPU nothing is packed for unquantised layers and `reload_weights` is the whole path.
        """
        from vllm.platforms import current_platform

        model = self.model_runner.get_model()
        if current_platform.is_cpu():
            _forget_expert_kernels(model)
        self.reload_weights(weights_iterator=iter(named))
        head: Any = getattr(model, "lm_head", None)
        tied = getattr(self.model_runner.model_config.hf_text_config, "tie_word_embeddings", False)
        if current_platform.is_cpu() and tied and hasattr(head, "cpu_linear"):
            from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

            dispatch_cpu_unquantized_gemm(head, remove_weight=False)

    def sync_folder(self: Any, folder: str) -> dict[str, Any]:
        """Load every safetensors file of `folder`: {"tensors": count}, or {"error": why} for the client.

        A problem is returned, not raised: an HTTP server turns an exception into "internal error".
        """
        try:
            paths = sorted(Path(folder).glob("*.safetensors"))
            if not paths:
                return {"error": "unreadable", "why": "no *.safetensors can be seen there"}
            counted = [0]
            self.sync_weights(_counted(paths, counted))
        except PermissionError as problem:
            return {"error": "unreadable", "why": str(problem)}
        except Exception as problem:
            if self.vllm_config.parallel_config.data_parallel_size > 1:
                # Of several data-parallel engines vLLM returns the first one's answer alone, and every error.
                raise
            return {"error": "load", "why": f"{type(problem).__name__}: {problem}".strip(": ")}
        return {"tensors": counted[0]}

    def takes_weights(self: Any) -> dict[str, Any]:
        """Tell a client that this extension is loaded, and what decides how weights are sent.

        `dtype` is what weights are rounded to, `transfer` the way from GPU to GPU that the server was
        started for, `gpu` the UUID of this worker's GPU (both empty where there is none), `workers` how many.
        """
        import torch

        dtype = str(self.model_runner.model_config.dtype).removeprefix("torch.")
        settings = self.vllm_config.weight_transfer_config
        gpu = str(torch.cuda.get_device_properties(self.device).uuid) if self.device.type == "cuda" else ""
        return {
            "takes_weights": True,
            "dtype": dtype,
            "transfer": settings.backend if settings is not None else "",
            "gpu": gpu,
            "workers": self.vllm_config.parallel_config.world_size_across_dp,
        }


def _forget_expert_kernels(model: Any) -> None:
    """Have the kernels of mixtures of experts built anew by the next load.

    vLLM 0.31 packs the experts' weights for a CPU only where it builds their kernel; a later load leaves
    them unpacked, and the kernel reads them in the wrong order without an error.
    """
    for layer in model.modules():
        method: Any = getattr(layer, "quant_method", None)
        if getattr(method, "moe_kernel", None) is not None:
            method.moe_kernel = None


def _counted(paths: list[Path], count: list[int]) -> Iterator[tuple[str, Any]]:
    """Copies of the files' tensors: the loader keeps references, and the files are removed soon after."""
    from safetensors import safe_open

    for path in paths:
        with safe_open(path, framework="pt") as file:
            names: list[str] = file.keys()
            for name in names:
                count[0] += 1
                yield name, file.get_tensor(name).clone()
