"""Settings of the data stages and of their export; each default stands here and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from constitute.registry import nearest
from constitute.types import Record


class OverlapConfig(Record):
    """Eval sets whose text is kept out of data, and what counts as theirs."""

    against: tuple[str, ...] = Field(
        default=(), description="files, folders, globs or data sets of eval items"
    )
    words: int = Field(
        default=13, ge=5, le=64, description="words in a row that are an overlap; a shorter text counts whole"
    )
    common: int = Field(
        default=50, ge=1, description="a wording that more texts of the eval sets share is none of an item"
    )


class ReadConfig(Record):
    """How files of public shapes are read; `constitute data inspect` shows what comes of it."""

    shape: str | None = Field(default=None, description="read every row as this shape; recognised if unsaid")
    criterion: str = Field(
        default="", description="which of a shape's judgements counts, where it has several"
    )
    pairs: Literal["all", "best_worst"] = Field(
        default="all", description="pairs of three answers and more: every two, or the best and the worst"
    )
    per_prompt: int | None = Field(
        default=None, ge=1, description="most pairs of one prompt, the first of all files read together"
    )
    min_gap: float = Field(default=0.0, ge=0, description="how far apart two scores must lie, ties aside")
    min_ratio: float = Field(default=1.0, ge=1, description="how many times the votes of SHP's worse answer")
    overlap: OverlapConfig = OverlapConfig()
    skip_bad: bool = Field(default=False, description="trainers count and skip lines that cannot be read")


class GenerateConfig(Record):
    """Sampling of the responses. A response cut at `max_tokens` fails unless `keep_truncated`."""

    n: int = Field(default=1, ge=1, le=1024)
    max_tokens: int = Field(default=256, ge=1, le=131072)
    temperature: float = Field(default=1.0, ge=0, le=10)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stop: tuple[str, ...] = ()
    system: str = Field(default="", description="system message put before prompts that have none")
    thinking_tokens: int = Field(
        default=0, ge=0, le=131072, description="tokens a model may think before it answers; 0: thinking off"
    )
    keep_truncated: bool = False


class ContrastConfig(GenerateConfig):
    """Sampling of answers under a principle and under its opposite in turn; `n` is even."""

    n: int = Field(default=2, ge=2, le=1024, multiple_of=2)


class ReviseConfig(Record):
    """Rounds of critique and revision (arXiv 2212.08073, section 3.1)."""

    rounds: int = Field(default=1, ge=1, le=64)
    critique: bool = Field(default=True, description="False revises without a critique first")
    skip_clean: bool = Field(
        default=False,
        description="let the critic say that there is nothing to mend, and then ask for no revision",
    )
    thinking_tokens: int = Field(
        default=0, ge=0, le=131072, description="tokens a model may think before it answers; 0: thinking off"
    )
    max_tokens: int = Field(default=256, ge=1, le=131072)
    temperature: float = Field(default=1.0, ge=0, le=10)
    top_p: float = Field(default=1.0, gt=0, le=1)
    stop: tuple[str, ...] = ()
    keep_truncated: bool = False
    few_shot: int = Field(default=0, ge=0, le=64, description="critiques and revisions shown before each")
    few_shot_file: str | None = Field(
        default=None, description="file of examples to show instead of the principles' own"
    )


# Layout of the question that compares two answers -> its template.
LAYOUTS = {"shared": "compare", "paper": "compare_paper"}


class LikelihoodConfig(Record):
    """How the method `likelihood` turns four scores into a vote."""

    against: Literal["none", "opposite"] = Field(
        default="none", description="compare with no instruction, or with one to do the opposite"
    )
    per: Literal["token", "sum"] = Field(
        default="token", description="nats per token, or of the whole answer"
    )
    beta: float | None = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="log-odds of a vote for each nat of difference; None takes 10 per token, 1 summed",
    )

    @property
    def sharpness(self) -> float:
        """`beta`, or its convention: 0.1 nats a token, or 1 nat of the whole answer, are log-odds of 1."""
        return self.beta or (10.0 if self.per == "token" else 1.0)


class LabelConfig(Record):
    """Preference labels.

    `principles`: one or k drawn for each pair, or all with their weights.
    `layout`: the principle after both answers, so that all principles of a pair share what comes before,
    or before them as in arXiv 2212.08073 (section 4.1).
    """

    pairs: str = Field(default="samples", description="which answers are compared, a name in PAIRS")
    rank: str = Field(
        default="rating", description="best_worst: the label method that ranks the samples, answer by answer"
    )
    against: Path | None = Field(
        default=None, description="models: the run whose answers to the same prompts are compared with"
    )
    principles: Literal["one", "all"] | Annotated[int, Field(ge=1)] = "one"
    adaptive: int | None = Field(
        default=None,
        ge=1,
        description="ask so many principles of a pair first, and all others only where these disagree",
    )
    adaptive_margin: float = Field(
        default=0.1, ge=0, le=1, description="adaptive: a smaller |2 P(A) - 1| of the first is disagreement"
    )
    layout: Literal["shared", "paper"] = "shared"
    rule: str = Field(default="mean", description="how votes become a label, a name in RULES")
    # The margin from which `constitution attribute` calls a vote confident: |2 P(A) - 1| of 0.2.
    threshold: float = Field(
        default=0.1, ge=0, le=0.5, description="priority: how far from 0.5 the mean of a level decides"
    )
    method: str = Field(default="choice", description="how a vote is taken, a name in LABEL_METHODS")
    votes: Literal["logprobs", "sampled"] = Field(
        default="logprobs", description="sampled counts answers, for a judge without log-probabilities"
    )
    samples: int = Field(
        default=8, ge=1, le=1024, description="answers to a question where votes are sampled"
    )
    min_mass: float = Field(default=0.1, ge=0, le=1, description="P(A)+P(B) below it abstains")
    few_shot: int = Field(
        default=0, ge=0, le=64, description="choice: judged pairs shown before each question"
    )
    few_shot_file: str | None = Field(
        default=None, description="file of examples to show instead of the principles' own"
    )
    likelihood: LikelihoodConfig = LikelihoodConfig()
    reasoning_tokens: int = Field(
        default=512, ge=1, le=131072, description="reasoned: tokens of reasoning before the answer"
    )
    reasoning_temperature: float = Field(
        default=0.0, ge=0, le=10, description="reasoned: 0 takes the likeliest"
    )
    clamp: tuple[float, float] = Field(
        default=(0.4, 0.6), description="reasoned: P(A) is kept within these (arXiv 2212.08073, section 4.1)"
    )

    @field_validator("clamp")
    @classmethod
    def _symmetric(cls, clamp: tuple[float, float]) -> tuple[float, float]:
        low, high = clamp
        # Otherwise a label would depend on which answer is called A.
        if not 0 <= low < 0.5 < high <= 1 or abs(low + high - 1) > 1e-9:
            raise PydanticCustomError(
                "bad_clamp", "must be two numbers at equal distance from 0.5, such as [0.4, 0.6] or [0, 1]"
            )
        return clamp


class GatesConfig(Record):
    """What labels must reach before anything is trained on them; a gate that is None lets all pass."""

    min_agreement: float | None = Field(
        default=None, ge=0, le=1, description="share of the pairs that people judged, on which labels agree"
    )
    max_order_flip: float | None = Field(
        default=None, ge=0, le=1, description="share of pairs whose votes mostly change with the order"
    )


NO_GATES = GatesConfig()


# Presets of `filter.use`. What `standard` removes is wrong in any data; an unchanged answer or a refusal may
# be right, and `strict` removes them too.
FILTER_PRESETS: dict[str, tuple[str, ...]] = {
    "standard": ("copies_critique", "preamble", "leak", "language", "repetition", "reasoning"),
    "strict": (
        *("copies_critique", "preamble", "leak", "language", "repetition", "reasoning"),
        *("unchanged", "refusal"),
    ),
}


class FilterConfig(Record):
    """The stage `filter`, which removes rows that are not worth training on; a chain has none by default."""

    use: tuple[str, ...] = Field(
        default=("standard",), description="filters by name, in their order, and presets: standard, strict"
    )
    every_round: bool = Field(
        default=False, description="judge every revision of a row, for export.revisions=all; else the last"
    )
    alike: float = Field(
        default=0.8, gt=0, le=1, description="share of words in common from which a revision is its critique"
    )
    repeated: float = Field(
        default=0.3, gt=0, le=1, description="share of runs of four words said before that makes a loop"
    )
    leak_words: int = Field(
        default=8, ge=4, le=64, description="words in a row, as in an example or a principle, that are a leak"
    )
    refusals: str | None = Field(
        default=None, description="file of phrases, one a line, in place of the packaged ones"
    )
    few_shot_file: str | None = Field(
        default=None, description="file of examples whose words must not come back, as in revise"
    )


# Name of a format of training sets -> its `ExportFormat`, as "module:attribute".
EXPORT_FORMATS = {
    "jsonl": "constitute.data.formats:JSONL",
    "parquet": "constitute.data.formats:PARQUET",
    "hh": "constitute.data.trl:HH",
    "hh-prompt": "constitute.data.trl:HH_PROMPT",
    "trl-implicit": "constitute.data.trl:IMPLICIT",
    "trl-unpaired": "constitute.data.trl:UNPAIRED",
    "trl-prompt-completion": "constitute.data.trl:PROMPT_COMPLETION",
    "openai": "constitute.data.consumers:OPENAI",
    "openrlhf": "constitute.data.consumers:OPENRLHF",
    "verl": "constitute.data.consumers:VERL",
    "nemo-rl": "constitute.data.consumers:NEMO_RL",
    "argilla": "constitute.data.consumers:ARGILLA",
}


class ExportConfig(Record):
    """Data sets written from a run."""

    format: str = "jsonl"
    revisions: Literal["last", "all", "best", "none"] = "last"
    """Which answers SFT rows imitate: the last revision, every revision, the one of the response and
    the last revision that the run's labels prefer, or the response."""

    preambles: Literal["leave_out", "keep"] = "leave_out"
    """Revisions that open with talk about themselves, such as "Here is the revised reply:", in SFT rows."""

    accept: Literal["all", "both_orders"] = "all"
    """Revisions in SFT rows: all, or those that the run's labels prefer to the response in both orders."""

    sft_share: float = Field(
        default=1.0, gt=0, le=1, description="share of the prompts whose answers become SFT rows"
    )
    """Below 1, the other prompts are left to labels and to reinforcement learning, as arXiv 2203.02155,
    section 3.2, keeps its sets of prompts apart."""

    near_duplicates: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="leave out rows whose runs of five words are shared so far (Jaccard) with an earlier row",
    )
    match_lengths: bool = Field(
        default=False, description="leave out pairs until the longer answer is chosen in half of them"
    )
    seed: int = Field(default=0, ge=0, description="of the choices that sft_share and match_lengths make")

    min_margin: float = Field(
        default=0.0, ge=0, le=1, description="preference rows with a smaller |2 P(chosen) - 1| are left out"
    )
    drop_order_flips: bool = Field(
        default=False, description="leave preference rows out where most votes change with the order"
    )
    overlap: OverlapConfig = OverlapConfig()
    reviewed: Literal["none", "only", "override"] = "none"
    """What people chose in reviews: no part of preference rows, the only pairs exported, or the label of
    those pairs in place of the judge's."""

    exclude: str | None = Field(
        default=None, description="file of ids, of rows or prompts, one a line, that are left out"
    )
    licence: str | None = Field(
        default=None, description="licence of the data set as the Hub names it, such as cc-by-4.0"
    )

    @field_validator("format")
    @classmethod
    def _known_format(cls, name: str) -> str:
        if name not in EXPORT_FORMATS:
            text = nearest(name, EXPORT_FORMATS)
            raise PydanticCustomError("unknown_format", "{text}", {"text": text})
        return name

    @model_validator(mode="after")
    def _accepts_what_was_judged(self) -> ExportConfig:
        if self.accept == "both_orders" and self.revisions not in ("last", "best"):
            raise PydanticCustomError(
                "not_judged",
                "export.accept=both_orders goes with export.revisions=last or best: no label judges other "
                "revisions",
            )
        return self
