"""Choose the best of n samples of each prompt, and estimate what the choice gains."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from constitute.errors import DataError
from constitute.files import BadLine, atomic, json_lines
from constitute.stats import Estimate, mean_of
from constitute.types import Prompt, Record

SAMPLES, BEST = "samples.jsonl", "best.jsonl"
# Of n samples at least so many are no choice: the best of n is the best of half as many, or fewer.
_MANY_CUT_OFF = 0.5


class SampledCompletion(Record):
    """Line of samples.jsonl: one completion of a prompt, with its tokens counted and its scores by name.

    `score` is what they are together; `ended` says that the last token is an end token.
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


@cache
def rank_weights(n: int, k: int, ineligible: int = 0) -> tuple[float, ...]:
    """Chance of each of n samples, ranked from the lowest, to be the best of k drawn without replacement.

    Unbiased for best-of-k of the policy that drew them: the sample of rank i from below is the best of
    C(i - 1, k - 1) of the C(n, k) subsets (arXiv 2112.09332, appendix I; 2210.10760, section 2). The
    `ineligible` lowest have no weight, and subsets of them alone do not count. Raises `ValueError` unless
    1 <= k <= n and one sample is eligible.
    """
    if not 1 <= k <= n or ineligible >= n:
        raise ValueError(f"the best of {k} cannot be estimated from {n - ineligible} scores of {n} samples")
    subsets = math.comb(n, k) - math.comb(ineligible, k)
    return tuple(math.comb(below, k - 1) / subsets for below in range(ineligible, n))


def best_of(scores: Sequence[float], k: int, ineligible: int = 0) -> float:
    """Unbiased estimate of the expected greatest of k scores, from at least k independent samples.

    `ineligible` more samples than there are `scores` are never chosen. Raises `ValueError` for no scores or
    too few samples.
    """
    weights = rank_weights(len(scores) + ineligible, k, ineligible)
    return math.fsum(weight * score for weight, score in zip(weights, sorted(scores), strict=True))


def best_of_n_kl(n: int) -> float:
    """KL of best-of-n from the policy it samples, in nats: ln n - (n - 1)/n (arXiv 2009.01325, appendix G.3).

    An upper bound for a finite set of responses (arXiv 2401.01879).
    """
    return math.log(n) - (n - 1) / n


def sizes(n: int) -> list[int]:
    """1, 2, 4, ... and n itself."""
    return sorted({2**power for power in range(n.bit_length())} | {n})


def reward_curve(scores: Sequence[Sequence[float]], n: int, seed: int) -> dict[str, Estimate]:
    """Expected reward of the best of 1, 2, 4, ..., n by name, from each prompt's eligible samples.

    Means over the prompts that have any, with a bootstrap interval.
    """
    able = [row for row in scores if row]
    if not able:
        return {}
    return {
        f"best of {k}": mean_of([best_of(row, k, n - len(row)) for row in able], f"{seed}:{k}")
        for k in sizes(n)
    }


def argmax(samples: Sequence[SampledCompletion]) -> SampledCompletion | None:
    """The eligible sample with the greatest score, the first of equals; None where none is eligible."""
    able = [sample for sample in samples if sample.eligible]
    return max(able, key=lambda sample: (sample.score, -sample.sample)) if able else None


def read_samples(path: Path) -> Iterator[SampledCompletion]:
    """The lines of a samples.jsonl, in order. Raises `DataError` for a line that cannot be read."""
    for line in json_lines(path):
        if isinstance(line, BadLine):
            raise DataError(f"{line.where}: {line.reason}; remove the folder and sample again")
        yield SampledCompletion.model_validate(line.value)


def choose(out: Path, prompts: Sequence[Prompt], n: int, seed: int) -> dict[str, Any]:
    """Write best.jsonl from samples.jsonl, whole or not at all, and say what choosing gains."""
    scores: list[list[float]] = []
    chosen: list[SampledCompletion] = []
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
        "kl_bound": {f"best of {k}": best_of_n_kl(k) for k in sizes(n)},
    }


def shortfall(summary: Mapping[str, Any], max_new_tokens: int) -> str:
    """What the summary of `choose` lacks, and the setting to change; empty where that is little."""
    cut_off, samples = summary["samples_cut_off"], summary["samples"]
    failed, prompts = summary["prompts_failed"], summary["prompts"]
    without = f"{failed} of {prompts} prompts have no answer to choose"
    if cut_off and (failed or cut_off >= _MANY_CUT_OFF * samples):
        found = f"{cut_off} of {samples} samples were cut off at {max_new_tokens} tokens"
        found += f", and {without}" if failed else ""
        return f"{found}; raise train.best_of_n.max_new_tokens"
    return f"{without}: all their samples are empty; read {SAMPLES}" if failed else ""


def _best_row(prompt: Prompt, best: SampledCompletion) -> dict[str, Any]:
    """A row that `train sft` reads, and what it was chosen by."""
    return {
        "id": prompt.id,
        "prompt": [message.model_dump() for message in prompt.messages],
        "completion": best.text.strip(),
        "sample": best.sample,
        "score": best.score,
    }


def _means(chosen: Sequence[SampledCompletion], seed: int) -> dict[str, Estimate]:
    """Mean length of the completions chosen, in tokens, their score, and each of its parts."""
    if not chosen:
        return {}
    columns = {
        "tokens": [float(sample.tokens) for sample in chosen],
        "score": [sample.score for sample in chosen],
    }
    columns |= {name: [sample.scores[name] for sample in chosen] for name in chosen[0].scores}
    return {name: mean_of(values, f"{seed}:{name}") for name, values in columns.items()}
