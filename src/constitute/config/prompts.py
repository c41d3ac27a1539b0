"""Settings of the prompts that a model writes: `constitute prompts write`."""

from __future__ import annotations

from pydantic import Field

from constitute.types import Record, SamplingParams


class WritePromptsConfig(Record):
    """Defaults follow Perez et al. (arXiv 2202.03286, section 3) where the paper gives them."""

    methods: tuple[str, ...] = Field(
        default=("zero_shot",), description="how prompts are written, in this order"
    )
    n: int = Field(default=100, ge=1, le=1_000_000, description="prompts wanted of each method")
    oversample: float = Field(
        default=2.0, ge=1.0, le=100.0, description="prompts asked for, for each one that is wanted"
    )
    per_answer: int = Field(
        default=10, ge=1, le=100, description="prompts asked for in one answer, as a numbered list"
    )
    shots: int = Field(
        default=5, ge=1, le=64, description="few_shot, worked: prompts shown before the question"
    )
    temperature: float = Field(
        default=0.1,
        gt=0.0,
        le=100.0,
        description="worked: an earlier prompt is drawn by exp(score / temperature)",
    )
    sampling: SamplingParams = Field(
        default=SamplingParams(max_tokens=512, temperature=1.0, top_p=0.95), description="of the prompts"
    )
    reply: SamplingParams = Field(
        default=SamplingParams(max_tokens=128, temperature=1.0),
        description="worked: of the reply whose breach of the principle is a prompt's score",
    )
    score: str = Field(
        default="yes_no", description="worked: how a reply is scored: yes_no, or likelihood for small models"
    )
    shortest: int = Field(default=3, ge=1, description="fewest words of a prompt")
    longest: int = Field(default=150, ge=1, description="most words of a prompt")
    near_duplicate: float = Field(
        default=0.6,
        gt=0.0,
        le=1.0,
        description="Jaccard index of pairs of words from which two prompts are one",
    )
