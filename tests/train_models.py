"""Tiny models, tokenizers and a sampling engine made for the training tests."""

from __future__ import annotations

import torch

from constitute.types import Completion


def tiny_causal(vocab, width=32, layers=1, heads=2, eos=2, positions=64, seed=0):
    """A random Llama with untied embeddings."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab, hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=positions,
        bos_token_id=None, eos_token_id=eos, pad_token_id=None, tie_word_embeddings=False,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def word_tokenizer(words, eos, pad, template=None):
    """A tokenizer with one token a word, ids in the order given."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(
        models.WordLevel({word: place for place, word in enumerate(words)}, unk_token=words[0])
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos, pad_token=pad)
    tokenizer.chat_template = template
    return tokenizer


class CausalRollouts:
    """A `RolloutEngine` stand-in: a copy of the model, sampled token by token without a cache."""

    context_length = None
    dtype = "float32"

    def __init__(self, folder, eos):
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self.eos = set(eos)

    @torch.no_grad()
    def generate_ids(self, prompts, sampling, *, logprobs):
        generator = torch.Generator().manual_seed(sampling.seed)
        assert len({len(prompt) for prompt in prompts}) == 1
        ids = torch.tensor([list(prompt) for prompt in prompts])
        start = ids.shape[1]
        for _ in range(sampling.max_tokens):
            logits = self.model(ids).logits[:, -1] / sampling.temperature
            drawn = torch.multinomial(logits.softmax(-1), 1, generator=generator)
            ids = torch.cat([ids, drawn], dim=1)
        return [self._completion(row[start:]) for row in ids.tolist()]

    def _completion(self, tokens):
        end = next((place for place, token in enumerate(tokens) if token in self.eos), None)
        kept = tokens if end is None else tokens[: end + 1]
        return Completion(text="", token_ids=tuple(kept), finish_reason="length" if end is None else "stop")

    @torch.no_grad()
    def score_ids(self, prompts, completions):
        scores = []
        for prompt, completion in zip(prompts, completions, strict=True):
            ids = torch.tensor([[*prompt, *completion]])
            logprobs = self.model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            scores.append([logprobs[place, token].item() for place, token in enumerate(completion)])
        return scores

    def update_weights(self, named_tensors, *, fingerprint=None):
        self.model.load_state_dict(dict(named_tensors), strict=False)
