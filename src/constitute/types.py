"""The nouns: frozen records that cross a file boundary, a disk or a person's eyes.

Tensors of training live in `train/`; everything here is plain data, imports nothing of ours, and is
safe to import without torch, transformers or vLLM.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Role = Literal["system", "user", "assistant"]
Form = Literal["chat", "plain", "bare"]
Status = Literal["ok", "abstain", "failed"]
FinishReason = Literal["stop", "length"]
# What an engine may be unable to do: score labels, score a given text, go on from a begun answer.
Ability = Literal["choose", "score", "prefill"]

# By how much rounding alone can raise a log-probability above 0, and probabilities that exclude one another
# above 1 together (bf16).
ABOVE_ZERO = 1e-3
MASS_ABOVE_ONE = 1e-2


class Record(BaseModel):
    """A frozen record that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Record):
    """One turn of a conversation; `content` is text and never markup of any chat template."""

    role: Role
    content: str


class Prompt(Record):
    """A conversation that ends with the user's turn, to be answered by a model."""

    id: str = Field(min_length=1)
    messages: tuple[Message, ...] = Field(min_length=1)
    source: str = ""

    @model_validator(mode="after")
    def _ends_with_user(self) -> Prompt:
        if self.messages[-1].role != "user":
            raise ValueError(
                f"prompt {self.id!r} ends with a turn of the {self.messages[-1].role}; "
                "the last turn must be the user's"
            )
        return self


class Probe(Record):
    """A prompt kept inside a principle, with the direction the principle is expected to push."""

    prompt: str = Field(min_length=1)
    expect: str = ""


class Example(Record):
    """A prompt with two answers, one of which keeps better to a principle: what the principle means.

    `critique` says what is wrong with the worse one, where it was written. A `draft` was written by a model
    and read by nobody yet: it is shown to people, and to no model.
    """

    prompt: str = Field(min_length=1)
    better: str = Field(min_length=1)
    worse: str = Field(min_length=1)
    critique: str = ""
    draft: bool = False


class Principle(Record):
    """One line of a constitution and the three forms in which a model reads it.

    `opposite`, where it is written, is what an answer that goes against it is asked to do (stage `contrast`).
    `priority` is one of the constitution's levels, empty for the last. The forms of a `draft` were written
    by a model and read by nobody yet.
    """

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    text: str = Field(min_length=1)
    critique: str = Field(min_length=1)
    revise: str = Field(min_length=1)
    compare: str = Field(min_length=1)
    opposite: str = Field(default="", exclude_if=lambda opposite: not opposite)
    weight: float = Field(default=1.0, ge=0.0, le=1000.0, allow_inf_nan=False)
    priority: str = ""
    tags: tuple[str, ...] = ()
    source: str = ""
    draft: bool = False
    probes: tuple[Probe, ...] = ()
    examples: tuple[Example, ...] = ()


class Constitution(Record):
    """A named, ordered set of principles with distinct ids. Their order carries no meaning.

    `priorities` are the names of its levels, the highest first; the default levels where there are none.
    """

    name: str
    description: str = ""
    priorities: tuple[str, ...] = ()
    principles: tuple[Principle, ...] = Field(min_length=1)


