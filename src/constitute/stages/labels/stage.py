"""Label a pair with a soft preference, made of the votes of its principles by `label.rule`."""

from __future__ import annotations

import math
from functools import partial

from constitute.config import LabelConfig
from constitute.constitution.priority import by_level
from constitute.errors import Abstain, UsageError
from constitute.stages import few_shot
from constitute.stages.base import Sample, StageSpec
from constitute.stages.card import EQUAL_ANSWERS
from constitute.stages.labels import label_method
from constitute.stages.labels.adaptive import agree, asked_first, voters
from constitute.stages.labels.base import LabelMethod, together
from constitute.stages.labels.pairs import pair_sources
from constitute.stages.labels.rank import ranking
from constitute.stages.labels.rules import label_of, rule_named
from constitute.types import Ability, Comparison, Constitution, LabelledPair


async def label(
    row: Comparison, sample: Sample, cfg: LabelConfig, constitution: Constitution
) -> LabelledPair:
    """The pair with P(A) as `cfg.rule` makes it of its votes, one vote a principle.

    With `cfg.adaptive`, the principles asked first make the label where they agree. Raises `Abstain` for
    equal answers and where a method does, such as for mass under `cfg.min_mass`: a pair is labelled by every
    principle asked, or not at all.
    """
    if row.a == row.b:
        raise Abstain(EQUAL_ANSWERS)
    vote = label_method(cfg.method).vote
    everyone = voters(row.id, cfg, constitution)
    first = asked_first(row.id, cfg, everyone)
    votes = await together([vote(row, p, w, sample, cfg) for p, w in first])
    if len(first) < len(everyone) and not agree(votes, cfg):
        rest = [voter for voter in everyone if voter not in first]
        votes += await together([vote(row, p, w, sample, cfg) for p, w in rest])
        places = {principle.id: at for at, (principle, _) in enumerate(everyone)}
        votes.sort(key=lambda each: places[each.principle_id])
    made = label_of(votes, cfg, by_level(constitution))
    if cfg.adaptive is not None:
        made = made.model_copy(update={"voters": len(everyone)})
    return LabelledPair(id=row.id, comparison=row, label=made)


def _methods(cfg: LabelConfig) -> list[LabelMethod]:
    """The methods that ask: the one that votes and, where samples are ranked, the one that ranks."""
    ranks = any(source.ranks for source in pair_sources(cfg.pairs))
    return [label_method(name) for name in dict.fromkeys((cfg.method, *((cfg.rank,) if ranks else ())))]


def _templates(cfg: LabelConfig) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for method in _methods(cfg) for name in method.templates(cfg)))


def _check(cfg: LabelConfig) -> None:
    method = label_method(cfg.method)
    if cfg.votes == "sampled" and not all(each.sampled for each in _methods(cfg)):
        which = "rank" if method.sampled else "method"
        raise UsageError(
            f"label.{which}: {getattr(cfg, which)} takes no sampled votes; set label.votes=logprobs, or "
            f"label.{which}={'rating' if which == 'rank' else 'choice'}"
        )
    if cfg.few_shot and not method.few_shot:
        raise UsageError(
            f"label.method: {cfg.method} shows no examples; set label.few_shot=0, or label.method=choice"
        )
    if method.alone and cfg.principles not in ("one", 1):
        raise UsageError(
            f"label.method: {cfg.method} knows of the principle that a pair was made under alone; set "
            "label.principles=one, or label.method=choice"
        )
    rule_named(cfg.rule)
    if any(source.ranks for source in pair_sources(cfg.pairs)):
        ranking(cfg.rank)
    if cfg.rule != "mean" and cfg.principles in ("one", 1):
        raise UsageError(
            f"label.rule: {cfg.rule} decides between principles, and label.principles={cfg.principles} has "
            "one vote for each pair, which is the label under every rule; set label.principles=all, or "
            "label.rule=mean"
        )
    _check_adaptive(cfg)
    few_shot.check("label", cfg)


def _check_adaptive(cfg: LabelConfig) -> None:
    if cfg.adaptive is None:
        return
    most = {"one": 1, "all": math.inf}.get(str(cfg.principles)) or int(cfg.principles)
    if cfg.adaptive >= most:
        raise UsageError(
            f"label.adaptive: {cfg.adaptive} principles are asked first, and label.principles="
            f"{cfg.principles} leaves none to ask after them; set label.principles=all, or leave it out"
        )
    if cfg.rule != "mean":
        raise UsageError(
            f"label.adaptive: the rule {cfg.rule} hangs on every vote, so it cannot be told from the first "
            "ones; set label.rule=mean, or leave label.adaptive out"
        )


def needs(cfg: LabelConfig) -> tuple[Ability, ...]:
    """What the judge must be able to do; nothing where answers are sampled."""
    if cfg.votes == "sampled":
        return ()
    return tuple(dict.fromkeys(need for method in _methods(cfg) for need in method.needs))


STAGE = StageSpec(
    reads="pair",
    work=label,
    settings=LabelConfig,
    templates=_templates,
    check=_check,
    needs=needs,
    files=frozenset({"few_shot_file", "against"}),
    shows=partial(few_shot.digests, "label"),
)
