"""Which principles a policy moved on: its answers before and after training, compared under each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from constitute.blocking import block
from constitute.config import RunConfig
from constitute.data.prompts import content_id
from constitute.editing.recover.answers import matched, read_answers, sample
from constitute.editing.recover.ask import Asking, ByPrinciple, require_votes, voting
from constitute.editing.recover.cases import LEAST, clustered_mean, clustered_share, sides_by_prompt
from constitute.editing.recover.figures import LEVEL, right
from constitute.engines import named_model, use_engine
from constitute.engines.base import Engine
from constitute.errors import UsageError
from constitute.pipeline.session import dated, open_store
from constitute.progress import Progress, Silent
from constitute.stats import Estimate, holm, mcnemar_exact
from constitute.store import Store
from constitute.types import Comparison, Constitution, Prompt, Record


class Moved(Record):
    """One principle: how far it prefers what the policy says after training.

    `preferred` is the mean P(after is preferred), its interval drawn by prompts, and `wins` how often it is
    above 1/2. `p`: sign test, a prompt a throw, after Holm over the principles. `direction` is clear where
    the test and the interval agree: many votes a little one way may be outweighed by a few strong ones.
    """

    principle_id: str
    preferred: Estimate
    wins: Estimate
    p: float
    direction: Literal["towards", "away", "unclear"]
    missing: int


class Movement(Record):
    """Principles by how far they prefer what is said after, and how much longer that is (words).

    `pairs` were compared, of `prompts` prompts. `equal` answers are left out, `unmatched` ones had no answer
    of the other side to the same conversation.
    """

    pairs: int
    prompts: int
    equal: int
    unmatched: int
    words_before: Estimate
    words_after: Estimate
    longer_by: Estimate
    moved: tuple[Moved, ...]


@dataclass(frozen=True)
class MovedDone:
    """The figures and what they took."""

    figures: Movement
    model: str
    asked: int
    reused: int
    seconds: float
    reasons: dict[str, int] = field(default_factory=dict)


def movement(
    config: RunConfig,
    constitution: Constitution,
    sides: tuple[str, str],
    n: int,
    *,
    prompts: Sequence[Prompt] | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> MovedDone:
    """Compare up to `n` pairs of answers of two policies under each principle; blocks until done.

    `sides`, before and after, are each as `read_answers` takes them; with `prompts` two models that
    answer these with the same seeds. The judge is `config.judge` or `config.model`, or `engine` where given.
    Raises `UsageError` for fewer than LEAST pairs, `EngineError`, `StorageError`.
    """
    progress = progress or Silent()
    if not voting(constitution):
        raise UsageError(f"every principle of {constitution.name} has weight 0; give one a weight above 0")
    if engine is None:
        named_model(config.judge or config.model)
    with open_store(config, progress) as store:
        if prompts is None:
            told = [read_answers(each, progress) for each in sides]
        else:
            told = [block(sample(model, prompts, config, store, progress)) for model in sides]
        pairs, equal, unmatched = matched(*told)
        if len(pairs) < LEAST:
            raise UsageError(
                f"{sides[0]} and {sides[1]} hold {len(pairs)} pairs of different answers to the same prompts "
                f"({equal} equal, {unmatched} without the other side); {LEAST} are needed"
            )
        return block(_movement(config, constitution, pairs[:n], (equal, unmatched), store, engine, progress))


async def _movement(
    config: RunConfig,
    constitution: Constitution,
    pairs: Sequence[Comparison],
    left_out: tuple[int, int],
    store: Store,
    given: Engine | None,
    progress: Progress,
) -> MovedDone:
    principles = voting(constitution)
    async with use_engine(config.judge or config.model, dated(config).engine, progress, given) as engine:
        asking = Asking(config, engine, store, progress)
        asking.check()
        votes = await asking.votes(pairs, principles)
        require_votes(votes, asking.reasons)
        name = engine.identity.name
    return MovedDone(
        figures_of(pairs, votes, [p.id for p in principles], left_out),
        name,
        asking.asked,
        asking.reused,
        round(asking.seconds, 3),
        dict(asking.reasons.most_common()),
    )


def figures_of(
    pairs: Sequence[Comparison], votes: ByPrinciple, names: Sequence[str], left_out: tuple[int, int] = (0, 0)
) -> Movement:
    """The figures from P(A) by pair and principle, where A is said before and B after."""
    prompts = [content_id(pair.prompt.messages) for pair in pairs]
    cast = {
        name: [
            (1.0 - p_a, prompt)
            for pair, prompt in zip(pairs, prompts, strict=True)
            if (p_a := votes[pair.id, name]) is not None
        ]
        for name in names
    }
    sides = [sides_by_prompt([p - 0.5 for p, _ in cast[name]], [x for _, x in cast[name]]) for name in names]
    adjusted = holm([mcnemar_exact(*each) for each in sides])
    rows = [
        _moved(name, cast[name], (wins - losses, p), len(pairs))
        for name, (wins, losses), p in zip(names, sides, adjusted, strict=True)
    ]
    words = [
        [float(len(text.split())) for text in texts]
        for texts in ([pair.a for pair in pairs], [pair.b for pair in pairs])
    ]
    change = [after - before for before, after in zip(*words, strict=True)]
    measured = (clustered_mean(values, prompts, f"words {at}") for at, values in enumerate((*words, change)))
    before, after, longer_by = measured
    return Movement(
        pairs=len(pairs),
        prompts=len(set(prompts)),
        equal=left_out[0],
        unmatched=left_out[1],
        words_before=before,
        words_after=after,
        longer_by=longer_by,
        moved=tuple(sorted(rows, key=lambda row: -(row.preferred.value or 0.0))),
    )


def _moved(name: str, cast: Sequence[tuple[float, str]], test: tuple[int, float], pairs: int) -> Moved:
    net, p = test
    values, prompts = [p_after for p_after, _ in cast], [prompt for _, prompt in cast]
    preferred = clustered_mean(values, prompts, f"moved {name}")
    direction: Literal["towards", "away", "unclear"] = "unclear"
    if p < LEVEL and net > 0 and (preferred.low or 0.0) > 0.5:
        direction = "towards"
    elif p < LEVEL and net < 0 and preferred.high is not None and preferred.high < 0.5:
        direction = "away"
    return Moved(
        principle_id=name,
        preferred=preferred,
        wins=clustered_share([right(value) for value in values], prompts),
        p=p,
        direction=direction,
        missing=pairs - len(cast),
    )
