"""Read a run's votes back for other constitutions: those whose very question would be asked again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from constitute.config import LabelConfig, RunConfig
from constitute.editing.changes import Changes
from constitute.errors import UsageError
from constitute.stages.label import comparison_turn, first_share, voters
from constitute.store import Store
from constitute.types import Choice, Comparison, Constitution, LabelledPair, Principle, PrincipleVote

# A vote is told by its pair and the wording that was put to the model, or why there is no vote.
Votes = dict[tuple[str, str], PrincipleVote | str]


@dataclass(frozen=True)
class Stored:
    """What a run holds: pairs, the votes that answer a wording of now, and how its other rows ended."""

    pairs: tuple[Comparison, ...]
    votes: Votes
    abstained: int
    failed: int
    model: dict[str, Any] | None


def wordings(row_id: str, sides: tuple[Constitution, Constitution], cfg: LabelConfig) -> dict[str, Principle]:
    """The wordings that vote on a pair under either constitution, and a principle of each."""
    return {p.compare: p for side in reversed(sides) for p, _ in voters(row_id, cfg, side)}


def read_stored(
    config: RunConfig,
    sides: tuple[Constitution, Constitution],
    given: Sequence[Comparison] | None,
    changes: Changes,
) -> Stored:
    """The pairs and what the run knows of them; a run that does not exist yet knows nothing."""
    if given is not None and not (config.run / "run.sqlite").is_file():
        return Stored(tuple(given), {}, 0, 0, None)
    with Store.open(config.run, readonly=True) as store:
        labelled = [LabelledPair.model_validate(row.data) for row in store.outcomes("label", "ok")]
        counts = store.counts("label")
        settings = store.meta("stage:label") or {}
        if given is None and not labelled:
            raise UsageError(
                f"{config.run} has no labelled pairs to compare on; run `constitute label` first, "
                "or give --pairs FILE"
            )
        pairs = [row.comparison for row in labelled] if given is None else list(given)
        pairs = list(islice(pairs, config.limit))
        wanted = {pair.id for pair in pairs}
        index = _answers(store)
        ids = {old: new for pair in changes.renamed.items() for old, new in (pair, pair[::-1])}
        votes: Votes = {}
        for row in labelled:
            if row.id in wanted:
                votes |= _votes_of(row, wordings(row.id, sides, config.label), index, ids, config.label)
    own = given is None
    return Stored(
        pairs=tuple(pairs),
        votes=votes,
        abstained=counts["abstain"] if own else 0,
        failed=counts["failed"] if own else 0,
        model=settings.get("model"),
    )


Index = set[tuple[str, str, bytes, float]]


def _answers(store: Store) -> Index:
    """(principle id, order, digest of the question, P(A)) of every answered comparison."""
    found: Index = set()
    for outcome in store.outcomes("label"):
        for stage, request, answer in store.answers_of(outcome.row_id):
            choice = answer.get("logprobs") or [None]
            if stage == "label" and request["step"] in ("compare-ab", "compare-ba") and None not in choice:
                text = request["messages"][-1]["content"]
                share = first_share(Choice.model_validate(answer))
                p_a = share if request["step"] == "compare-ab" else 1.0 - share
                found.add((request["principle_id"], request["step"], _digest(text), p_a))
    return found


def _votes_of(
    row: LabelledPair,
    asked: dict[str, Principle],
    index: Index,
    ids: dict[str, str],
    cfg: LabelConfig,
) -> Votes:
    """The row's votes that answer a question of now: the same text and the very number that came back.

    An id alone says too little: the file may have changed since, or a template, or the layout.
    """
    found: Votes = {}
    given = {vote.principle_id: vote for vote in row.label.votes}
    for wording, principle in asked.items():
        voted = given.get(principle.id) or given.get(ids.get(principle.id, ""))
        if voted is None or min(voted.mass_ab, voted.mass_ba) < max(cfg.min_mass, 1e-30):
            continue
        ab, ba = (
            _digest(comparison_turn(pair, principle, cfg.layout)[-1].content)
            for pair in (row.comparison, row.comparison.swap())
        )
        name = voted.principle_id
        if {(name, "compare-ab", ab, voted.p_ab), (name, "compare-ba", ba, voted.p_ba)} <= index:
            found[row.id, wording] = voted
    return found


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]
