"""Talk to a model folder in batches, by transformers on the CPU: completions and label probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

Chat = list[dict[str, str]]
_MAX_NEW_TOKENS = 112


class Pocket:
    """A model folder behind batched generation and label scoring, by transformers on the CPU."""

    def __init__(self, folder: Path, batch: int = 64) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._tokenizer.padding_side = "left"
        self._model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self._batch = batch

    def _encode(self, chats: Sequence[Chat]) -> dict[str, torch.Tensor]:
        texts = [
            self._tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=True) for c in chats
        ]
        encoded = self._tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        return {"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"]}

    def generate(self, chats: Sequence[Chat], temperature: float = 0.0, seed: int = 0) -> list[str]:
        """Complete each conversation; temperature 0 is greedy."""
        import torch

        torch.manual_seed(seed)
        order = sorted(range(len(chats)), key=lambda i: sum(len(m["content"]) for m in chats[i]))
        answers = [""] * len(chats)
        for start in range(0, len(order), self._batch):
            part = order[start : start + self._batch]
            inputs = self._encode([chats[i] for i in part])
            sampling = (
                {"do_sample": True, "temperature": temperature, "top_k": 0}
                if temperature
                else {"do_sample": False}
            )
            with torch.inference_mode():
                out = self._model.generate(**inputs, max_new_tokens=_MAX_NEW_TOKENS, **sampling)
            texts = self._tokenizer.batch_decode(
                out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
            )
            for i, text in zip(part, texts, strict=True):
                answers[i] = text
        return answers

    def choose(self, chats: Sequence[Chat], labels: tuple[str, str]) -> list[float]:
        """P(first label) of two single-token labels, renormalised over them."""
        import torch

        ids = [self._tokenizer.convert_tokens_to_ids(label) for label in labels]
        answers: list[float] = []
        for start in range(0, len(chats), self._batch):
            inputs = self._encode(chats[start : start + self._batch])
            positions = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
            with torch.inference_mode():
                logits = self._model(**inputs, position_ids=positions, logits_to_keep=1).logits[:, -1, ids]
            answers += logits.double().softmax(-1)[:, 0].tolist()
        return answers


def user(text: str) -> dict[str, str]:
    """A turn of the user."""
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    """A turn of the assistant."""
    return {"role": "assistant", "content": text}