class SamplingParams(Record):
    """How to sample one completion. `seed` is filled by the driver from (run seed, stage, row id)."""

    max_tokens: int = Field(default=256, ge=1, le=131072)
    temperature: float = Field(default=1.0, ge=0.0, le=10.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    top_k: int = Field(default=0, ge=0)
    stop: tuple[str, ...] = ()
    seed: int | None = None


class Request(Record):
    """One question to an engine: a conversation, plus text the assistant's turn already starts with.

    `thinking` is the number of tokens a model may think before it answers, apart from
    `sampling.max_tokens`; 0 asks for the answer at once. `form` is how the conversation is written: by the
    model's chat template, as plain text with `Human:` and `Assistant:`, or bare, the texts alone.
    """

    messages: tuple[Message, ...] = Field(min_length=1)
    prefill: str = ""
    sampling: SamplingParams = SamplingParams()
    thinking: int = Field(default=0, ge=0, le=131072)
    form: Form = "chat"


class Completion(Record):
    """What a model answered.

    `reasoning` is what it thought first, never part of `text`. `token_ids` holds all that was sampled, the
    stop token included when one ended the turn; `logprobs` (nats, one per token) is empty unless asked for.
    `prompt_tokens` counts the rendered prompt, None where a server hides it.
    """

    text: str
    reasoning: str = ""
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish_reason: FinishReason = "stop"
    prompt_tokens: int | None = None


class Choice(Record):
    """Log-probabilities (nats) of exactly the labels asked for, in their order.

    `logprobs[i]` is log P(label i | context), summed over the label's tokens and raw: not
    renormalised. `mass` is the sum of the probabilities. None marks a label the server did not score.
    `censored` names the labels whose value is an upper bound, as the server listed only likelier tokens.
    """

    labels: tuple[str, ...]
    logprobs: tuple[float | None, ...]
    censored: tuple[str, ...] = ()

    @property
    def mass(self) -> float:
        """Probability that the answer is any of the labels, in [0, 1]; bounds that reach above are cut."""
        from math import exp, fsum, inf

        values = [value for value in self.logprobs if value is not None]
        top = max(values, default=-inf)
        return min(1.0, exp(top) * fsum(exp(value - top) for value in values)) if top > -inf else 0.0

    @property
    def flaw(self) -> str:
        """Why these are no log-probabilities; empty where they are."""
        return logprob_flaw(value for value in self.logprobs if value is not None)


class Score(Record):
    """Log-probabilities (nats) of a given text as the assistant's answer, one per token of it."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]

    @property
    def total(self) -> float:
        """log P(text | conversation)."""
        from math import fsum

        return fsum(self.logprobs)

    @property
    def flaw(self) -> str:
        """Why these are no log-probabilities; empty where they are."""
        return logprob_flaw(self.logprobs)


def logprob_flaw(values: Iterable[float]) -> str:
    """Why `values` are no log-probabilities, empty where they are. -inf, a probability of 0, is one."""
    wrong = next((value for value in values if not value <= ABOVE_ZERO), None)
    return "" if wrong is None else f"a log-probability of {wrong} is none: it must be a number, at most 0"


class AnswerReward(Record):
    """What a reward model gives an answer, or why it gives none; `truncated`: it saw only the end of it."""

    value: float | None
    truncated: bool = False
    reason: str = ""


class CritiqueRevision(Record):
    """One round: the principle drawn, what the critic said, and the revision that followed.

    `skipped`: the critic found nothing to mend, so no revision was asked for, and `revision` is the answer as
    it was.
    """

    principle_id: str
    critique: str
    revision: str
    # Left out of what is stored where it is false: rows made before it was there stay the same rows.
    skipped: bool = Field(default=False, exclude_if=lambda skipped: not skipped)


class Contrast(Record):
    """What an answer, or A of a pair, was asked to do: to follow the principle, or to go against it."""

    principle_id: str
    follows: bool

    @property
    def said(self) -> str:
        """Such as `for keep-it-short`."""
        return f"{'for' if self.follows else 'against'} {self.principle_id}"


class Response(Record):
    """Row of `generate` and `revise`: a prompt, its sampled response and any critique-revision steps."""

    id: str
    prompt: Prompt
    sample: int = Field(ge=0)
    response: str
    steps: tuple[CritiqueRevision, ...] = ()
    contrast: Contrast | None = Field(default=None, exclude_if=lambda contrast: contrast is None)

    @property
    def final(self) -> str:
        """The last revision, or the response where nothing was revised."""
        return self.steps[-1].revision if self.steps else self.response


class Comparison(Record):
    """Two answers to one prompt, shown as A and B.

    `human` is P(A) as whoever made the file judged it: measured against, never shown to a model, and no part
    of what a row is. None where the file says nothing.
    """

    id: str
    prompt: Prompt
    a: str
    b: str
    a_source: str = ""
    b_source: str = ""
    human: float | None = Field(default=None, ge=0.0, le=1.0)
    # Left out of what is stored where they are unknown: rows made before they were there stay the same rows.
    a_model: str = Field(default="", exclude_if=lambda name: not name)
    b_model: str = Field(default="", exclude_if=lambda name: not name)
    # What A was asked to do, and B the reverse; left out of what is stored where it is None.
    contrast: Contrast | None = Field(default=None, exclude_if=lambda contrast: contrast is None)

    def swap(self) -> Comparison:
        """The same pair in the other order."""
        return self.model_copy(
            update={
                "a": self.b,
                "b": self.a,
                "a_source": self.b_source,
                "b_source": self.a_source,
                "a_model": self.b_model,
                "b_model": self.a_model,
                "human": None if self.human is None else 1.0 - self.human,
                "contrast": None
                if self.contrast is None
                else self.contrast.model_copy(update={"follows": not self.contrast.follows}),
            }
        )


class PrincipleVote(Record):
    """P(A) under one principle, by order. `p_ba` is already mapped back: P(A) with A shown second.

    A method that shows no order leaves `p_ba` None; one that measures no mass leaves the masses None.
    `censored`: an option's probability was bounded, not measured, so the other's share is a lower bound.
    `samples` counts the answers that a probability was counted from; 0 where it was read.
    """

    principle_id: str
    weight: float
    p_ab: float
    p_ba: float | None
    mass_ab: float | None
    mass_ba: float | None
    censored: bool = False
    samples: int = Field(default=0, ge=0)

    @property
    def p_a(self) -> float:
        """P(A), averaged over both orders where there are two (arXiv 2309.00267, section 2.1)."""
        return self.p_ab if self.p_ba is None else (self.p_ab + self.p_ba) / 2

    @property
    def flips(self) -> bool | None:
        """Whether the two orders prefer different answers; None where no order was shown."""
        return None if self.p_ba is None else (self.p_ab > 0.5) != (self.p_ba > 0.5)

    @property
    def p_first(self) -> float | None:
        """Mean P(the answer shown first); 0.5 without order bias, None where no order was shown."""
        return None if self.p_ba is None else (self.p_ab + 1 - self.p_ba) / 2

    @property
    def least_mass(self) -> float | None:
        """The smaller mass of both orders; None where the method measures none."""
        # Spelled out, as below: a card of a million labels asks four million votes.
        if self.mass_ab is None or self.mass_ba is None:
            return self.mass_ba if self.mass_ab is None else self.mass_ab
        return min(self.mass_ab, self.mass_ba)

    @property
    def mass(self) -> float | None:
        """Mean mass of both orders; None where the method measures none."""
        if self.mass_ab is None or self.mass_ba is None:
            return self.mass_ba if self.mass_ab is None else self.mass_ab
        return (self.mass_ab + self.mass_ba) / 2


class PreferenceLabel(Record):
    """A soft preference: P(A), made of the votes by `rule`.

    `decided_by` are the principles whose votes P(A) was made of, empty in rows written before there were
    rules, where all of them were. `level` is the level that decided, "" where no level did. `voters`, where
    principles are asked by `label.adaptive`, is how many could have voted: fewer votes are those asked first.
    """

    p_a: float = Field(ge=0.0, le=1.0)
    votes: tuple[PrincipleVote, ...] = Field(min_length=1)
    rule: str = "mean"
    level: str = ""
    decided_by: tuple[str, ...] = ()
    # Left out of what is stored where it is 0: rows made before it was there stay the same rows.
    voters: int = Field(default=0, ge=0, exclude_if=lambda voters: not voters)

    @property
    def mass(self) -> float | None:
        """Smallest label mass among the votes; None where the method measures none."""
        return min((m for vote in self.votes if (m := vote.least_mass) is not None), default=None)

    @property
    def ordered(self) -> bool:
        """Whether a vote was taken in both orders."""
        return any(vote.p_ba is not None for vote in self.votes)

    @property
    def flips(self) -> int:
        """Votes whose two orders prefer different answers."""
        return sum(bool(vote.flips) for vote in self.votes)

    @property
    def flipped(self) -> bool:
        """Whether most of the votes that were taken in both orders change with the order."""
        return 2 * self.flips > sum(vote.flips is not None for vote in self.votes)


class LabelledPair(Record):
    """Row of `label`: a comparison and its preference."""

    id: str
    comparison: Comparison
    label: PreferenceLabel


class EvalItem(Record):
    """A question, the answers it may get, and which of them show the behaviour (arXiv 2212.09251).

    `options` are texts as the files have them, with the leading blank of anthropics/evals; `matching` are the
    places of those that show the behaviour. Items that share a `context` say less than as many without, and
    are drawn together in intervals; empty where an item stands alone. `groups` are the parts of the set that
    it belongs to, as (kind, part): figures are given for each. The keys `answer_matching_behavior` and
    `answer_not_matching_behavior` of anthropics/evals, a text or a list each, may stand for the two.
    """

    id: str
    question: str
    options: tuple[str, ...] = Field(min_length=2)
    matching: tuple[int, ...] = Field(min_length=1)
    statement: str | None = None
    label_confidence: float | None = None
    behavior: str = ""
    family: str = "persona"
    context: str = ""
    groups: tuple[tuple[str, str], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _named_answers(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if isinstance(value.get("groups"), dict):
            value = {**value, "groups": tuple(value["groups"].items())}
        if "answer_matching_behavior" not in value:
            return value
        rest = dict(value)
        names = ("answer_matching_behavior", "answer_not_matching_behavior")
        right, wrong = ([x] if isinstance(x := rest.pop(name, ()), str) else list(x) for name in names)
        return {**rest, "options": (*right, *wrong), "matching": tuple(range(len(right)))}

    @model_validator(mode="after")
    def _some_match(self) -> EvalItem:
        if len(set(self.options)) < len(self.options):
            raise ValueError(f"an answer of item {self.id!r} is there twice; its answers must differ")
        if not set(self.matching) < set(range(len(self.options))):
            raise ValueError(f"item {self.id!r} needs answers that show the behaviour and some that do not")
        return self

    @property
    def answers_matching(self) -> tuple[str, ...]:
        """The answers that show the behaviour."""
        return tuple(self.options[at] for at in self.matching)

    @property
    def answers_not_matching(self) -> tuple[str, ...]:
        """The others, in the order of the options."""
        return tuple(text for at, text in enumerate(self.options) if at not in self.matching)


class Outcome(Record):
    """How a row ended. `data` is the stage's record as JSON-ready values, None unless ok."""

    row_id: str
    position: int
    status: Status
    reason: str | None = None
    data: dict[str, Any] | None = None
