"""Label a pair with a soft preference, made of the votes of its principles by `label.rule`."""

from __future__ import annotations

from functools import partial

from constitute.config import LabelConfig
from constitute.constitution.draw import draw
from constitute.constitution.priority import by_level
from constitute.errors import Abstain, UsageError
from constitute.stages import few_shot
from constitute.stages.base import Sample, StageSpec
from constitute.stages.card import EQUAL_ANSWERS
from constitute.stages.labels import label_method
from constitute.stages.labels.base import together
from constitute.stages.labels.rules import label_of, rule_named
from constitute.types import (
    Ability,
    Comparison,
    Constitution,
    LabelledPair,
    Principle,
    Response,
)


async def label(
    row: Comparison, sample: Sample, cfg: LabelConfig, constitution: Constitution
) -> LabelledPair:
    """The pair with P(A) as `cfg.rule` makes it of its votes, one vote a principle.

    Raises `Abstain` for equal answers and where a method does, such as for mass under `cfg.min_mass`: a pair
    is labelled by every principle asked, or not at all.
    """
    if row.a == row.b:
        raise Abstain(EQUAL_ANSWERS)
    vote = label_method(cfg.method).vote
    votes = await together([vote(row, p, w, sample, cfg) for p, w in voters(row.id, cfg, constitution)])
    return LabelledPair(id=row.id, comparison=row, label=label_of(votes, cfg, by_level(constitution)))


def voters(row_id: str, cfg: LabelConfig, constitution: Constitution) -> list[tuple[Principle, float]]:
    """The principles that vote on a pair, with the weight of each vote.

    Drawn ones (`one` or a number, without repeats) weigh 1 each, as the draw went by weight already;
    with `all`, each has its own weight, and those of weight 0 have no vote.
    """
    left = [principle for principle in constitution.principles if principle.weight > 0]
    if cfg.principles == "all":
        return [(principle, principle.weight) for principle in sorted(left, key=lambda p: p.id)]
    wanted = 1 if cfg.principles == "one" else int(cfg.principles)
    drawn: list[tuple[Principle, float]] = []
    while left and len(drawn) < wanted:
        principle = draw(constitution.model_copy(update={"principles": tuple(left)}), row_id, 0)
        drawn.append((principle, 1.0))
        left.remove(principle)
    return drawn


def pairs_of(n: int) -> list[tuple[int, int]]:
    """Which of a prompt's n samples are compared: 0 with 1, 2 with 3; an odd last one is left out."""
    return [(at, at + 1) for at in range(0, n - 1, 2)]


def pair_of_samples(first: Response, second: Response) -> Comparison:
    """Two responses to one prompt as a comparison."""
    return Comparison(
        id=f"{first.id}-{second.sample}",
        prompt=first.prompt,
        a=first.response,
        b=second.response,
        a_source=f"response {first.sample}",
        b_source=f"response {second.sample}",
    )


def pair_of_revision(row: Response) -> Comparison:
    """The first response (A) against the last revision (B)."""
    return Comparison(
        id=f"{row.id}-rev",
        prompt=row.prompt,
        a=row.response,
        b=row.final,
        a_source="response",
        b_source=f"revision {len(row.steps)}",
    )


def _templates(cfg: LabelConfig) -> tuple[str, ...]:
    return label_method(cfg.method).templates(cfg)


def _check(cfg: LabelConfig) -> None:
    method = label_method(cfg.method)
    if cfg.votes == "sampled" and not method.sampled:
        raise UsageError(
            f"label.method: {cfg.method} takes no sampled votes; set label.votes=logprobs, or "
            "label.method=choice"
        )
    if cfg.few_shot and not method.few_shot:
        raise UsageError(
            f"label.method: {cfg.method} shows no examples; set label.few_shot=0, or label.method=choice"
        )
    rule_named(cfg.rule)
    if cfg.rule != "mean" and cfg.principles in ("one", 1):
        raise UsageError(
            f"label.rule: {cfg.rule} decides between principles, and label.principles={cfg.principles} has "
            "one vote for each pair, which is the label under every rule; set label.principles=all, or "
            "label.rule=mean"
        )
    few_shot.check("label", cfg)


def needs(cfg: LabelConfig) -> tuple[Ability, ...]:
    """What the judge must be able to do; nothing where answers are sampled."""
    return () if cfg.votes == "sampled" else label_method(cfg.method).needs


STAGE = StageSpec(
    reads="pair",
    work=label,
    settings=LabelConfig,
    templates=_templates,
    check=_check,
    needs=needs,
    files=frozenset({"few_shot_file"}),
    shows=partial(few_shot.digests, "label"),
)
