"""Turn SmolLM2's GGUF file into a Hugging Face folder; run by `fetch` where the package gguf is at hand."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def convert(source: Path, name: str, out: Path) -> None:
    """Write `source/name` to `out` as fp32 safetensors with its tokenizer, as the model's repository has it.

    The turn ends at <|im_end|>, which is the pad token too: the GGUF file names <|im_start|> as its end.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(str(source), gguf_file=name)
    read = AutoModelForCausalLM.from_pretrained(str(source), gguf_file=name, dtype=torch.float32)
    end, start = "<|im_end|>", "<|im_start|>"
    tokenizer.eos_token = tokenizer.pad_token = end
    tokenizer.bos_token = start
    # It would take away spaces before punctuation, which a byte-level tokenizer needs.
    tokenizer.clean_up_tokenization_spaces = False
    config = read.config
    # A model that was read as quantised refuses to be saved; a fresh one with its tensors does not.
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.bos_token_id = tokenizer.bos_token_id
    config.eos_token_id = config.pad_token_id = tokenizer.eos_token_id
    model = LlamaForCausalLM(config)
    model.load_state_dict(read.state_dict())
    model.tie_weights()
    for settings in (model.config, model.generation_config):
        settings.bos_token_id = tokenizer.bos_token_id
        settings.eos_token_id = settings.pad_token_id = tokenizer.eos_token_id
    model.float().save_pretrained(out)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
