"""Several conversations in one sequence without padding, each blind to the others, as TRL packs them."""

from __future__ import annotations

from typing import Any

import torch

from constitute.config.train import SFTConfig
from constitute.errors import UsageError


def packing_arguments(config: SFTConfig) -> dict[str, Any]:
    """Arguments of TRL's `SFTConfig` that pack as `config.packing` says.

    Rows are cut nowhere: those above `max_length` are left out before, so best-fit packing has none to cut.
    """
    if config.packing == "flat":
        return {"padding_free": True, "max_length": None}
    if config.packing == "full":
        return {"packing": True, "packing_strategy": "bfd", "max_length": config.max_length}
    return {"max_length": None}


@torch.no_grad()
def check_packs(network: Any, name: str) -> None:
    """Raise `UsageError` unless a sequence packed behind another has the logits that it has alone.

    Positions that start again at 0 tell the attention where a sequence begins: transformers builds the mask
    from them for `sdpa`, `eager` and `flex_attention`, and flash attention gets the boundaries. A layer that
    reads neither, such as a recurrent one, would let one conversation leak into the next.
    """
    size = network.config.get_text_config().vocab_size
    first, second = ([place % size for place in range(start, start + 5)] for start in (3, 11))
    device = network.device
    alone_LV = network(input_ids=torch.tensor([second], device=device), use_cache=False).logits[0].float()
    packed_LV = network(
        input_ids=torch.tensor([first + second], device=device),
        position_ids=torch.tensor([[*range(5), *range(5)]], device=device),
        use_cache=False,
    ).logits[0, 5:]
    gap = (packed_LV.float().log_softmax(-1) - alone_LV.log_softmax(-1)).abs().max().item()
    if gap > (1e-3 if network.dtype == torch.float32 else 0.2):
        raise UsageError(
            f"the layers of {name} ({type(network).__name__}) let packed conversations see each other "
            f"(log-probabilities differ by {gap:.3g}); set train.sft.packing=none"
        )
