"""Which answers to a prompt are compared; the registry that `label.pairs` chooses from.

A pair's id, its answers and so its label follow from these answers alone, whichever other pairs there are;
`best_worst` alone looks at all samples of a prompt, to choose two of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from constitute.config import RunConfig
from constitute.registry import registered
from constitute.types import Comparison, Prompt, Record, Response


class Candidates(Record):
    """Answers to one prompt, of which `label.rank` chooses the best and the worst as the pair of that id."""

    id: str
    prompt: Prompt
    responses: tuple[Response, ...]


# The row of another run that answers the same slot of the same prompt, and the names of both models.
Other = tuple[Response, str, str]
Groups = Callable[[int], list[tuple[int, ...]]]
Lookup = Callable[[Response], Other | None]


def alone(n: int) -> list[tuple[int, ...]]:
    """Each sample by itself."""
    return [(at,) for at in range(n)]


def _one(config: RunConfig) -> int:
    return 1


@dataclass(frozen=True)
class PairSource:
    """Where pairs of a prompt come from.

    `stands`: its samples as they were `before` the first revision, or `after` all stages of responses.
    `groups`: of n samples, the places of those that make rows together; with `partial`, those of a group that
    ended well are enough. `rows`: the rows that a group makes; the second argument finds the answer of
    another run, where `label.against` names one. `each`: how many rows a group makes. `stage`: the stage that
    must come first. `ranks`: its rows are `Candidates`, of which the pair stage makes a pair first.
    """

    stands: Literal["before", "after"]
    rows: Callable[[Sequence[Response], Lookup], Sequence[Comparison | Candidates]]
    groups: Groups = alone
    partial: bool = False
    each: Callable[[RunConfig], int] = _one
    against: bool = False
    ranks: bool = False
    stage: str = ""


def pairs_of(n: int) -> list[tuple[int, ...]]:
    """Which of a prompt's n samples are compared: 0 with 1, 2 with 3; an odd last one is left out."""
    return [(at, at + 1) for at in range(0, n - 1, 2)]


def every_two(n: int) -> list[tuple[int, ...]]:
    """Every two of n samples: n (n - 1) / 2 pairs."""
    return list(combinations(range(n), 2))


def together_of(n: int) -> list[tuple[int, ...]]:
    """All n samples as one group, where there are two."""
    return [tuple(range(n))] if n > 1 else []


def pair_of_samples(first: Response, second: Response) -> Comparison:
    """Two responses to one prompt as a comparison."""
    made = first.contrast
    if made is None or second.contrast != made.model_copy(update={"follows": not made.follows}):
        made = None
    return Comparison(
        id=f"{first.id}-{second.sample}",
        prompt=first.prompt,
        a=first.response,
        b=second.response,
        a_source=_named(first),
        b_source=_named(second),
        contrast=made,
    )


def _named(row: Response) -> str:
    return f"response {row.sample}" + (f", {row.contrast.said}" if row.contrast else "")


def pair_of_revision(row: Response) -> Comparison:
    """The first response (A) against the last revision (B)."""
    return _pair_of_steps(row, 0, len(row.steps))


def pairs_of_revisions(row: Response) -> list[Comparison]:
    """Every two of the response and its revisions, the earlier one as A: of k revisions k (k + 1) / 2."""
    return [_pair_of_steps(row, *two) for two in combinations(range(len(row.steps) + 1), 2)]


def _pair_of_steps(row: Response, first: int, second: int) -> Comparison:
    """Two stages of one answer; 0 is the response. Response against last revision has one id everywhere."""
    texts = [row.response, *(step.revision for step in row.steps)]
    names = ["response", *(f"revision {at}" for at in range(1, len(texts)))]
    whole = (first, second) == (0, len(row.steps))
    return Comparison(
        id=f"{row.id}-rev" if whole else f"{row.id}-rev{first}-{second}",
        prompt=row.prompt,
        a=texts[first],
        b=texts[second],
        a_source=names[first],
        b_source=names[second],
    )


def candidates_of(rows: Sequence[Response]) -> list[Candidates]:
    """All samples of a prompt that ended well, where there are two."""
    if len(rows) < 2:
        return []
    name = f"{rows[0].prompt.id}/best-worst"
    return [Candidates(id=name, prompt=rows[0].prompt, responses=tuple(rows))]


def pairs_of_runs(row: Response, other: Other | None) -> list[Comparison]:
    """This run's answer (A) against the other run's (B), where it has one; each side names its model."""
    if other is None:
        return []
    found, own, theirs = other
    return [
        Comparison(
            id=f"{row.id}-against",
            prompt=row.prompt,
            a=row.response,
            b=found.response,
            a_source=f"response {row.sample} by {own}",
            b_source=f"response {found.sample} by {theirs}, label.against",
            a_model=own,
            b_model=theirs,
        )
    ]


SAMPLES = PairSource("before", lambda rows, _: [pair_of_samples(*rows)], pairs_of)
REVISION = PairSource("after", lambda rows, _: [pair_of_revision(*rows)])
BEST_WORST = PairSource("before", lambda rows, _: candidates_of(rows), together_of, partial=True, ranks=True)

# Name -> where its pairs come from; several sources add up.
PAIRS: dict[str, tuple[PairSource, ...] | str] = {
    "samples": (SAMPLES,),
    "revision": (REVISION,),
    "both": (SAMPLES, REVISION),
    "all": (PairSource("before", lambda rows, _: [pair_of_samples(*rows)], every_two),),
    "best_worst": (BEST_WORST,),
    "revisions": (
        PairSource(
            "after",
            lambda rows, _: pairs_of_revisions(*rows),
            each=lambda config: config.revise.rounds * (config.revise.rounds + 1) // 2,
        ),
    ),
    "contrast": (replace(SAMPLES, stage="contrast"),),
    "models": (PairSource("before", lambda rows, find: pairs_of_runs(rows[0], find(rows[0])), against=True),),
}


def pair_sources(name: str) -> tuple[PairSource, ...]:
    """The sources under that name; raises `UsageError` naming the nearest one that exists."""
    found: tuple[PairSource, ...] = registered(PAIRS, name, "label.pairs")
    return found
