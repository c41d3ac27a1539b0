"""Choose the best of n samples of each prompt, and estimate what the choice gains."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from constitute.errors import DataError
from constitute.files import BadLine, atomic, json_lines
from constitute.stats import Estimate, mean_of
from constitute.train.common.best_of import best_of_n_kl, rank_weights, sizes_up_to
from constitute.types import Prompt, Record

SAMPLES, BEST = "samples.jsonl", "best.jsonl"


class Sampled(Record):
    """Line of samples.jsonl: one completion of a prompt, with its tokens counted and its scores by name.

    `score` is the weighted sum of `scores`; `ended` says that the last token is an end token.
    """

    prompt_id: str
    sample: int
    text: str
    tokens: int
    finish_reason: str
    ended: bool
    scores: dict[str, float]
    score: float

    @property
    def eligible(self) -> bool:
        """Whether it may be the best: it ended by itself, with something said."""
        return self.ended and bool(self.text.strip())


def best_of(scores: Sequence[float], k: int, ineligible: int = 0) -> float:
    """Unbiased estimate of the expected greatest of k scores, from n >= k independent samples.

    The mean of the maximum over all subsets of k (see `rank_weights`). Of the n samples, `ineligible` have
    no score and are never chosen: they rank below all others, and a subset of them alone does not count.
    Raises `ValueError` for no scores or k out of 1..n.
    """
    if not scores:
        raise ValueError(f"the best of {k} cannot be estimated from no scores")
    weights = rank_weights(len(scores) + ineligible, k)[ineligible:]
    weighted = math.fsum(weight * score for weight, score in zip(weights, sorted(scores), strict=True))
    return weighted / math.fsum(weights)


def reward_curve(scores: Sequence[Sequence[float]], n: int, seed: int) -> dict[str, Estimate]:
    """Expected reward of the best of 1, 2, 4, ..., n by name, from each prompt's eligible samples.

    Means over the prompts that have any, with a bootstrap interval.
    """
    able = [row for row in scores if row]
    if not able:
        return {}
    return {
        f"best of {k}": mean_of([best_of(row, k, n - len(row)) for row in able], f"{seed}:{k}")
        for k in sizes_up_to(n)
    }


def argmax(samples: Sequence[Sampled]) -> Sampled | None:
    """The eligible sample with the greatest score, the first of equals; None where none is eligible."""
    able = [sample for sample in samples if sample.eligible]
    return max(able, key=lambda sample: (sample.score, -sample.sample)) if able else None


def read_samples(path: Path) -> Iterator[Sampled]:
    """The lines of a samples.jsonl, in order. Raises `DataError` for a line that cannot be read."""
    for line in json_lines(path):
        if isinstance(line, BadLine):
            raise DataError(f"{line.where}: {line.reason}; remove the folder and sample again")
        yield Sampled.model_validate(line.value)


def choose(out: Path, prompts: Sequence[Prompt], n: int, seed: int) -> dict[str, Any]:
    """Write best.jsonl from samples.jsonl, whole or not at all, and say what choosing gains."""
    scores: list[list[float]] = []
    chosen: list[Sampled] = []
    cut_off = empty = tokens = 0
    stored = read_samples(out / SAMPLES)
    with atomic(out / BEST) as file:
        for prompt in prompts:
            samples = list(islice(stored, n))
            assert all(sample.prompt_id == prompt.id for sample in samples), prompt.id
            scores.append([sample.score for sample in samples if sample.eligible])
            cut_off += sum(not sample.ended for sample in samples)
            empty += sum(sample.ended and not sample.eligible for sample in samples)
            tokens += sum(sample.tokens for sample in samples)
            best = argmax(samples)
            if best is not None:
                chosen.append(best)
                file.write((json.dumps(_best_row(prompt, best), ensure_ascii=False) + "\n").encode())
    return {
        "prompts": len(prompts),
        "prompts_failed": len(prompts) - len(chosen),
        "samples": n * len(prompts),
        "samples_cut_off": cut_off,
        "samples_empty": empty,
        "tokens": tokens,
        "reward": to_jsonable_python(reward_curve(scores, n, seed)),
        "chosen": to_jsonable_python(_means(chosen, seed)),
        "kl_bound": {f"best of {k}": best_of_n_kl(k) for k in sizes_up_to(n)},
    }


def _best_row(prompt: Prompt, best: Sampled) -> dict[str, Any]:
    """A row that `train sft` reads, and what it was chosen by."""
    return {
        "id": prompt.id,
        "prompt": [message.model_dump() for message in prompt.messages],
        "completion": best.text.strip(),
        "sample": best.sample,
        "score": best.score,
    }


def _means(chosen: Sequence[Sampled], seed: int) -> dict[str, Estimate]:
    """Mean length of the completions chosen, in tokens, and each of their scores."""
    if not chosen:
        return {}
    columns = {"tokens": [float(sample.tokens) for sample in chosen]}
    columns |= {name: [sample.scores[name] for sample in chosen] for name in chosen[0].scores}
    return {name: mean_of(values, f"{seed}:{name}") for name, values in columns.items()}
