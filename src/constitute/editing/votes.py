"""Votes on given pairs under any constitution: those a run holds already, and those asked for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from constitute.config import LabelConfig, RunConfig
from constitute.engines.base import Engine
from constitute.errors import Abstain, UsageError
from constitute.pipeline.labelling import label_pairs
from constitute.pipeline.stage_run import StageRun
from constitute.progress import Progress, Silent
from constitute.stages.few_shot import examples_hash, shows_own
from constitute.stages.labels import label_method
from constitute.stages.labels.adaptive import voters
from constitute.stages.labels.choice import comparison_turn
from constitute.stages.labels.read import of_choice
from constitute.store import Store
from constitute.store.unfinished import warn_unfinished
from constitute.types import (
    Choice,
    Comparison,
    Constitution,
    LabelledPair,
    Message,
    Outcome,
    Principle,
    PrincipleVote,
)

# (pair id, wording put to the model) -> the vote, or why there is none.
ByWording = dict[tuple[str, str], PrincipleVote | str]


@dataclass(frozen=True)
class Votes:
    """Pairs as a constitution labels them, in the order given; `without` says how the others ended.

    `asked` and `reused` count questions: those put to the model, and those the store could answer.
    """

    labelled: tuple[LabelledPair, ...]
    without: tuple[Outcome, ...]
    asked: int
    reused: int


@dataclass(frozen=True)
class Stored:
    """What a run holds: pairs, the votes that answer a question of now, and how its other rows ended."""

    pairs: tuple[Comparison, ...]
    votes: ByWording
    abstained: int
    failed: int
    model: dict[str, Any] | None


async def vote(
    pairs: Sequence[Comparison],
    constitution: Constitution,
    engine: Engine,
    store: Store,
    cfg: LabelConfig,
    *,
    seed: int = 0,
    in_flight: int = 256,
    progress: Progress | None = None,
) -> Votes:
    """Label `pairs` as the stage `label` does; answers are kept in `store`, outcomes are not written.

    The store's rows stay those of its own constitution, so a run can be asked "what if" without being
    changed. Raises `EngineError`, `StorageError`; a pair that cannot be labelled is in `without`.
    """
    progress = progress or Silent()
    run = StageRun("label", engine, store, seed, progress)
    width = in_flight // (2 * len(voters("", cfg, constitution)))
    rows = await label_pairs(run, pairs, cfg, lambda pair: constitution, width)
    return Votes(
        labelled=tuple(row for row in rows if isinstance(row, LabelledPair)),
        without=tuple(row for row in rows if isinstance(row, Outcome)),
        asked=run.asked,
        reused=run.reused,
    )


def wordings(row_id: str, sides: tuple[Constitution, Constitution], cfg: LabelConfig) -> dict[str, Principle]:
    """The wordings that vote on a pair under either constitution, and a principle of each."""
    return {wording_of(p, cfg): p for side in reversed(sides) for p, _ in voters(row_id, cfg, side)}


def wording_of(principle: Principle, cfg: LabelConfig) -> str:
    """The form of the principle that `label.method` puts to the model, with examples that it shows."""
    form = str(getattr(principle, label_method(cfg.method).form))
    return f"{form}\n{examples_hash(principle)}" if shows_own(cfg) else form


def read_stored(
    config: RunConfig,
    sides: tuple[Constitution, Constitution],
    given: Sequence[Comparison] | None,
    renamed: Mapping[str, str],
    progress: Progress | None = None,
) -> Stored:
    """The pairs, `given` or the run's own, and what the run holds about them.

    `renamed` maps ids of principles to other ids of the same wording. A run that does not exist yet holds
    nothing. `progress` is told where the run's labelling stopped early.
    Raises `UsageError` where there are no pairs.
    """
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
        if given is None:
            warn_unfinished(store, "label", progress or Silent())
        pairs = [row.comparison for row in labelled] if given is None else list(given)
        pairs = list(islice(pairs, config.limit))
        wanted = {pair.id for pair in pairs}
        answers = _answers(store)
        ids = {old: new for pair in renamed.items() for old, new in (pair, pair[::-1])}
        votes: ByWording = {}
        for row in labelled:
            if row.id in wanted:
                votes |= _still_valid(row, wordings(row.id, sides, config.label), answers, ids, config.label)
    own = given is None
    return Stored(
        pairs=tuple(pairs),
        votes=votes,
        abstained=counts["abstain"] if own else 0,
        failed=counts["failed"] if own else 0,
        model=settings.get("model"),
    )


def other_model(stored: Mapping[str, Any] | None, engine: Engine, run: object) -> str:
    """In what the model that labelled `run` differs from `engine`, as a sentence; "" where in nothing."""
    now = engine.identity.model_dump(mode="json")
    if stored is None or stored == now:
        return ""
    if stored.get("name") != now["name"]:
        return f"{run} was labelled by {stored.get('name')}, not by {now['name']}"
    what = ", ".join(
        f"{key.replace('_', ' ')} {stored.get(key) or 'unknown'} instead of {value or 'unknown'}"
        for key, value in now.items()
        if stored.get(key) != value
    )
    return f"{run} was labelled by {now['name']} too, but with {what}"


# (principle id, order, digest of the question, P(A)) of an answered comparison.
Answered = set[tuple[str, str, bytes, float]]


def _answers(store: Store) -> Answered:
    found: Answered = set()
    for outcome in store.outcomes("label"):
        for stage, request, answer in store.answers_of(outcome.row_id):
            # An answer of before, to the letters alone, is not one to the letters however they are spelled.
            if stage != "label" or request["step"] not in ("compare-ab", "compare-ba"):
                continue
            if not request.get("spelled"):
                continue
            try:
                share = of_choice(Choice.model_validate(answer), "").shares[0]
            except Abstain:
                continue
            p_a = share if request["step"] == "compare-ab" else 1.0 - share
            messages = tuple(Message.model_validate(message) for message in request["messages"])
            found.add((request["principle_id"], request["step"], _digest(messages), p_a))
    return found


def _still_valid(
    row: LabelledPair,
    wanted: Mapping[str, Principle],
    answers: Answered,
    ids: Mapping[str, str],
    cfg: LabelConfig,
) -> ByWording:
    """The row's votes that answer a question of now: the same text and the very number that came back.

    An id alone says too little: the file may have changed since, or a template, or the layout. Votes of other
    methods than `choice`, and sampled ones, are asked for again: their answers are in the store.
    """
    found: ByWording = {}
    if cfg.method != "choice" or cfg.votes != "logprobs":
        return found
    given = {vote.principle_id: vote for vote in row.label.votes}
    for wording, principle in wanted.items():
        voted = given.get(principle.id) or given.get(ids.get(principle.id, ""))
        if voted is None or voted.mass_ab is None or voted.mass_ba is None:
            continue
        if min(voted.mass_ab, voted.mass_ba) < max(cfg.min_mass, 1e-30):
            continue
        ab, ba = (
            _digest(comparison_turn(pair, principle, cfg)) for pair in (row.comparison, row.comparison.swap())
        )
        name = voted.principle_id
        if {(name, "compare-ab", ab, voted.p_ab), (name, "compare-ba", ba, voted.p_ba)} <= answers:
            found[row.id, wording] = voted
    return found


def _digest(messages: Sequence[Message]) -> bytes:
    text = json.dumps([[message.role, message.content] for message in messages])
    return hashlib.sha256(text.encode()).digest()[:16]
